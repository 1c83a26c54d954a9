//! Images made by Debian's tools: umoci, skopeo, debootstrap.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{run, start};
use crate::place::Place;

/// Where things that are slow to make are kept between runs: `$CARRACK_CACHE`, else the temporary directory.
fn cache() -> PathBuf {
    let path = env::var_os("CARRACK_CACHE").map_or_else(|| env::temp_dir().join("carrack-test-cache"), PathBuf::from);
    fs::create_dir_all(&path).expect("the cache is writable");
    path
}

/// Makes an image of the directory `tree` with umoci, in a new OCI layout at `layout` under the tag `latest`.
pub fn umoci_image(place: &Place, tree: &Path, layout: &Path, command: &[&str]) {
    let image = format!("{}:latest", layout.display());
    let umoci = |arguments: &[&str]| {
        run(Command::new("umoci").args(arguments)).ok();
    };
    umoci(&["init", "--layout", &layout.to_string_lossy()]);
    umoci(&["new", "--image", &image]);
    let bundle = place.join("umoci-bundle");
    umoci(&["unpack", "--image", &image, &bundle.to_string_lossy()]);
    run(Command::new("cp").arg("--archive").arg("--no-target-directory").arg(tree).arg(bundle.join("rootfs"))).ok();
    umoci(&["repack", "--image", &image, &bundle.to_string_lossy()]);
    fs::remove_dir_all(&bundle).expect("nothing is mounted there");
    let mut config = vec!["config", "--image", &image];
    for word in command {
        config.extend(["--config.cmd", word]);
    }
    umoci(&config);
}

/// Unpacks an image of a layout with umoci, and returns the root filesystem: what ours is compared with.
pub fn umoci_unpack(layout: &Path, tag: &str, bundle: &Path) -> PathBuf {
    run(Command::new("umoci").args(["unpack", "--image", &format!("{}:{tag}", layout.display())]).arg(bundle)).ok();
    bundle.join("rootfs")
}

/// An OCI layout with a whole Debian under the tag `latest`, from debootstrap and the machine's own mirror; kept between runs.
///
/// Returns `None`, with the reason, where no mirror answers.
pub fn debian_layout() -> Result<PathBuf, String> {
    let layout = cache().join("debian-layout");
    if layout.join("index.json").exists() {
        return Ok(layout);
    }
    let place = Place::new("debootstrap");
    let tree = place.join("tree");
    let mut command = Command::new("debootstrap");
    // The packages bring what a bare system lacks: tens of thousands of files, hard links, setuid programs, long names.
    command
        .args(["--variant=minbase", "--include=perl,python3,locales,tzdata,git,iputils-ping", "bookworm"])
        .arg(&tree)
        .arg(mirror());
    let made = start(&mut command).finish(std::time::Duration::from_secs(900));
    if made.code != 0 {
        return Err(format!("debootstrap failed: {}", made.stdout.lines().last().unwrap_or_default()));
    }
    // The devices' times are those of this minute; everything else is a plain tree.
    let new = cache().join(format!("debian-layout-{}", std::process::id()));
    umoci_image(&place, &tree, &new, &["/bin/bash"]);
    // Another test may have been faster.
    if fs::rename(&new, &layout).is_err() {
        fs::remove_dir_all(&new).expect("it is ours");
    }
    Ok(layout)
}

/// The Debian mirror that this machine's apt uses, in either form of its sources.
pub fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()));
    let texts: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let found = texts.iter().flat_map(|text| text.lines()).find_map(mirror_of);
    found.unwrap_or_else(|| "http://deb.debian.org/debian".into())
}

/// The mirror named by one line, if it is that of Debian's main archive.
fn mirror_of(line: &str) -> Option<String> {
    let line = line.trim();
    let words = if let Some(uris) = line.strip_prefix("URIs:") { uris } else { line.strip_prefix("deb ")? };
    let url = words.split_whitespace().find(|word| word.starts_with("http://") || word.starts_with("https://"))?;
    url.trim_end_matches('/').ends_with("/debian").then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_forms_of_apts_sources() {
        let mirror = Some("http://mirror.example/debian".to_owned());
        assert_eq!(mirror_of("deb [signed-by=/k] http://mirror.example/debian bookworm main"), mirror);
        assert_eq!(mirror_of("URIs: http://mirror.example/debian"), mirror);
        assert_eq!(mirror_of("URIs: http://mirror.example/debian-security"), None);
        assert_eq!(mirror_of("# deb http://mirror.example/debian bookworm main"), None);
    }
}

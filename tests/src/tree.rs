//! Compares two directory trees file by file: type, mode, owner, times, device, extended attributes, content, hard links.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use carrack_sys::rustix::fs::{lgetxattr, llistxattr};

/// What one file is, as far as trees can differ in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    modified: (i64, i64),
    xattrs: BTreeMap<String, Vec<u8>>,
    link: Option<PathBuf>,
    size: u64,
    /// The first path (in order) of this tree that is the same file.
    same_as: PathBuf,
}

/// What is not compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Except<'a> {
    /// Paths that are left out with all below them.
    pub paths: &'a [&'a str],
    /// Paths whose time of change may differ.
    pub times: &'a [&'a str],
}

/// Every difference of `ours` from `theirs`, one line each; at most a hundred.
pub fn compare(ours: &Path, theirs: &Path, except: &Except<'_>) -> Vec<String> {
    let (mine, other) = (gather(ours, except), gather(theirs, except));
    let mut differences = vec![];
    for (path, facts) in &mine {
        match other.get(path) {
            None => differences.push(format!("{}: only in ours", path.display())),
            Some(expected) if facts != expected => {
                differences.push(format!("{}:\n  ours   {facts:?}\n  theirs {expected:?}", path.display()));
            }
            Some(_) => {
                let is_file = facts.mode & 0o170_000 == 0o100_000;
                if is_file && !has_same_content(&ours.join(path), &theirs.join(path)) {
                    differences.push(format!("{}: contents differ", path.display()));
                }
            }
        }
        if differences.len() >= 100 {
            return differences;
        }
    }
    differences.extend(
        other.keys().filter(|path| !mine.contains_key(*path)).map(|path| format!("{}: only in theirs", path.display())),
    );
    differences.truncate(100);
    differences
}

/// How many files, directories and links are below `root`.
pub fn count(root: &Path) -> usize {
    gather(root, &Except::default()).len()
}

fn gather(root: &Path, except: &Except<'_>) -> BTreeMap<PathBuf, Facts> {
    let mut paths = vec![];
    walk(root, Path::new(""), except, &mut paths);
    paths.sort();
    let mut first: HashMap<u64, PathBuf> = HashMap::new();
    paths
        .into_iter()
        .map(|path| {
            let mut facts = facts(root, path.clone(), &mut first);
            if except.times.iter().any(|one| path == Path::new(one)) {
                facts.modified = (0, 0);
            }
            (path, facts)
        })
        .collect()
}

fn walk(root: &Path, below: &Path, except: &Except<'_>, found: &mut Vec<PathBuf>) {
    let directory = root.join(below);
    for entry in fs::read_dir(&directory).unwrap_or_else(|error| panic!("list {}: {error}", directory.display())) {
        let entry = entry.expect("a directory that was opened can be read");
        let path = below.join(entry.file_name());
        if except.paths.iter().any(|one| path == Path::new(one)) {
            continue;
        }
        found.push(path.clone());
        if entry.file_type().expect("an entry has a type").is_dir() {
            walk(root, &path, except, found);
        }
    }
}

fn facts(root: &Path, path: PathBuf, first: &mut HashMap<u64, PathBuf>) -> Facts {
    let full = root.join(&path);
    let metadata = fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("stat {}: {error}", full.display()));
    let is_directory = metadata.is_dir();
    Facts {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        device: metadata.rdev(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        xattrs: xattrs(&full),
        link: fs::read_link(&full).ok(),
        // The size of a directory is the filesystem's business.
        size: if is_directory { 0 } else { metadata.size() },
        same_as: if is_directory { path } else { first.entry(metadata.ino()).or_insert(path).clone() },
    }
}

/// All but what overlayfs and the tools keep for themselves.
fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 65536];
    let length = llistxattr(path, &mut names).unwrap_or(0);
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !name.starts_with("trusted.overlay.") && !name.starts_with("user.rootlesscontainers"))
        .map(|name| {
            let mut value = vec![0_u8; 65536];
            let length = lgetxattr(path, name.as_str(), &mut value).unwrap_or(0);
            value.truncate(length);
            (name, value)
        })
        .collect()
}

fn has_same_content(ours: &Path, theirs: &Path) -> bool {
    let mut files =
        [ours, theirs].map(|path| File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display())));
    let mut buffers = [vec![0_u8; 65536], vec![0_u8; 65536]];
    loop {
        let lengths = [0, 1].map(|side| fill(&mut files[side], &mut buffers[side]));
        if buffers[0][..lengths[0]] != buffers[1][..lengths[1]] {
            return false;
        }
        if lengths[0] == 0 {
            return true;
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).expect("an open file can be read") {
            0 => break,
            count => filled += count,
        }
    }
    filled
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_kind_of_difference_is_seen() {
        let place = Place::new("tree");
        for side in ["a", "b"] {
            let root = place.directory(side);
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/same"), "same").unwrap();
            fs::write(root.join("content"), side).unwrap();
            fs::write(root.join("mode"), "").unwrap();
            fs::write(root.join("linked"), "").unwrap();
        }
        fs::set_permissions(place.join("a/mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(place.join("a/linked"), place.join("a/other")).unwrap();
        fs::write(place.join("b/other"), "").unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH;
        for side in ["a", "b"] {
            for name in ["d/same", "content", "mode", "linked", "other", "d"] {
                File::open(place.join(side).join(name)).unwrap().set_modified(time).unwrap();
            }
        }
        let found = compare(&place.join("a"), &place.join("b"), &Except::default());
        let about: Vec<&str> = found.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(about, ["content", "mode", "other"], "{found:#?}");
    }
}

//! The home directory of the container's user, from the container's own `/etc/passwd`.
//!
//! That file is the image's word: it is resolved inside the root, must be an ordinary file, is read up to a bound, and what it
//! says is used as text only.

use std::fs::File;
use std::io::Read;

use carrack_rooted::Root;
use carrack_sys::rustix::fs::{FileType, OFlags, fstat};

/// More than any real file of this kind has; what is beyond is not read (CVE-2026-47262 was a file without bound).
const MAX_BYTES: u64 = 1 << 20;

/// The home of a user, or `/` if nobody says.
pub fn home_of(root: &Root, uid: u32) -> String {
    read_passwd(root).and_then(|text| find_home(&text, uid)).unwrap_or_else(|| "/".to_owned())
}

fn read_passwd(root: &Root) -> Option<String> {
    // Looked at before it is opened: a device node there would call its driver.
    let place = root.resolve("/etc/passwd").ok()?;
    if FileType::from_raw_mode(fstat(&place).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    // Without NONBLOCK a FIFO in that place would stop us for ever.
    let handle = root.open("/etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    if FileType::from_raw_mode(fstat(&handle).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(handle).take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds it in the text (passwd(5)). A home that is no absolute path, or has a control character in it, is none.
fn find_home(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        // name:password:uid:gid:gecos:home:shell
        let number: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (number == uid && home.starts_with('/') && !home.contains(|c: char| c.is_control())).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TEXT: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\nbad\n1000:x:7:7::/not-this:\nu:x:1000:1000::/home/u:/bin/sh\nr:x:5:5::relative:\nc:x:6:6::/a\rb:\n";

    #[test]
    fn a_home_is_found_by_number_only() {
        for (uid, home) in
            [(0, Some("/root")), (1000, Some("/home/u")), (7, Some("/not-this")), (5, None), (6, None), (9, None)]
        {
            assert_eq!(find_home(TEXT, uid).as_deref(), home, "{uid}");
        }
    }

    #[test]
    fn a_fifo_a_link_outside_and_a_missing_file_give_the_root_directory() {
        let path = std::env::temp_dir().join(format!("carrack-passwd-{}", std::process::id()));
        std::fs::create_dir_all(path.join("etc")).unwrap();
        let root = Root::open_host(&path).unwrap();
        assert_eq!(home_of(&root, 0), "/");
        let status = std::process::Command::new("mkfifo").arg(path.join("etc/passwd")).status().unwrap();
        assert!(status.success());
        assert_eq!(home_of(&root, 0), "/");
        std::fs::remove_file(path.join("etc/passwd")).unwrap();
        // Inside, the link leads to itself and not to the host's file.
        std::os::unix::fs::symlink(Path::new("/etc/passwd"), path.join("etc/passwd")).unwrap();
        assert_eq!(home_of(&root, 0), "/");
        std::fs::remove_dir_all(path).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_an_absolute_path_or_nothing(text in "[a-z0-9:/\n]{0,200}", uid in 0..20_u32) {
            if let Some(home) = find_home(&text, uid) {
                proptest::prop_assert!(home.starts_with('/'));
            }
        }
    }
}

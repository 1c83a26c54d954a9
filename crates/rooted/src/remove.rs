//! Removes directories that somebody hostile has filled.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use carrack_sys::rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use carrack_sys::rustix::io::Errno;

/// Directories nested deeper than this are moved to the top and removed from there: a program can nest them deeper than we have handles or
/// stack for.
const MAX_DEPTH: usize = 48;

/// Removes a directory with all that is in it; links are removed, never followed. Success if it is gone already.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = 0;
    loop {
        let before = moved;
        empty(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn empty(top: BorrowedFd<'_>, directory: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno),
        }
        if depth == MAX_DEPTH {
            // A name that is taken makes us try the next one.
            loop {
                *moved += 1;
                match renameat(directory, name, top, format!(".deep-{moved}")) {
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    other => break other?,
                }
            }
            continue;
        }
        let child = openat(directory, name, flags, Mode::empty())?;
        empty(top, child.as_fd(), depth + 1, moved)?;
        drop(child);
        unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_sys::rustix::fs::mkdirat;

    #[test]
    fn nesting_deeper_than_handles_or_stack_allow_is_removed() {
        let path = std::env::temp_dir().join(format!("carrack-rooted-remove-{}", std::process::id()));
        fs::create_dir_all(path.join("other/.deep-1")).unwrap();
        fs::write(path.join("other/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", path.join("link")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, &path, flags, Mode::empty()).unwrap();
        for _ in 0..3000 {
            mkdirat(&at, "d", Mode::from(0o755)).unwrap();
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        remove_tree(&path).unwrap();
        assert!(!path.exists());
        assert!(Path::new("/etc").is_dir());
        remove_tree(&path).unwrap();
    }
}

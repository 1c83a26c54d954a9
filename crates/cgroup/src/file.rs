//! Reads and writes the kernel's files below the root of a hierarchy.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_sys::rustix::fs::{self, Mode, OFlags, ResolveFlags};
use carrack_sys::rustix::io::Errno;

/// Opens below a root and nowhere else: a cgroup filesystem has no links and no mounts in it, so none is followed.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // AGAIN: something was renamed meanwhile, and the kernel could not vouch for the path.
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// The whole of a file.
pub(crate) fn read(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    read_all(&open(root, path, OFlags::RDONLY)?)
}

/// The whole of an open file of the kernel. The standard library asks for the length first, which the kernel does not know, and then
/// reads in small bites.
pub(crate) fn read_all(file: &OwnedFd) -> io::Result<String> {
    let mut text = Vec::with_capacity(256);
    let mut chunk = [0; 4096];
    loop {
        match carrack_sys::rustix::io::read(file, &mut chunk) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// One value.
pub(crate) fn write(root: BorrowedFd<'_>, path: &str, value: &str) -> io::Result<()> {
    write_to(open(root, path, OFlags::WRONLY)?.as_fd(), value)
}

/// One value to an open file: each write(2) stands for itself to the kernel.
pub(crate) fn write_to(file: BorrowedFd<'_>, value: &str) -> io::Result<()> {
    loop {
        match carrack_sys::rustix::io::write(file, value.as_bytes()) {
            Ok(count) if count == value.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The number in a file; `max` is none.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind a word in lines of the form `word number`.
pub(crate) fn field(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        if name == word { parse_number(number) } else { None }
    })
}

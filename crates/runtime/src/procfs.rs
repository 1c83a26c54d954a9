//! The host's procfs, verified once and kept as a handle.
//!
//! Labels and kernel parameters are written through it, never through the container's `/proc`, which may be a volume or have
//! something mounted over its files (CVE-2019-16884, CVE-2025-52881). Which process `self` is and which namespace `sys/net` shows depends on
//! who asks, not on which instance of procfs is asked, so the handle is as good inside.

use std::io;
use std::os::fd::OwnedFd;

use carrack_sys::rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, open, openat, openat2};
use carrack_sys::rustix::io::{read, retry_on_intr, write};

const PROC_MAGIC: i64 = 0x9fa0;
/// What procfs tells of one process in one file is mostly less.
const USUAL_BYTES: usize = 4096;
/// A process can be in 65536 groups, each of up to ten digits and a blank in its `status`.
const MOST_BYTES: usize = 1 << 20;

/// The text of a small file of the host's procfs. Its size is not known before, so the standard library would read it in many small pieces.
pub fn read_text(path: &str) -> io::Result<String> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = vec![0; USUAL_BYTES];
    let mut length = 0;
    loop {
        if length == text.len() {
            if length == MOST_BYTES {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            text.resize(length * 2, 0);
        }
        match retry_on_intr(|| read(&file, &mut text[length..]))? {
            0 => break,
            count => length += count,
        }
    }
    text.truncate(length);
    // A name of a process may be any bytes.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A handle on procfs.
#[derive(Debug)]
pub struct Procfs {
    handle: OwnedFd,
}

impl Procfs {
    /// Opens `/proc` of this mount namespace, which must be the host's, and checks that it is one.
    pub fn open_host() -> io::Result<Self> {
        let handle = open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if fstatfs(&handle)?.f_type as i64 != PROC_MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "/proc is not a procfs"));
        }
        Ok(Self { handle })
    }

    /// Opens a file below it. No link that leads out, no magic link and nothing mounted over it is followed.
    pub fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        Ok(openat2(&self.handle, path, flags | OFlags::CLOEXEC, Mode::empty(), how)?)
    }

    /// The root directory of a process, in the mount namespace that it is in.
    pub fn open_root_of(&self, pid: i32) -> io::Result<OwnedFd> {
        // Here a magic link is what is wanted.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.handle, format!("{pid}/root"), flags, Mode::empty())?)
    }

    /// A namespace of a process, by the name of its file.
    pub fn open_namespace_of(&self, pid: i32, name: &str) -> io::Result<OwnedFd> {
        Ok(openat(&self.handle, format!("{pid}/ns/{name}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Writes a value in one piece.
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        let file = self.open(path, OFlags::WRONLY)?;
        match write(&file, value.as_bytes())? {
            count if count == value.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_sys::rustix::fs::Gid;
    use carrack_sys::rustix::io::read;
    use carrack_sys::rustix::thread::set_thread_groups;

    #[test]
    fn root_a_process_in_very_many_groups_is_read_to_the_end() {
        let groups: Vec<_> = (0..65536).map(|number| Gid::from_raw(4_000_000_000 + number)).collect();
        let text = std::thread::spawn(move || {
            set_thread_groups(&groups)?;
            read_text("/proc/thread-self/status")
        });
        match text.join().unwrap() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("SKIPPED: root_a_process_in_very_many_groups_is_read_to_the_end: {error}");
            }
            text => assert!(text.unwrap().contains("\nCapBnd:"), "what follows the groups is there"),
        }
    }

    #[test]
    fn a_file_is_read_and_magic_links_are_not_followed() {
        let procfs = Procfs::open_host().unwrap();
        let mut buffer = [0; 64];
        assert!(read(procfs.open("self/stat", OFlags::RDONLY).unwrap(), &mut buffer).unwrap() > 0);
        assert!(procfs.open("self/exe", OFlags::RDONLY).is_err());
        assert!(procfs.open("self/root/etc", OFlags::RDONLY).is_err());
        assert!(procfs.open("../etc", OFlags::RDONLY).is_err());
    }
}

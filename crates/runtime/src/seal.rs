//! A copy of our own program that nothing in a container can write to.
//!
//! A process that enters a container shows its program there as `/proc/PID/exe`; a container that makes us execute
//! `/proc/self/exe` gets a handle on it that outlives us, and may write once nothing executes it (CVE-2019-5736). So before anything enters a
//! container the program executes itself anew from a read-only overlay over the directory it lies in. That mount is attached
//! nowhere: it lives as long as a process runs from it, and every handle got from it is read-only whatever happens to the host's
//! mounts. Where overlayfs cannot be used, the copy is a sealed memory file.
//!
//! A read-only bind mount would be cheaper, but its file is the host's: a container could take a write lease on it (fcntl(2), `F_SETLEASE`), for
//! which the kernel makes everybody who executes it wait 45 seconds.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::entry;
use carrack_sys::exec::{Strings, execve_handle};
use carrack_sys::inherited;
use carrack_sys::rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, memfd_create, open,
    openat, readlink, sendfile, statfs, statvfs,
};
use carrack_sys::rustix::io::{Errno, FdFlags, fcntl_setfd};
use carrack_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use carrack_words::Kind;

const OWN_PROGRAM: &str = "/proc/self/exe";
const OVERLAY_MAGIC: i64 = 0x794c_7630;
/// An overlay without an upper layer wants two lower ones. The second adds nothing: every system has these directories, and one
/// that contains the program's directory is refused by the kernel, so there are several.
const SECOND_LAYERS: [&str; 3] = ["/sys", "/dev", "/run"];

/// The program could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Our own program cannot be found or opened.
    #[error("open own program {}", path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither overlay nor memory file could be made.
    #[error("copy own program into a sealed memory file, after an overlay failed ({overlay})")]
    Copy {
        /// Why the overlay failed.
        overlay: io::Error,
        /// Why the memory file failed.
        source: io::Error,
    },
    /// The sealed program does not start.
    #[error("execute the sealed copy of the own program")]
    Execute {
        /// Why.
        source: io::Error,
    },
}

impl SealError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// Proof that this process runs from a sealed program, and a handle to start it again.
#[derive(Debug)]
pub struct Sealed {
    program: OwnedFd,
    /// The handle that made the mount. Closing the last copy of it detaches the mount, for which the kernel waits until all
    /// processors have noticed: milliseconds on a busy machine. So it is handed on over the exec, and closed when whoever holds this has nothing better to do.
    mount: Option<OwnedFd>,
}

/// The variable by which the program that executes itself anew tells the number of that handle.
const MOUNT_VARIABLE: &str = "CARRACK_SEALED_MOUNT";

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Sealed {
    /// Returns when this process runs from a sealed program: at once if it does already, otherwise by executing itself anew with the
    /// same arguments and environment, so `main` starts again. To be called before anything is opened, locked or started.
    pub fn enter() -> Result<Self, SealError> {
        if is_sealed().map_err(|source| SealError::Open { path: OWN_PROGRAM.into(), source })? {
            return Self::open_own();
        }
        let sealed = seal()?;
        let strings =
            |texts: Vec<Vec<u8>>| Strings::new(texts.into_iter().filter_map(|text| CString::new(text).ok()).collect());
        use std::os::unix::ffi::OsStringExt;
        let arguments = strings(entry::arguments().into_iter().map(OsStringExt::into_vec).collect());
        let handed_on = sealed.hand_mount_on().map_err(|source| SealError::Execute { source: source.into() })?;
        let environment = strings(
            std::env::vars_os()
                .filter(|(name, _)| name != MOUNT_VARIABLE)
                .map(|(name, value)| [name.into_vec(), vec![b'='], value.into_vec()].concat())
                .chain(handed_on)
                .collect(),
        );
        Err(SealError::Execute { source: execve_handle(sealed.as_fd(), &arguments, &environment) })
    }

    /// Lets the handle of the mount survive an exec; the entry of the environment that tells its number.
    fn hand_mount_on(&self) -> Result<Option<Vec<u8>>, Errno> {
        let Some(mount) = &self.mount else { return Ok(None) };
        fcntl_setfd(mount, FdFlags::empty())?;
        Ok(Some(format!("{MOUNT_VARIABLE}={}", mount.as_raw_fd()).into_bytes()))
    }

    /// Takes what [`Self::hand_mount_on`] left. A variable that somebody else set names no such mount, and is nothing to us.
    fn take_mount() -> Option<OwnedFd> {
        let number = std::env::var(MOUNT_VARIABLE).ok()?.parse().ok()?;
        let is_ours = is_on_sealed_mount(&format!("/proc/self/fd/{number}")).is_ok_and(|is_sealed| is_sealed);
        if is_ours { inherited::take(number).ok()? } else { None }
    }

    fn open_own() -> Result<Self, SealError> {
        let program = open(OWN_PROGRAM, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| SealError::Open { path: OWN_PROGRAM.into(), source: error.into() })?;
        Ok(Self { program, mount: Self::take_mount() })
    }

    /// Closes the handle that made the mount, which lives on as long as a process runs from it. It may take milliseconds.
    pub fn close_mount(&mut self) {
        self.mount = None;
    }

    /// A sealed copy of the running program, which itself need not run from one: for a program that starts monitors or stages.
    pub fn of_own_program() -> Result<Self, SealError> {
        match is_sealed() {
            Ok(true) => Self::open_own(),
            Ok(false) => seal(),
            Err(source) => Err(SealError::Open { path: OWN_PROGRAM.into(), source }),
        }
    }

    /// A sealed copy of another program, by its path on the host.
    pub fn of_program(path: &Path) -> Result<Self, SealError> {
        seal_program(path)
    }
}

/// Whether this process runs from such an overlay or memory file.
fn is_sealed() -> io::Result<bool> {
    // The file of a detached mount has a path that starts at the mount's own root: one name. Anywhere else a program has a longer
    // path, or stands in the root directory of the host, which is then no read-only overlay.
    let target = readlink(OWN_PROGRAM, Vec::with_capacity(64))?.into_bytes();
    if target.starts_with(b"/memfd:") {
        let program = open(OWN_PROGRAM, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        return Ok(fcntl_get_seals(&program).is_ok_and(|seals| seals.contains(all_seals())));
    }
    if target.iter().filter(|&&byte| byte == b'/').count() != 1 {
        return Ok(false);
    }
    is_on_sealed_mount(OWN_PROGRAM)
}

fn is_on_sealed_mount(path: &str) -> io::Result<bool> {
    Ok(statfs(path)?.f_type as i64 == OVERLAY_MAGIC && statvfs(path)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn all_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

fn seal() -> Result<Sealed, SealError> {
    let path = readlink(OWN_PROGRAM, Vec::with_capacity(64))
        .map_err(|error| SealError::Open { path: OWN_PROGRAM.into(), source: error.into() })?;
    use std::os::unix::ffi::OsStringExt;
    seal_program(Path::new(&std::ffi::OsString::from_vec(path.into_bytes())))
}

fn seal_program(path: &Path) -> Result<Sealed, SealError> {
    seal_by_overlay(path)
        .or_else(|overlay| seal_by_copy(path).map_err(|source| SealError::Copy { overlay: overlay.into(), source }))
}

fn seal_by_overlay(path: &Path) -> Result<Sealed, Errno> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    // A path with a comma, colon or backslash would need escapes that differ between kernels; a handle's path has none.
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let directory = carrack_rooted::path_of(&directory).display().to_string();
    let mut last = Errno::INVAL;
    for second in SECOND_LAYERS {
        match overlay_of(&directory, second) {
            Ok(mount) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return Ok(Sealed { program: openat(&mount, name, flags, Mode::empty())?, mount: Some(mount) });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn overlay_of(first: &str, second: &str) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "carrack-sealed")?;
    fsconfig_set_string(context.as_fd(), "lowerdir", format!("{first}:{second}"))?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn seal_by_copy(path: &Path) -> io::Result<Sealed> {
    let source = File::from(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let length = source.metadata()?.len() as usize;
    let copy = memfd_create("carrack-oci", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut done = 0;
    while done < length {
        match sendfile(&copy, &source, None, length - done)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    fcntl_add_seals(&copy, all_seals())?;
    // Executable files must not be open for writing, and the handle above is: open it anew.
    let program = open(carrack_rooted::path_of(&copy), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Sealed { program, mount: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write_through(sealed: &Sealed) -> io::Result<()> {
        let path = carrack_rooted::path_of(sealed.as_fd());
        File::options().write(true).open(path)?.write_all(b"x")
    }

    #[test]
    fn root_the_overlay_and_the_memory_file_refuse_writes_and_show_the_same_bytes() {
        let own = std::env::current_exe().unwrap();
        for program in [seal_by_overlay(&own).map_err(io::Error::from), seal_by_copy(&own)] {
            let sealed = program.unwrap();
            let error = write_through(&sealed).unwrap_err();
            assert!(matches!(error.raw_os_error(), Some(30 | 1)), "{error}");
            let copy = std::fs::read(carrack_rooted::path_of(sealed.as_fd())).unwrap();
            assert!(copy == std::fs::read(&own).unwrap());
        }
    }

    #[test]
    fn a_program_in_an_ordinary_directory_is_not_sealed() {
        assert!(!is_sealed().unwrap());
    }
}

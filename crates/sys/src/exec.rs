//! Becoming or starting another program.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Strings in the form in which execve(2) takes arguments and the environment.
#[derive(Debug)]
pub struct Strings {
    // Pointed to by `pointers`.
    owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    /// Takes the strings over.
    pub fn new(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { owned, pointers }
    }

    /// The strings.
    pub fn as_slice(&self) -> &[CString] {
        &self.owned
    }
}

/// Replaces this program (execve(2)). Returns only if that failed.
pub fn execve(path: &CStr, arguments: &Strings, environment: &Strings) -> io::Error {
    // SAFETY: the path and both null-terminated lists of null-terminated strings are borrowed for the length of the call.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces this program by the file behind a handle (execveat(2)). Returns only if that failed.
pub fn execve_handle(program: BorrowedFd<'_>, arguments: &Strings, environment: &Strings) -> io::Error {
    // SAFETY: as for `execve`; the empty path is a static string and the handle is open for the length of the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Starts a program without copying this one's memory (posix_spawn(3), which the C library does by a vfork). `handles` says which
/// handles of ours become which numbers of the child, in order; close-on-exec is cleared on those. Signals are reset to their defaults, and none is blocked.
pub fn spawn(
    path: &CStr,
    arguments: &Strings,
    environment: &Strings,
    handles: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<i32> {
    let check = |code: libc::c_int| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
    // SAFETY: both objects are plain memory that their init functions fill before any other use and destroy after the last; the
    // strings are null-terminated and borrowed for the length of the calls; the signal sets are filled before use.
    unsafe {
        let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
        let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
        check(libc::posix_spawn_file_actions_init(&mut actions))?;
        check(libc::posix_spawnattr_init(&mut attributes))?;
        let mut signals: libc::sigset_t = std::mem::zeroed();
        let mut pid = 0;
        let outcome = (|| {
            for (source, number) in handles {
                check(libc::posix_spawn_file_actions_adddup2(&mut actions, source.as_raw_fd(), *number))?;
            }
            libc::sigemptyset(&mut signals);
            check(libc::posix_spawnattr_setsigmask(&mut attributes, &signals))?;
            libc::sigfillset(&mut signals);
            check(libc::posix_spawnattr_setsigdefault(&mut attributes, &signals))?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
            check(libc::posix_spawnattr_setflags(&mut attributes, flags as libc::c_short))?;
            check(libc::posix_spawn(
                &mut pid,
                path.as_ptr(),
                &actions,
                &attributes,
                arguments.pointers.as_ptr().cast(),
                environment.pointers.as_ptr().cast(),
            ))
        })();
        libc::posix_spawn_file_actions_destroy(&mut actions);
        libc::posix_spawnattr_destroy(&mut attributes);
        outcome.map(|()| pid)
    }
}

//! A thread's own umask and working directory (clone(2), `CLONE_FS`).

use std::io;

/// Gives the calling thread a umask and a working directory of its own, copied from the process's (unshare(2) with `CLONE_FS`).
///
/// Afterwards umask(2) and chdir(2) of this thread touch no other. Needs no privilege.
pub fn unshare_fs_attributes() -> io::Result<()> {
    // SAFETY: unshare(2) takes one integer; CLONE_FS alone changes neither memory nor the table of open files.
    let result = unsafe { libc::unshare(libc::CLONE_FS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use rustix::process::umask;

    #[test]
    fn the_umask_of_one_thread_leaves_the_others_alone() {
        let before = umask(Mode::from(0o027));
        std::thread::spawn(|| {
            unshare_fs_attributes().unwrap();
            assert_eq!(umask(Mode::empty()), Mode::from(0o027));
        })
        .join()
        .unwrap();
        assert_eq!(umask(before), Mode::from(0o027));
    }
}

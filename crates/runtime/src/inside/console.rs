//! The terminal of a process, made from the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_rooted::Root;
use carrack_sys::mount_attr::Depth;
use carrack_sys::rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, fstatfs, makedev, openat};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::ioctl_tiocsctty;
use carrack_sys::rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use carrack_sys::rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use carrack_sys::rustix::termios::{Winsize, tcsetwinsize};
use carrack_words::Kind;

use crate::inside::devices::console_target;
use crate::mounting;
use crate::plan::process::TerminalPlan;
use crate::step::{Doing, StepError};

const DEVPTS_MAGIC: i64 = 0x1cd1;

/// A new terminal.
#[derive(Debug)]
pub struct Console {
    /// The side of the caller.
    pub master: OwnedFd,
    slave: OwnedFd,
}

impl Console {
    /// Makes one in the devpts behind the handle.
    pub fn open_in(devpts: &OwnedFd) -> Result<Self, StepError> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let master = openat(devpts, "ptmx", flags, Mode::empty()).doing(|| "open ptmx of the container's devpts")?;
        Self::from_master(master)
    }

    /// Makes one in the devpts of the root in which this process is; what stands at `/dev/pts/ptmx` there is checked to be one.
    pub fn open_below(root: &Root) -> Result<Self, StepError> {
        let failed = || "open /dev/pts/ptmx of the container";
        let handle = root.open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW)?;
        let is_devpts = fstatfs(&handle).doing(failed)?.f_type as i64 == DEVPTS_MAGIC;
        // In every devpts, ptmx is inode 2 and device 5:2.
        let stat = fstat(&handle).doing(failed)?;
        if !is_devpts || stat.st_ino != 2 || stat.st_rdev != makedev(5, 2) {
            return Err(StepError::refused(
                Kind::Denied,
                "/dev/pts/ptmx of the container is not a terminal multiplexer",
            ));
        }
        Self::from_master(handle)
    }

    fn from_master(master: OwnedFd) -> Result<Self, StepError> {
        unlockpt(&master).doing(|| "unlock the terminal")?;
        // Opening the other side by its name could be redirected by whoever controls /dev/pts (CVE-2025-52565).
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .doing(|| "open the container's side of the terminal")?;
        Ok(Self { master, slave })
    }

    /// Shows it as `/dev/console`.
    pub fn bind_console(&self, root: &Root) -> Result<(), StepError> {
        let failed = || "bind the terminal to /dev/console";
        let tree = mounting::clone_tree(&self.slave, Depth::One).doing(failed)?;
        let target = console_target(root)?;
        mounting::attach(&tree, &target).doing(failed)
    }

    /// Makes it the controlling terminal and the standard streams; this process must lead a session.
    pub fn take(&self, plan: TerminalPlan, uid: u32) -> Result<(), StepError> {
        let failed = || "take the terminal";
        if let Some((rows, columns)) = plan.size {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&self.slave, size).doing(|| "set the size of the terminal")?;
        }
        ioctl_tiocsctty(&self.slave).doing(failed)?;
        dup2_stdin(&self.slave).doing(failed)?;
        dup2_stdout(&self.slave).doing(failed)?;
        dup2_stderr(&self.slave).doing(failed)?;
        give_to(self.slave.as_fd(), uid)
    }
}

/// Gives the standard streams to the user who will run, so that `/dev/stdout` can be opened anew; the null device is everybody's already.
pub fn give_streams_to(uid: u32) -> Result<(), StepError> {
    let streams = [
        carrack_sys::rustix::stdio::stdin(),
        carrack_sys::rustix::stdio::stdout(),
        carrack_sys::rustix::stdio::stderr(),
    ];
    streams.into_iter().try_for_each(|stream| give_to(stream, uid))
}

fn give_to(stream: BorrowedFd<'_>, uid: u32) -> Result<(), StepError> {
    let failed = || "give a standard stream to the container's user";
    let stat = match fstat(stream) {
        Err(Errno::BADF) => return Ok(()),
        other => other.doing(failed)?,
    };
    if stat.st_uid == uid || stat.st_rdev == makedev(1, 3) {
        return Ok(());
    }
    match fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>) {
        // A file on a read-only or foreign file system, or an id that is not mapped: the stream works all the same.
        Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        Err(error) => Err(error).doing(failed),
    }
}

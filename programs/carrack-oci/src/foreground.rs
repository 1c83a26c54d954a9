//! Staying with a process until it ends: signals are passed on, orphans reaped, a terminal relayed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use carrack_runtime::{Notifier, describe_io};
use carrack_sys::rustix::event::{PollFd, PollFlags, poll};
use carrack_sys::rustix::io::{Errno, read, retry_on_intr, write};
use carrack_sys::rustix::process::{WaitOptions, wait};
use carrack_sys::rustix::stdio::{stdin, stdout};
use carrack_sys::rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use carrack_sys::signal::{self, SignalSet};
use carrack_sys::signal_queue::SignalQueue;
use carrack_words::Exit;

use crate::streams::Flows;

const CHILD: i32 = 17;
const WINDOW_CHANGE: i32 = 28;
/// Those that mean this process and not the container: a fault of ours, a child's end, urgent data, and those nobody can catch.
const NOT_PASSED_ON: [i32; 9] = [4, 5, 7, 8, 9, 11, 17, 19, 23];

/// What has to stand before the process runs: the signals wait in a queue from here on.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalQueue,
    /// Says that the container is ready, when it is; we are then the process to watch.
    pub notifier: Option<Notifier>,
}

impl Foreground {
    /// Starts to collect signals.
    pub fn prepare() -> io::Result<Self> {
        // A caller that ignores the end of its children hands that on, and the kernel would throw our child's exit code away.
        signal::reset(SignalSet::NONE.with(CHILD))?;
        let wanted: Vec<i32> = (1..32).filter(|number| *number == CHILD || !NOT_PASSED_ON.contains(number)).collect();
        Ok(Self { signals: SignalQueue::open(&wanted)?, notifier: None })
    }

    /// Stays until the process ends, with its terminal if it has one, and its streams as far as they are copied. `warn` is told what fails besides.
    pub fn wait(
        mut self,
        pid: i32,
        pidfd: &OwnedFd,
        console: Option<&OwnedFd>,
        mut flows: Flows,
        warn: &dyn Fn(&str),
    ) -> io::Result<Exit> {
        // We stay, so nobody has to wait until the supervisor has heard; but it is to be able to say so.
        let mut _heard = None;
        let mut exit = None;
        let relay = console.map(Relay::new).transpose()?;
        loop {
            let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            if let Some(relay) = &relay {
                relay.watch(&mut fds);
            }
            let first_flow = fds.len();
            flows.watch(&mut fds);
            let after_flows = fds.len();
            fds.extend(self.notifier.iter().map(|notifier| PollFd::new(notifier, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_over = !fds[0].revents().is_empty();
            let has_signals = !fds[1].revents().is_empty();
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if has_signals {
                exit = self.pass_on(pid, pidfd, relay.as_ref())?.or(exit);
            }
            if let Some(relay) = &relay {
                relay.pump(&ready[2..first_flow])?;
            }
            flows.pump(&ready[first_flow..after_flows])?;
            if let (Some(notifier), Some(true)) = (&self.notifier, ready.get(after_flows)) {
                match notifier.pass_on(std::process::id() as i32) {
                    Ok(None) => {}
                    Ok(heard) => (_heard, self.notifier) = (heard, None),
                    Err(error) => {
                        warn(&format!("tell the supervisor that the container is ready: {}", describe_io(&error)));
                        self.notifier = None;
                    }
                }
            }
            if is_over {
                if let Some(relay) = &relay {
                    relay.drain()?;
                }
                flows.drain()?;
                return match exit.or_else(|| reap(pid)) {
                    Some(exit) => Ok(exit),
                    None => Err(io::Error::other("the process has ended, but is not our child")),
                };
            }
        }
    }

    fn pass_on(&self, pid: i32, pidfd: &OwnedFd, relay: Option<&Relay<'_>>) -> io::Result<Option<Exit>> {
        let mut exit = None;
        while let Some(received) = self.signals.next()? {
            match (received.number, relay) {
                (CHILD, _) => exit = reap(pid).or(exit),
                (WINDOW_CHANGE, Some(relay)) => relay.resize()?,
                (number, _) => match signal::send(pidfd.as_fd(), number) {
                    // It has just ended; that is what is seen next.
                    Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                    other => other?,
                },
            }
        }
        Ok(exit)
    }
}

/// Waits for whatever children have ended: orphans of the container came to us. Tells the end of the one we stay with, if it is among them.
fn reap(pid: i32) -> Option<Exit> {
    let mut exit = None;
    while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
        if ended.as_raw_nonzero().get() == pid {
            exit = Some(exit_of(status.exit_status(), status.terminating_signal()));
        }
    }
    exit
}

fn exit_of(code: Option<i32>, signal: Option<i32>) -> Exit {
    match (code, signal) {
        (Some(code), _) => Exit::Code(code as u8),
        (None, Some(signal)) => Exit::Signal(signal as u8),
        (None, None) => Exit::Code(255),
    }
}

/// Our own terminal and the container's, joined. Ours gets its mode back at the end.
struct Relay<'a> {
    console: &'a OwnedFd,
    before: Option<Termios>,
    reads_input: std::cell::Cell<bool>,
}

impl<'a> Relay<'a> {
    fn new(console: &'a OwnedFd) -> io::Result<Self> {
        let before = if isatty(stdin()) {
            let before = tcgetattr(stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
            Some(before)
        } else {
            None
        };
        let relay = Self { console, before, reads_input: std::cell::Cell::new(true) };
        relay.resize()?;
        Ok(relay)
    }

    fn resize(&self) -> io::Result<()> {
        if self.before.is_none() {
            return Ok(());
        }
        Ok(tcsetwinsize(self.console, tcgetwinsize(stdin())?)?)
    }

    fn watch<'f>(&'f self, fds: &mut Vec<PollFd<'f>>) {
        fds.push(PollFd::new(self.console, PollFlags::IN));
        if self.reads_input.get() {
            fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
    }

    fn pump(&self, ready: &[bool]) -> io::Result<()> {
        if ready.first() == Some(&true) {
            copy(self.console.as_fd(), stdout())?;
        }
        if ready.get(1) == Some(&true) && !copy(stdin(), self.console.as_fd())? {
            self.reads_input.set(false);
        }
        Ok(())
    }

    /// What the process wrote last.
    fn drain(&self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(self.console, PollFlags::IN)];
            let none = carrack_sys::rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let ready = retry_on_intr(|| poll(&mut fds, Some(&none)))?;
            if ready == 0 || !copy(self.console.as_fd(), stdout())? {
                return Ok(());
            }
        }
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // If the terminal is gone there is nothing to give back.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Copies what is there; whether there can be more. EIO of a terminal means that nobody has its other side open.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let length = match retry_on_intr(|| read(from, &mut buffer)) {
        Ok(0) | Err(Errno::IO) => return Ok(false),
        Ok(length) => length,
        Err(Errno::AGAIN) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match retry_on_intr(|| write(to, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::IO | Errno::PIPE) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

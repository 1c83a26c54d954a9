//! A terminal with a program on it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use carrack_sys::rustix::event::{PollFd, PollFlags, poll};
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_sys::rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use carrack_sys::rustix::termios::{Winsize, tcsetwinsize};
use carrack_sys::signal::{self, SignalSet};

use crate::wait::{wait_for, wait_until};

const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;

/// The master side of a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// The program, or what entered the node for it.
    pub child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Its end is the end of the reader, which has the master open too.
    stop: OwnedFd,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Runs `command` on a new terminal of 24 rows and 80 columns.
    pub fn start(command: &mut Command) -> Self {
        // A shell that starts the tests in the background has them ignore what keys send, and so would the program.
        signal::reset(SignalSet::NONE.with(SIGINT).with(SIGQUIT)).expect("both can be reset");
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal can be made");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        set_size(&master, 24, 80);
        let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("the name is ASCII");
        let slave = OpenOptions::new().read(true).write(true).open(&name).expect("the slave can be opened");
        let copy = || slave.try_clone().expect("a handle can be copied");
        let child = command
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (copy, kept) = (master.try_clone().expect("a handle can be copied"), Arc::clone(&seen));
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
        let reader = thread::spawn(move || gather(copy, &stopped, &kept));
        Self { master, child, seen, stop, reader }
    }

    /// Closes it, as a person who closes its window does.
    pub fn hang_up(self) -> Child {
        drop(self.stop);
        self.reader.join().expect("the reader does not panic");
        self.child
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal is open");
    }

    /// Changes its size, as a person who drags a window does.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(self.master.as_fd(), rows, columns);
    }

    /// What is on it so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("the reader does not panic")).into_owned()
    }

    /// Waits until `text` was shown.
    pub fn wait_for(&self, text: &str) {
        let limit = Duration::from_secs(60);
        let deadline = std::time::Instant::now() + limit;
        while !self.seen().contains(text) {
            assert!(
                std::time::Instant::now() < deadline,
                "{text:?} did not appear; the terminal shows:\n{}",
                self.seen()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end and returns its exit code.
    pub fn finish(mut self) -> i32 {
        let status = wait_for("the program on the terminal ends", Duration::from_secs(60), || {
            self.child.try_wait().expect("it is our child")
        });
        status.code().unwrap_or(-1)
    }

    /// Whether what was typed is shown and lines are edited: a program that takes raw input and puts nothing back leaves this off.
    pub fn is_cooked(&self) -> bool {
        use carrack_sys::rustix::termios::{LocalModes, tcgetattr};
        let modes = tcgetattr(&self.master).expect("it is a terminal").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits until lines are edited again.
    pub fn wait_until_cooked(&self) {
        wait_until("the terminal's modes are put back", Duration::from_secs(10), || self.is_cooked());
    }
}

fn gather(mut master: File, stopped: &OwnedFd, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        let mut sources = [PollFd::new(&master, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        if poll(&mut sources, None).is_err() || !sources[1].revents().is_empty() {
            return;
        }
        // The last writer's end makes reading fail.
        let Ok(count @ 1..) = master.read(&mut buffer) else { return };
        kept.lock().expect("nobody panics with the lock").extend_from_slice(&buffer[..count]);
    }
}

fn set_size(master: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("a terminal has a size");
}

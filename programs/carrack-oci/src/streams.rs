//! The standard streams of a process that we stay with and that has no terminal.
//!
//! A process in a container must not hold the caller's terminal, into which it could type (TIOCSTI, ioctl_tty(2)), nor a file of the
//! caller's, which it could open anew for more than it was given through `/proc/self/fd`, and which would be given to its user. It gets
//! pipes in their place, and what goes through them is copied here. A pipe, a socket or `/dev/null` has nothing to hide and goes in as
//! it is.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::fs::{FileType, fstat, makedev};
use carrack_sys::rustix::io::{Errno, fcntl_dupfd_cloexec, read, retry_on_intr, write};
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_sys::rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

/// What a pipe takes without blocking when poll(2) says that it takes something (pipe(7), PIPE_BUF).
const CHUNK_BYTES: usize = 4096;
/// What anybody may make of a pipe (proc(5), /proc/sys/fs/pipe-max-size).
const LARGEST_PIPE_BYTES: usize = 1 << 20;

/// Our own streams while pipes stand in their place, for the process that is made now.
#[derive(Debug)]
pub struct Diverted {
    /// At the number of the stream.
    own: [Option<OwnedFd>; 3],
    flows: Vec<Flow>,
}

impl Diverted {
    /// Puts pipes in the place of those streams that must not go into a container.
    pub fn divert() -> io::Result<Self> {
        let mut diverted = Self { own: [None, None, None], flows: Vec::new() };
        for number in 0..3 {
            let stream = stream(number);
            if !has_something_to_hide(stream)? {
                continue;
            }
            let own = fcntl_dupfd_cloexec(stream, 3)?;
            let far = fcntl_dupfd_cloexec(stream, 3)?;
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            let (theirs, flow) = match number {
                0 => (reader, Flow { from: Some(far), to: Some(writer), waiting: Vec::new() }),
                _ => (writer, Flow { from: Some(reader), to: Some(far), waiting: Vec::new() }),
            };
            diverted.own[number] = Some(own);
            diverted.flows.push(flow);
            replace(number, &theirs)?;
        }
        Ok(diverted)
    }

    /// Gives us our own streams back; the other ends of the pipes are with the process that was made meanwhile.
    pub fn restore(mut self) -> io::Result<Flows> {
        self.put_back()?;
        Ok(Flows(std::mem::take(&mut self.flows)))
    }

    fn put_back(&mut self) -> io::Result<()> {
        for (number, own) in self.own.iter_mut().enumerate() {
            if let Some(own) = own.take() {
                replace(number, &own)?;
            }
        }
        Ok(())
    }
}

impl Drop for Diverted {
    fn drop(&mut self) {
        // A failure is to be told on our own standard error. If even that is gone, there is nobody to tell.
        let _ = self.put_back();
    }
}

fn stream(number: usize) -> BorrowedFd<'static> {
    match number {
        0 => stdin(),
        1 => stdout(),
        _ => stderr(),
    }
}

fn replace(number: usize, by: &OwnedFd) -> io::Result<()> {
    match number {
        0 => dup2_stdin(by)?,
        1 => dup2_stdout(by)?,
        _ => dup2_stderr(by)?,
    }
    Ok(())
}

fn has_something_to_hide(stream: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = fstat(stream)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket => false,
        FileType::CharacterDevice => stat.st_rdev != makedev(1, 3),
        _ => true,
    })
}

/// What is copied until the process ends.
#[derive(Debug, Default)]
pub struct Flows(Vec<Flow>);

/// One direction of one stream.
#[derive(Debug)]
struct Flow {
    /// None when there is no more.
    from: Option<OwnedFd>,
    /// None when nobody takes it any more.
    to: Option<OwnedFd>,
    /// Read, and not written yet.
    waiting: Vec<u8>,
}

impl Flows {
    /// What each flow waits for: as many as there are flows.
    pub fn watch<'f>(&'f self, fds: &mut Vec<PollFd<'f>>) {
        fds.extend(self.0.iter().filter_map(Flow::watched));
    }

    /// Copies where something is ready, in the order of [`Flows::watch`].
    pub fn pump(&mut self, ready: &[bool]) -> io::Result<()> {
        let watched = self.0.iter_mut().filter(|flow| flow.watched().is_some());
        for flow in watched.zip(ready).filter_map(|(flow, ready)| ready.then_some(flow)) {
            flow.step()?;
        }
        self.0.retain(|flow| !flow.is_over());
        Ok(())
    }

    /// What the process wrote last. What it was still to read is dropped.
    pub fn drain(mut self) -> io::Result<()> {
        self.0.retain(Flow::is_output);
        for flow in &mut self.0 {
            flow.write_all()?;
            // Somebody else may hold the pipe and write for ever; what the process itself wrote is no more than fits.
            for _ in 0..LARGEST_PIPE_BYTES / CHUNK_BYTES {
                let Some(from) = &flow.from else { break };
                let none = Timespec { tv_sec: 0, tv_nsec: 0 };
                if retry_on_intr(|| poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&none)))? == 0 {
                    break;
                }
                flow.step()?;
                flow.write_all()?;
            }
        }
        Ok(())
    }
}

impl Flow {
    /// Whether it goes to a stream of our own, which is no pipe, or else it would not be copied.
    fn is_output(&self) -> bool {
        let is_pipe = |to| fstat(to).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        self.to.as_ref().is_some_and(|to| !is_pipe(to))
    }

    fn is_over(&self) -> bool {
        self.to.is_none() || (self.from.is_none() && self.waiting.is_empty())
    }

    fn watched(&self) -> Option<PollFd<'_>> {
        match (&self.from, &self.to) {
            (_, Some(to)) if !self.waiting.is_empty() => Some(PollFd::new(to, PollFlags::OUT)),
            (Some(from), Some(_)) => Some(PollFd::new(from, PollFlags::IN)),
            _ => None,
        }
    }

    /// Reads, or writes what was read.
    fn step(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            return self.write_some();
        }
        let Some(from) = &self.from else { return Ok(()) };
        let mut buffer = [0; CHUNK_BYTES];
        match retry_on_intr(|| read(from, &mut buffer)) {
            // A terminal that is gone reads as EIO.
            Ok(0) | Err(Errno::IO) => {
                self.from = None;
                // Whoever reads the other end learns that there is no more.
                self.to = None;
            }
            Ok(length) => self.waiting.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn write_some(&mut self) -> io::Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        match retry_on_intr(|| write(to, &self.waiting)) {
            Ok(written) => drop(self.waiting.drain(..written)),
            Err(Errno::AGAIN) => {}
            // Nobody reads it any more: the process learns that from its own end.
            Err(Errno::PIPE | Errno::IO) => {
                self.to = None;
                self.from = None;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn write_all(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() && self.to.is_some() {
            if let Some(to) = &self.to {
                retry_on_intr(|| poll(&mut [PollFd::new(to, PollFlags::OUT)], None))?;
            }
            self.write_some()?;
        }
        Ok(())
    }
}

//! The standard streams of a container: FIFOs, or a terminal.
//!
//! The monitor reads what the container writes. It also keeps a writing end of each output (of a terminal: its slave side) while
//! the container lives, so that a stream does not seem to end when a container closes it and opens it again (`/dev/stdout`); that end is
//! closed when the container has died, and from then on the end of the stream means that no process is left that could write.
//!
//! FIFOs have names, so that another process can take the streams over.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_monitor_proto::{Size, Stream};
use carrack_sys::rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use carrack_sys::rustix::io::{Errno, read, retry_on_intr, write};
use carrack_sys::rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use carrack_sys::rustix::termios::{Winsize, tcsetwinsize};

use crate::log::{LogStream, Splitter};

/// The streams could not be made.
#[derive(Debug, thiserror::Error)]
#[error("make the streams of a container in {path}")]
pub struct StreamsError {
    path: PathBuf,
    source: io::Error,
}

/// One stream of output.
#[derive(Debug)]
pub struct Output {
    /// What the log and clients call it.
    pub name: OutputName,
    /// Cuts it for the log.
    pub splitter: Splitter,
    reader: Option<OwnedFd>,
    keeper: Option<OwnedFd>,
}

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputName {
    /// Standard output, or a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputName {
    /// Its name in the log.
    pub fn in_log(self) -> LogStream {
        match self {
            OutputName::Stdout => LogStream::Stdout,
            OutputName::Stderr => LogStream::Stderr,
        }
    }

    /// Its name to clients.
    pub fn to_client(self) -> Stream {
        match self {
            OutputName::Stdout => Stream::Stdout,
            OutputName::Stderr => Stream::Stderr,
        }
    }
}

/// What a read of an output gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    End,
}

impl Output {
    fn new(name: OutputName, reader: OwnedFd, keeper: Option<OwnedFd>) -> Self {
        Self { name, splitter: Splitter::default(), reader: Some(reader), keeper }
    }

    /// The handle to be polled; absent once the stream has ended.
    pub fn reader(&self) -> Option<BorrowedFd<'_>> {
        self.reader.as_ref().map(AsFd::as_fd)
    }

    /// Reads once, without waiting.
    pub fn read(&mut self, buffer: &mut [u8]) -> Got {
        let Some(reader) = &self.reader else { return Got::End };
        match retry_on_intr(|| read(reader, &mut *buffer)) {
            Ok(count) if count > 0 => Got::Bytes(count),
            Err(Errno::AGAIN) => Got::Nothing,
            // A terminal whose slave side nobody has open says EIO.
            Ok(_) | Err(_) => {
                self.reader = None;
                Got::End
            }
        }
    }
}

/// The way into a container.
#[derive(Debug, Default)]
pub struct Input {
    writer: Option<OwnedFd>,
    queue: Vec<u8>,
    close_when_empty: bool,
}

impl Input {
    fn new(writer: OwnedFd) -> Self {
        Self { writer: Some(writer), queue: Vec::new(), close_when_empty: false }
    }

    /// The handle to be polled, while something waits to be written.
    pub fn writer(&self) -> Option<BorrowedFd<'_>> {
        self.writer.as_ref().filter(|_| !self.queue.is_empty()).map(AsFd::as_fd)
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Queues bytes; after the end they are dropped, as the container cannot read them.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.writer.is_some() && !self.close_when_empty {
            self.queue.extend_from_slice(bytes);
        }
    }

    /// Ends the stream after what is queued.
    pub fn close(&mut self) {
        self.close_when_empty = true;
        self.flush();
    }

    /// Writes as much as the container takes.
    pub fn flush(&mut self) {
        let Some(writer) = &self.writer else { return };
        let mut written = 0;
        while written < self.queue.len() {
            match retry_on_intr(|| write(writer, &self.queue[written..])) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    // Nobody reads it any more.
                    *self = Self::default();
                    return;
                }
            }
        }
        self.queue.drain(..written);
        if self.queue.is_empty() {
            self.queue = Vec::new();
            if self.close_when_empty {
                self.writer = None;
            }
        }
    }
}

/// All streams of one container, on the monitor's side.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard output, and standard error unless there is a terminal.
    pub outputs: Vec<Output>,
    /// Standard input, if it has one that clients write to.
    pub input: Input,
    terminal: Option<OwnedFd>,
    directory: Option<PathBuf>,
}

/// The container's sides, to be given to the stage and closed then.
#[derive(Debug)]
pub struct ContainerSides {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output; absent: `stdin` is `/dev/null` and serves for all, since a terminal takes their place.
    outputs: Option<(OwnedFd, OwnedFd)>,
}

impl ContainerSides {
    /// Standard output.
    pub fn stdout(&self) -> BorrowedFd<'_> {
        self.outputs.as_ref().map_or(self.stdin.as_fd(), |(stdout, _)| stdout.as_fd())
    }

    /// Standard error.
    pub fn stderr(&self) -> BorrowedFd<'_> {
        self.outputs.as_ref().map_or(self.stdin.as_fd(), |(_, stderr)| stderr.as_fd())
    }
}

/// Whether a container's standard input comes from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputWanted {
    /// It does.
    Yes,
    /// It is `/dev/null`.
    No,
}

impl Streams {
    /// Makes FIFOs in `directory`, which is made anew, so that no process of an earlier run of the container holds one.
    pub fn make_pipes(directory: &Path, input: InputWanted) -> Result<(Self, ContainerSides), StreamsError> {
        try_make_pipes(directory, input).map_err(|source| StreamsError { path: directory.to_owned(), source })
    }

    /// The container's sides for a container that gets a terminal.
    pub fn sides_for_terminal() -> Result<ContainerSides, StreamsError> {
        let path = Path::new("/dev/null");
        let stdin = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| StreamsError { path: path.to_owned(), source: error.into() })?;
        Ok(ContainerSides { stdin, outputs: None })
    }

    /// The streams of a container with a terminal, by its controlling side.
    pub fn of_terminal(console: OwnedFd, input: InputWanted) -> Result<Self, StreamsError> {
        try_terminal(console, input).map_err(|source| StreamsError { path: "/dev/ptmx".into(), source })
    }

    /// Sets the terminal's size; an error if there is no terminal.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Err(Errno::NOTTY.into()) };
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(terminal, size)?)
    }

    /// Whether this is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// The container is dead: from now on an output ends when no process has it open.
    pub fn release(&mut self) {
        for output in &mut self.outputs {
            output.keeper = None;
        }
        self.input = Input::default();
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // They have names in our own run directory, which goes away as a whole after us if this fails.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

fn try_make_pipes(directory: &Path, input: InputWanted) -> io::Result<(Streams, ContainerSides)> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => fs::create_dir_all(directory)?,
    }
    let mut streams = Streams::default();
    streams.directory = Some(directory.to_owned());
    let (stdout, out) = make_output(&directory.join("stdout"), OutputName::Stdout)?;
    let (stderr, err) = make_output(&directory.join("stderr"), OutputName::Stderr)?;
    streams.outputs = vec![stdout, stderr];
    let stdin = match input {
        InputWanted::No => open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
        InputWanted::Yes => {
            let path = directory.join("stdin");
            make_fifo(&path)?;
            // Opening one end waits for the other, unless somebody has both.
            let _both = open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            let reader = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            streams.input =
                Input::new(open(&path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
            reader
        }
    };
    Ok((streams, ContainerSides { stdin, outputs: Some((out, err)) }))
}

fn make_fifo(path: &Path) -> io::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

fn make_output(path: &Path, name: OutputName) -> io::Result<(Output, OwnedFd)> {
    make_fifo(path)?;
    let reader = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let writer = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let keeper = writer.try_clone()?;
    Ok((Output::new(name, reader, Some(keeper)), writer))
}

fn try_terminal(console: OwnedFd, input: InputWanted) -> io::Result<Streams> {
    carrack_sys::rustix::io::ioctl_fionbio(&console, true)?;
    let slave = ioctl_tiocgptpeer(&console, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let reader = console.try_clone()?;
    let input = match input {
        InputWanted::Yes => Input::new(console.try_clone()?),
        InputWanted::No => Input::default(),
    };
    Ok(Streams {
        outputs: vec![Output::new(OutputName::Stdout, reader, Some(slave))],
        input,
        terminal: Some(console),
        directory: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    fn read_all(output: &mut Output) -> (Vec<u8>, Got) {
        let (mut all, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            match output.read(&mut buffer) {
                Got::Bytes(count) => all.extend(&buffer[..count]),
                other => return (all, other),
            }
        }
    }

    #[test]
    fn an_output_ends_only_after_the_release_and_with_its_last_writer() {
        let dir = TestDir::new();
        let (mut streams, sides) = Streams::make_pipes(&dir.path().join("c"), InputWanted::No).unwrap();
        write(sides.stdout(), b"out").unwrap();
        write(sides.stderr(), b"err").unwrap();
        let grandchild = sides.stdout().try_clone_to_owned().unwrap();
        drop(sides);
        assert_eq!(read_all(&mut streams.outputs[0]), (b"out".to_vec(), Got::Nothing));
        streams.release();
        assert_eq!(read_all(&mut streams.outputs[1]), (b"err".to_vec(), Got::End));
        assert_eq!(read_all(&mut streams.outputs[0]), (vec![], Got::Nothing));
        write(&grandchild, b"late").unwrap();
        drop(grandchild);
        assert_eq!(read_all(&mut streams.outputs[0]), (b"late".to_vec(), Got::End));
        drop(streams);
        assert!(!dir.path().join("c").exists());
    }

    #[test]
    fn input_reaches_the_container_and_ends_after_what_was_queued() {
        let dir = TestDir::new();
        let (mut streams, sides) = Streams::make_pipes(&dir.path().join("c"), InputWanted::Yes).unwrap();
        // More than a pipe takes at once.
        let sent: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        streams.input.push(&sent);
        streams.input.close();
        streams.input.push(b"after the end");
        let (mut got, mut buffer) = (Vec::<u8>::new(), vec![0u8; 10_000]);
        loop {
            streams.input.flush();
            match read(&sides.stdin, &mut buffer[..]).unwrap() {
                0 => break,
                count => got.extend(&buffer[..count]),
            }
        }
        assert!(got == sent);
    }

    #[test]
    fn input_that_nobody_reads_any_more_is_dropped() {
        let dir = TestDir::new();
        let (mut streams, sides) = Streams::make_pipes(&dir.path().join("c"), InputWanted::Yes).unwrap();
        drop(sides);
        streams.input.push(b"lost");
        // Rust programs ignore SIGPIPE, as the monitor does.
        streams.input.flush();
        assert_eq!((streams.input.len(), streams.input.writer().is_none()), (0, true));
    }
}

//! The caller's terminal, streams and signals on one side, a container's on the other.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use carrack_engine::{
    AttachReader, AttachWriter, ClientError, Engine, EngineError, ExecSession, ExitRecord, Size, Stream, StreamFrame,
};
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_sys::signal_queue::SignalQueue;
use carrack_words::{ContainerId, Exit};

use crate::failure::Failure;
use crate::terminal::{self, DetachKeys, RawMode, Typed};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;
const EIO: i32 = carrack_sys::rustix::io::Errno::IO.raw_os_error();
/// Who asks so often for the end wants to leave, whatever the container makes of it.
const REQUESTS_TO_LEAVE: u32 = 3;

/// Signals handed on to a container in the foreground. The others mean this program (PIPE), or cannot be caught.
const FORWARDED: &[i32] = &[1, 2, 3, 10, 12, 15, 18, 28];
const SIGWINCH: i32 = 28;
const BUFFER_BYTES: usize = 32 << 10;

/// How a foreground session ended.
#[derive(Debug)]
pub enum Ended {
    /// The container exited.
    Exited(ExitRecord),
    /// The detach keys were typed.
    Detached,
    /// The terminal is gone, which the container has not been told.
    HungUp,
    /// This signal, or one like it, came so often that the caller wants to leave a container that goes on.
    GivenUp(i32),
    /// Our output cannot be written: whoever read it went away, or the disk is full.
    OutputFailed(io::Error),
    /// The monitor went away.
    Lost(ClientError),
}

/// Signals are read from a queue from now on. Must be called before any thread is started, since threads inherit the mask.
pub fn queue_signals() -> io::Result<SignalQueue> {
    SignalQueue::open(FORWARDED)
}

/// Connects the caller's streams with an attached container until one side ends.
pub fn run(
    engine: &Arc<Engine>,
    id: &ContainerId,
    (mut reader, writer): (AttachReader, AttachWriter),
    signals: SignalQueue,
    terminal: bool,
    stdin: bool,
) -> io::Result<Ended> {
    let raw = match terminal && stdin && terminal::is_terminal(io::stdin()) {
        true => Some(RawMode::enter()?),
        false => None,
    };
    let has_terminal = terminal || terminal::is_terminal(io::stdout());
    let (ended, wait) = mpsc::channel();
    let writer = Arc::new(std::sync::Mutex::new(writer));
    if terminal {
        send_size(&writer);
    }
    if stdin {
        let (writer, ended, is_raw) = (Arc::clone(&writer), ended.clone(), raw.is_some());
        thread::spawn(move || {
            if let Typed::Detach(_) = pump_stdin(&writer, is_raw) {
                let _ = ended.send(Ended::Detached);
            }
        });
    }
    {
        let (writer, engine, id, ended) = (Arc::clone(&writer), Arc::clone(engine), id.clone(), ended.clone());
        let mut requests = 0;
        thread::spawn(move || {
            forward_signals(&signals, |signal| match signal {
                SIGWINCH if terminal => send_size(&writer),
                SIGWINCH => {}
                SIGHUP if terminal => drop(ended.send(Ended::HungUp)),
                other => {
                    requests += u32::from(matches!(other, SIGINT | SIGTERM));
                    if requests == REQUESTS_TO_LEAVE {
                        let _ = ended.send(Ended::GivenUp(other));
                    }
                    // A container that is just ending cannot take it; there is nobody to tell.
                    let _ = engine.signal_container(&id, other as u8);
                }
            })
        });
    }
    thread::spawn(move || {
        let _ = ended.send(match pump_output(&mut reader) {
            Ended::OutputFailed(error) if has_terminal && error.raw_os_error() == Some(EIO) => Ended::HungUp,
            other => other,
        });
    });
    let outcome = wait.recv().unwrap_or(Ended::Lost(ClientError::Ended));
    drop(raw);
    Ok(outcome)
}

fn pump_output(reader: &mut AttachReader) -> Ended {
    loop {
        let written = match reader.next_frame() {
            Ok(StreamFrame::Data { stream: Stream::Stderr, bytes }) => write_all(&mut io::stderr().lock(), &bytes),
            Ok(StreamFrame::Data { bytes, .. }) => write_all(&mut io::stdout().lock(), &bytes),
            Ok(StreamFrame::End(record)) => return Ended::Exited(record),
            Ok(StreamFrame::Resize(_) | StreamFrame::StdinClosed) => Ok(()),
            Err(error) => return Ended::Lost(error),
        };
        if let Err(error) = written {
            return Ended::OutputFailed(error);
        }
    }
}

fn write_all(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn pump_stdin(writer: &std::sync::Mutex<AttachWriter>, is_raw: bool) -> Typed {
    let mut keys = DetachKeys::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let lock = || writer.lock().map_err(|_| ClientError::Ended);
    loop {
        let count = match io::stdin().lock().read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal that we may not read from (background job) is as good as none.
            Err(_) => 0,
        };
        if count == 0 {
            let _ = lock().and_then(|mut writer| writer.close_stdin());
            return Typed::Bytes(Vec::new());
        }
        let typed = if is_raw { keys.feed(&buffer[..count]) } else { Typed::Bytes(buffer[..count].to_vec()) };
        let (bytes, leaves) = match typed {
            Typed::Bytes(bytes) => (bytes, false),
            Typed::Detach(bytes) => (bytes, true),
        };
        if lock().and_then(|mut writer| writer.stdin(&bytes)).is_err() {
            return Typed::Bytes(Vec::new());
        }
        if leaves {
            return Typed::Detach(Vec::new());
        }
    }
}

fn send_size(writer: &std::sync::Mutex<AttachWriter>) {
    if let (Some((rows, columns)), Ok(mut writer)) = (terminal::size(io::stdin()), writer.lock()) {
        let _ = writer.resize(Size { rows, columns });
    }
}

fn forward_signals(queue: &SignalQueue, mut act: impl FnMut(i32)) {
    use carrack_sys::rustix::event::{PollFd, PollFlags, poll};
    loop {
        match queue.next() {
            Ok(Some(received)) => act(received.number),
            Ok(None) => {
                let _ = poll(&mut [PollFd::new(queue, PollFlags::IN)], None);
            }
            Err(_) => return,
        }
    }
}

/// The three pipes of an exec without a terminal: ours, and the program's.
pub struct Pipes {
    /// Our ends: written to, read from, read from.
    pub ours: [OwnedFd; 3],
    /// The program's ends.
    pub theirs: [OwnedFd; 3],
}

/// Pipes rather than our own handles: a container must never hold the caller's terminal or files.
pub fn pipes() -> io::Result<Pipes> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, to), (out, stdout), (err, stderr)) = (pipe()?, pipe()?, pipe()?);
    Ok(Pipes { ours: [to, out, err], theirs: [stdin, stdout, stderr] })
}

/// Runs an exec without a terminal to its end.
pub fn run_exec(session: ExecSession, ours: [OwnedFd; 3], stdin: bool) -> Result<Exit, Failure> {
    let [to, out, err] = ours;
    if stdin {
        thread::spawn(move || {
            // Ends with our input, or when the program is gone.
            let _ = io::copy(&mut io::stdin().lock(), &mut std::fs::File::from(to));
        });
    } else {
        drop(to);
    }
    let (ended, end) = pipe_with(PipeFlags::CLOEXEC).map_err(pipe_failed)?;
    let ended = Arc::new(ended);
    let copy = |from: OwnedFd, is_error: bool| {
        let ended = Arc::clone(&ended);
        thread::spawn(move || match is_error {
            true => copy_until_end(from, &ended, &mut io::stderr()),
            false => copy_until_end(from, &ended, &mut io::stdout()),
        })
    };
    let copies = [copy(out, false), copy(err, true)];
    let exit = session.wait().map_err(EngineError::from)?;
    drop(end);
    for copy in copies {
        written(copy)?;
    }
    Ok(exit)
}

/// What a copying thread has to say of our own output. A reader that went away is no failure of the program, which has ended since.
fn written(copy: thread::JoinHandle<io::Result<()>>) -> Result<(), Failure> {
    match copy.join() {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::output(error)),
        _ => Ok(()),
    }
}

/// Copies until the other side closes, or until `ended` says that the program is gone and nothing is left to read: what it started
/// may hold the pipe for ever. Fails if our side cannot be written.
fn copy_until_end(from: OwnedFd, ended: &OwnedFd, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut file = std::fs::File::from(from);
    while let Ok(true) = terminal::wait_readable(file.as_fd(), ended.as_fd()) {
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => write_all(out, &buffer[..count])?,
        }
    }
    Ok(())
}

/// How an exec with a terminal ended.
#[derive(Debug)]
pub enum ExecEnded {
    /// The program ended.
    Exited(Exit),
    /// The detach keys were typed; the program is to go on, with this controlling side of its terminal.
    Detached(OwnedFd),
    /// A signal ended this.
    Signalled(i32),
}

/// Runs an exec with a terminal to its end, or until the detach keys or a signal end this.
pub fn run_exec_terminal(
    session: ExecSession,
    console: OwnedFd,
    signals: SignalQueue,
    stdin: bool,
) -> Result<ExecEnded, Failure> {
    use carrack_sys::rustix::termios::{Winsize, tcsetwinsize};
    let raw = match stdin && terminal::is_terminal(io::stdin()) {
        true => Some(RawMode::enter().map_err(Failure::io("use the terminal"))?),
        false => None,
    };
    let console = Arc::new(console);
    let resize = {
        let console = Arc::clone(&console);
        move || {
            if let Some((rows, columns)) = terminal::size(io::stdin()) {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(&*console, size);
            }
        }
    };
    resize();
    let (done, wait) = mpsc::channel();
    thread::spawn({
        let done = done.clone();
        move || {
            forward_signals(&signals, |signal| match signal {
                SIGWINCH => resize(),
                // What would end this program ends it, and with it the command.
                SIGHUP | SIGINT | SIGQUIT | SIGTERM => drop(done.send(Outcome::Signalled(signal))),
                _ => {}
            })
        }
    });
    if stdin {
        let (console, done, is_raw) = (Arc::clone(&console), done.clone(), raw.is_some());
        thread::spawn(move || {
            if type_into(&console, is_raw) {
                let _ = done.send(Outcome::Detached);
            }
        });
    }
    let (ended, end) = pipe_with(PipeFlags::CLOEXEC).map_err(pipe_failed)?;
    let output = console.try_clone().map_err(Failure::io("use the terminal"))?;
    let output = thread::spawn(move || copy_until_end(output, &ended, &mut io::stdout()));
    thread::spawn(move || {
        let exit = session.wait();
        drop(end);
        let _ = output.join();
        let _ = done.send(Outcome::Exited(exit));
    });
    let outcome = wait.recv().unwrap_or(Outcome::Exited(Err(ClientError::Ended)));
    drop(raw);
    match outcome {
        Outcome::Exited(exit) => Ok(ExecEnded::Exited(exit.map_err(EngineError::from)?)),
        Outcome::Detached => console.try_clone().map(ExecEnded::Detached).map_err(Failure::io("use the terminal")),
        Outcome::Signalled(signal) => Ok(ExecEnded::Signalled(signal)),
    }
}

enum Outcome {
    Exited(Result<Exit, ClientError>),
    Detached,
    Signalled(i32),
}

fn pipe_failed(errno: carrack_sys::rustix::io::Errno) -> Failure {
    Failure::io("make a pipe")(errno.into())
}

/// Copies what is typed to a terminal; true if the detach keys ended it.
fn type_into(console: &OwnedFd, is_raw: bool) -> bool {
    const END_OF_TRANSMISSION: u8 = 4;
    let mut keys = DetachKeys::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = io::stdin().lock().read(&mut buffer).unwrap_or(0);
        let (bytes, leaves) = match count {
            // A terminal has no end of file; this byte is how one is typed.
            0 => (vec![END_OF_TRANSMISSION], false),
            _ if !is_raw => (buffer[..count].to_vec(), false),
            _ => match keys.feed(&buffer[..count]) {
                Typed::Bytes(bytes) => (bytes, false),
                Typed::Detach(bytes) => (bytes, true),
            },
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match carrack_sys::rustix::io::write(console, rest) {
                Ok(written) => rest = &rest[written..],
                Err(_) => return false,
            }
        }
        if leaves || count == 0 {
            return leaves;
        }
    }
}

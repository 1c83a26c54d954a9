//! A connection over which one request at a time is made, and the ends of jobs are heard.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::SystemdError;
use crate::message::{Call, Kind, Message, PREFIX_BYTES, rest_bytes};
use crate::value::Value;

/// The end of a job of systemd's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    job: String,
    result: String,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    serial: u32,
    /// Jobs that ended while an answer was waited for: the newest [`MAX_ENDED`].
    ended: VecDeque<Ended>,
    /// After this nobody waits any longer.
    deadline: Instant,
}

const MAX_ENDED: usize = 1024;
/// The server's line is `OK` and 32 digits.
const MAX_LINE_BYTES: usize = 512;

impl Connection {
    /// Takes a fresh connection, and says that this process is of user `uid` (D-Bus specification, "Authentication Protocol").
    pub(crate) fn open(stream: UnixStream, uid: u32, deadline: Instant) -> Result<Self, SystemdError> {
        let mut connection = Self { stream, serial: 0, ended: VecDeque::new(), deadline };
        let digits: String = uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        // In one piece, though the answer comes in between: systemd (252) would not look at a message that reaches it together with `BEGIN` until the
        // next one comes, and its own clients do so too.
        connection.write("authenticate", format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n").as_bytes())?;
        let said = connection.read_line()?;
        if !said.starts_with("OK ") {
            return Err(SystemdError::Authenticate { said });
        }
        Ok(connection)
    }

    /// Until when it is waited from here on.
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Calls a method, and returns its answer.
    pub(crate) fn call(&mut self, doing: &str, call: Call<'_>) -> Result<Vec<Value>, SystemdError> {
        self.serial += 1;
        let serial = self.serial;
        self.write(doing, &call.bytes(serial))?;
        loop {
            let message = self.next(doing)?;
            if message.answers != Some(serial) {
                continue;
            }
            let arguments = message.arguments().map_err(|what| malformed(doing, &what))?;
            match message.kind {
                Kind::Reply => return Ok(arguments),
                Kind::Error => {
                    let said = arguments.into_iter().next();
                    let message_text = match said {
                        Some(Value::Text(text)) => text,
                        _ => message.error_name.clone(),
                    };
                    return Err(SystemdError::Refused {
                        doing: doing.to_owned(),
                        name: message.error_name,
                        message: message_text,
                    });
                }
                Kind::Call | Kind::Signal | Kind::Other => {}
            }
        }
    }

    /// Waits until a job has ended, and returns how.
    pub(crate) fn job_result(&mut self, doing: &str, job: &str) -> Result<String, SystemdError> {
        loop {
            if let Some(ended) = self.ended.iter().find(|ended| ended.job == job) {
                return Ok(ended.result.clone());
            }
            self.next(doing)?;
        }
    }

    /// The next message; the end of a job is kept.
    fn next(&mut self, doing: &str) -> Result<Message, SystemdError> {
        let mut bytes = vec![0; PREFIX_BYTES];
        self.read(doing, &mut bytes)?;
        let prefix = bytes.as_slice().try_into().expect("as many bytes were read");
        let rest = rest_bytes(prefix).map_err(|what| malformed(doing, &what))?;
        bytes.resize(PREFIX_BYTES + rest, 0);
        self.read(doing, &mut bytes[PREFIX_BYTES..])?;
        let message = Message::parse(&bytes).map_err(|what| malformed(doing, &what))?;
        if message.kind == Kind::Signal && message.member == "JobRemoved" {
            // u: number, o: job, s: unit, s: result.
            let arguments = message.arguments().map_err(|what| malformed(doing, &what))?;
            if let [_, Value::Path(job), _, Value::Text(result)] = arguments.as_slice() {
                if self.ended.len() == MAX_ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back(Ended { job: job.clone(), result: result.clone() });
            }
        }
        Ok(message)
    }

    fn remaining(&self, doing: &str) -> Result<Duration, SystemdError> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(late(doing)) } else { Ok(remaining) }
    }

    fn write(&mut self, doing: &str, bytes: &[u8]) -> Result<(), SystemdError> {
        let remaining = self.remaining(doing)?;
        let sent = self.stream.set_write_timeout(Some(remaining)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|source| talk(doing, source))
    }

    /// Fills the buffer.
    fn read(&mut self, doing: &str, mut buffer: &mut [u8]) -> Result<(), SystemdError> {
        while !buffer.is_empty() {
            let remaining = self.remaining(doing)?;
            let read = self.stream.set_read_timeout(Some(remaining)).and_then(|()| self.stream.read(buffer));
            match read {
                Ok(0) => return Err(talk(doing, io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(talk(doing, error)),
            }
        }
        Ok(())
    }

    /// Byte by byte, for what follows the line is a message.
    fn read_line(&mut self) -> Result<String, SystemdError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() == MAX_LINE_BYTES {
                return Err(SystemdError::Authenticate { said: String::from_utf8_lossy(&line).into_owned() });
            }
            let mut byte = [0];
            self.read("authenticate", &mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

fn late(doing: &str) -> SystemdError {
    SystemdError::Late { doing: doing.to_owned() }
}

fn malformed(doing: &str, what: &dyn std::fmt::Display) -> SystemdError {
    SystemdError::Malformed { doing: doing.to_owned(), what: what.to_string() }
}

fn talk(doing: &str, source: io::Error) -> SystemdError {
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(doing),
        _ => SystemdError::Talk { source },
    }
}

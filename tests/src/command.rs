//! Runs programs with a deadline and keeps what they say.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wait::wait_for;

/// Longer than any single command of a test takes on a slow machine that emulates another.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What a program did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; a signal counts as 128 and its number, as shells have it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Asserts that the program succeeded, and returns its standard output.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// Asserts that the program failed with `code` and said `text` on standard error.
    pub fn fails(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, code, "{self}");
        assert!(self.stderr.contains(text), "{text:?} is not in what was said: {self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}\n  ended with {}\n  stdout: {}\n  stderr: {}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// A program under way, whose output is gathered.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    command: String,
    stdout: Gathered,
    stderr: Gathered,
}

#[derive(Debug)]
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// Runs a program to its end. Its standard input is empty.
pub fn run(command: &mut Command) -> Ran {
    start(command.stdin(Stdio::null())).finish(DEADLINE)
}

/// Runs a program that reads `input`.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut running = start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().expect("stdin was asked to be a pipe above");
    let input = input.to_vec();
    // The program may end before it has read everything.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = running.finish(DEADLINE);
    writer.join().expect("the writer does not panic");
    ran
}

/// Starts a program; its standard input is as the caller has set it.
pub fn start(command: &mut Command) -> Running {
    let text = format!("{command:?}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {text}: {error}"));
    let stdout = gather(child.stdout.take().expect("stdout was asked to be a pipe above"));
    let stderr = gather(child.stderr.take().expect("stderr was asked to be a pipe above"));
    Running { child, command: text, stdout, stderr }
}

impl Running {
    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        text_of(&self.stderr)
    }

    /// Waits for its end; kills it and panics when `limit` is over.
    pub fn finish(mut self, limit: Duration) -> Ran {
        let deadline = std::time::Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("our own child can be waited for") {
                Some(status) => break status,
                None if std::time::Instant::now() > deadline => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    panic!(
                        "{} took longer than {limit:?}\n  stdout: {}\n  stderr: {}",
                        self.command,
                        self.stdout(),
                        self.stderr()
                    );
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        // What a background process still holds open is not waited for for ever.
        let readers = [&self.stdout.reader, &self.stderr.reader];
        let patience = std::time::Instant::now() + Duration::from_secs(2);
        while readers.iter().any(|reader| !reader.is_finished()) && std::time::Instant::now() < patience {
            thread::sleep(Duration::from_millis(1));
        }
        Ran { code: code_of(status), stdout: self.stdout(), stderr: self.stderr(), command: self.command }
    }

    /// Waits until standard output contains `text`.
    pub fn wait_for_output(&self, text: &str) {
        wait_for(
            &format!("{text:?} from {}; got {:?} and {:?}", self.command, self.stdout(), self.stderr()),
            DEADLINE,
            || self.stdout().contains(text).then_some(()),
        );
    }

    /// Kills it, at once.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn text_of(gathered: &Gathered) -> String {
    String::from_utf8_lossy(&gathered.bytes.lock().expect("the reader does not panic")).into_owned()
}

fn gather(mut source: impl Read + Send + 'static) -> Gathered {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 16384];
        while let Ok(count @ 1..) = source.read(&mut buffer) {
            kept.lock().expect("nobody panics with the lock").extend_from_slice(&buffer[..count]);
        }
    });
    Gathered { bytes, reader }
}

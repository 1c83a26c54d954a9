//! Runs other programs with a bound on their time, and shows and keeps what they say.
//!
//! A program that overstays is killed together with its descendants, each by its own pid: nothing is ever killed by name.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How a bounded program ended.
#[derive(Debug)]
pub enum Ending {
    /// By itself, in time.
    Exited(ExitStatus),
    /// It was killed because its time was over.
    TimedOut,
}

impl Ending {
    /// Whether it ended by itself with success.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}

/// What a bounded program did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Standard output and error together, line by line as they came.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

/// Whether the lines of a program are shown while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Each line as it comes.
    Live,
    /// Nothing; the caller shows what matters.
    Nothing,
}

/// Runs `command` for at most `limit`. Its standard input is empty.
pub fn run_bounded(command: &mut Command, limit: Duration, show: Show) -> Result<Outcome, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::because(format!("start {name}")))?;
    let (lines, received) = mpsc::channel();
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe above");
    let stderr = child.stderr.take().expect("stderr was asked to be a pipe above");
    forward_lines(stdout, lines.clone());
    forward_lines(stderr, lines);

    let mut output = String::new();
    let deadline = started + limit;
    let ending = loop {
        drain(&received, &mut output, show, Duration::from_millis(20));
        if let Some(status) = child.try_wait().map_err(Failure::because(format!("wait for {name}")))? {
            break Ending::Exited(status);
        }
        if Instant::now() > deadline {
            kill_with_descendants(&mut child);
            break Ending::TimedOut;
        }
    };
    // A daemon that the program left behind may hold the pipe for ever: what has not come a moment after the end is not waited for.
    drain(&received, &mut output, show, Duration::from_millis(200));
    Ok(Outcome { ending, output, took: started.elapsed() })
}

/// Runs a program which must succeed, and returns what it wrote to standard output.
pub fn output_of(command: &mut Command) -> Result<String, Failure> {
    let name = words_of(command);
    let output = command.stdin(Stdio::null()).output().map_err(Failure::because(format!("start {name}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("{name} ended with {}: {}", output.status, said.trim())));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure::new(format!("{name} printed bytes that are not UTF-8")))
}

/// Runs a program on this terminal; it must succeed.
pub fn run_here(command: &mut Command) -> Result<(), Failure> {
    let name = words_of(command);
    let status = command.status().map_err(Failure::because(format!("start {name}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{name} ended with {status}"))) }
}

/// A command as it would be typed; its environment and directory are left out.
fn words_of(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where `program` is on the search path.
pub fn find_program(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Administrators' directories are missing from an ordinary user's search path on Debian.
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Kills a child and everything that descends from it now.
pub fn kill_with_descendants(child: &mut Child) {
    let root = child.id();
    let mut doomed = descendants(root);
    doomed.reverse();
    for pid in doomed {
        // A process that has ended meanwhile is what we want: the answer does not matter.
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn forward_lines(source: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while let Ok(1..) = source.read_until(b'\n', &mut line) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}

fn drain(lines: &mpsc::Receiver<String>, output: &mut String, show: Show, patience: Duration) {
    let until = Instant::now() + patience;
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if show == Show::Live {
            let mut terminal = std::io::stdout().lock();
            // A closed terminal must not stop the build.
            let _ = terminal.write_all(line.as_bytes()).and_then(|()| terminal.flush());
        }
        output.push_str(&line);
    }
}

/// All processes below `root`, parents before their children.
fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = parent_of(&entry.path()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![];
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// The parent's pid out of `/proc/PID/stat`: the second field after the name, which ends at the last parenthesis.
fn parent_of(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_overstays_is_killed_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; sleep 1000 & wait"]);
        let outcome = run_bounded(&mut command, Duration::from_millis(300), Show::Nothing).expect("sh starts");
        assert!(matches!(outcome.ending, Ending::TimedOut));
        assert_eq!(outcome.output, "begun\n");
        assert!(outcome.took < Duration::from_secs(20));
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let outcome = run_bounded(&mut command, Duration::from_secs(20), Show::Nothing).expect("sh starts");
        let mut lines: Vec<_> = outcome.output.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["err", "out"]);
        assert!(matches!(outcome.ending, Ending::Exited(status) if status.code() == Some(3)));
    }
}

//! What procfs tells about a process: whether it lives, and when it started.

use std::io;

use carrack_words::ProcessId;

use crate::procfs::read_text;

/// Start time and state of a process, from `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// Field 22: clock ticks since boot.
    pub start_time: u64,
    /// Field 3: a letter.
    pub state: u8,
}

impl ProcessStat {
    /// Parses the line. The name in parentheses may contain anything, parentheses too, so the last one counts.
    pub fn parse(line: &str) -> Option<Self> {
        let rest = &line[line.rfind(')')? + 1..];
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // The state was field 3, so the next one is field 4, and 17 fields later comes field 22.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { start_time, state })
    }

    /// Whether it is dead, or a zombie that nobody has waited for yet.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Reads it of a process; `None` if there is none with this pid.
pub fn read(pid: i32) -> io::Result<Option<ProcessStat>> {
    match read_text(&format!("/proc/{pid}/stat")) {
        Ok(line) => ProcessStat::parse(&line).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        // ESRCH: it went away between open and read.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The process with this pid, named so that a later one with the same pid is not mistaken for it.
pub fn identify(pid: i32) -> io::Result<Option<ProcessId>> {
    Ok(read(pid)?.map(|stat| ProcessId { pid, start_time: stat.start_time }))
}

/// Whether this very process still runs; a zombie does not.
pub fn is_alive(process: ProcessId) -> io::Result<bool> {
    Ok(read(process.pid)?.is_some_and(|stat| stat.start_time == process.start_time && !stat.is_dead()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse() {
        let line = "42 (a) R (b c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2";
        assert_eq!(ProcessStat::parse(line), Some(ProcessStat { start_time: 987_654, state: b'S' }));
        assert_eq!(ProcessStat::parse("42 (x) S 1"), None);
    }

    #[test]
    fn this_process_is_alive_and_a_reused_pid_is_not_it() {
        let own = identify(std::process::id() as i32).unwrap().unwrap();
        assert!(is_alive(own).unwrap());
        assert!(!is_alive(ProcessId { start_time: own.start_time + 1, ..own }).unwrap());
    }
}

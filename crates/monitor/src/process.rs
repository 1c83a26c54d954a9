//! Facts about processes from `/proc`.

use std::fs;
use std::io;

use carrack_words::ProcessId;

/// When a process started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// This process.
pub fn own() -> io::Result<ProcessId> {
    let pid = std::process::id() as i32;
    Ok(ProcessId { pid, start_time: start_time(pid)? })
}

/// The second field, the program's name, may contain anything, so fields are counted from the last `)`.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_move_the_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 999 1";
        assert_eq!(parse_start_time(stat), Some(12345));
        assert_eq!(parse_start_time("7 (a) S 1"), None);
    }
}

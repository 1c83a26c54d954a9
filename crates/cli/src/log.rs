//! Reads container logs (CRI log format: `TIME STREAM TAGS CONTENT`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use carrack_sys::rustix::fs::inotify;

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written, as it stands there.
    pub time: &'a str,
    /// Whether it came from standard error.
    pub is_error: bool,
    /// Whether the next line of the same stream goes on where this one ends.
    pub is_partial: bool,
    /// The content, without a line end.
    pub content: &'a [u8],
}

/// Parses a line without its line end; `None` if it is not in the format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let is_error = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let is_partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line { time, is_error, is_partial, content: parts.next()? })
}

/// A log could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read.
    #[error("read the log")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// What was read cannot be printed.
    #[error("print the log")]
    Write {
        /// Why.
        source: io::Error,
    },
}

fn unread(source: io::Error) -> LogError {
    LogError::Read { source }
}

fn unwritten(source: io::Error) -> LogError {
    LogError::Write { source }
}

/// What is shown of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// Only so many of the last lines.
    pub tail: Option<usize>,
    /// Each line's time before it.
    pub timestamps: bool,
}

/// Prints the log and returns where it ended.
pub fn print(path: &Path, show: Show, out: &mut impl Write, err: &mut impl Write) -> Result<u64, LogError> {
    let mut file = File::open(path).map_err(unread)?;
    let start = match show.tail {
        Some(count) => start_of_last_lines(&mut file, count).map_err(unread)?,
        None => 0,
    };
    print_from(file, start, show.timestamps, out, err)
}

fn print_from(
    mut file: File,
    start: u64,
    timestamps: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<u64, LogError> {
    file.seek(SeekFrom::Start(start)).map_err(unread)?;
    let mut position = start;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let count = reader.read_until(b'\n', &mut bytes).map_err(unread)?;
        if bytes.last() != Some(&b'\n') {
            // A line still being written is read again later.
            break;
        }
        position += count as u64;
        let Some(line) = parse(&bytes[..count - 1]) else { continue };
        let to: &mut dyn Write = if line.is_error { err } else { out };
        print_line(&line, timestamps, to).map_err(unwritten)?;
    }
    out.flush().and_then(|()| err.flush()).map_err(unwritten)?;
    Ok(position)
}

fn print_line(line: &Line<'_>, timestamps: bool, to: &mut dyn Write) -> io::Result<()> {
    if timestamps {
        write!(to, "{} ", line.time)?;
    }
    to.write_all(line.content)?;
    match line.is_partial {
        true => Ok(()),
        false => to.write_all(b"\n"),
    }
}

/// The offset at which the last `count` whole lines begin.
fn start_of_last_lines(file: &mut File, count: usize) -> io::Result<u64> {
    let mut starts: VecDeque<u64> = VecDeque::with_capacity(count.min(4096) + 1);
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let (mut position, mut begins_line) = (0_u64, true);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let length = reader.read_until(b'\n', &mut bytes)? as u64;
        if length == 0 {
            break;
        }
        if begins_line {
            starts.push_back(position);
            if starts.len() > count {
                starts.pop_front();
            }
        }
        begins_line = parse(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).is_none_or(|line| !line.is_partial);
        position += length;
    }
    Ok(starts.front().copied().unwrap_or(position))
}

/// Goes on printing from `position` until `end` is closed and everything is printed.
pub fn follow(
    path: &Path,
    mut position: u64,
    show: Show,
    end: BorrowedFd<'_>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), LogError> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(|errno| unread(errno.into()))?;
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).map_err(|errno| unread(errno.into()))?;
    loop {
        // The order matters: what was written before the end was seen is printed afterwards.
        let goes_on = crate::terminal::wait_readable(watch.as_fd(), end).map_err(unread)?;
        let mut events = [0; 4096];
        while carrack_sys::rustix::io::read(&watch, &mut events[..]).is_ok_and(|count| count > 0) {}
        position = print_from(File::open(path).map_err(unread)?, position, show.timestamps, out, err)?;
        if !goes_on {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n\
        2026-01-01T00:00:00.000000002Z stderr F oops\n\
        2026-01-01T00:00:00.000000003Z stdout P tw\n\
        2026-01-01T00:00:00.000000004Z stdout F o\n\
        not a log line\n\
        2026-01-01T00:00:00.000000005Z stdout P unfinis";

    fn shown(name: &str, show: Show) -> (String, String) {
        let path = std::env::temp_dir().join(format!("carrack-log-{}-{name}", std::process::id()));
        std::fs::write(&path, LOG).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        print(&path, show, &mut out, &mut err).unwrap();
        std::fs::remove_file(&path).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn pieces_are_joined_and_streams_kept_apart() {
        assert_eq!(shown("all", Show { tail: None, timestamps: false }), ("one\ntwo\n".into(), "oops\n".into()));
    }

    #[test]
    fn tail_counts_whole_lines() {
        let (out, err) = shown("tail", Show { tail: Some(3), timestamps: false });
        assert_eq!((out.as_str(), err.as_str()), ("two\n", ""));
        let (out, err) = shown("none", Show { tail: Some(0), timestamps: false });
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
    }

    #[test]
    fn output_that_cannot_be_written_is_not_the_log_s_fault() {
        let path = std::env::temp_dir().join(format!("carrack-log-{}-full", std::process::id()));
        std::fs::write(&path, LOG).unwrap();
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let printed = print(&path, Show { tail: None, timestamps: false }, &mut full, &mut Vec::new());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(printed, Err(LogError::Write { .. })), "{printed:?}");
    }

    #[test]
    fn only_the_four_parts_make_a_line() {
        assert_eq!(parse(b"t stdout F "), Some(Line { time: "t", is_error: false, is_partial: false, content: b"" }));
        assert_eq!(parse(b"t stderr P:x a b").unwrap().content, b"a b");
        for bad in [&b""[..], b"t", b"t stdin F x", b"t stdout X x", b"t stdout F"] {
            assert_eq!(parse(bad), None);
        }
    }
}

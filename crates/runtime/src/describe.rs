//! Errors in the words that callers of OCI runtimes know.

use std::error::Error;
use std::io;

use carrack_sys::rustix::io::Errno;

/// The whole chain of an error as one line, joined by colons. What the system says is put as Go's runtimes put it: callers look for
/// "no such file or directory" and "permission denied" in lower case.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = match error.downcast_ref::<io::Error>() {
            Some(io) => describe_io(io),
            None => error.to_string(),
        };
        // A transparent wrapper repeats its cause.
        if !part.is_empty() && !text.ends_with(&part) {
            if !text.is_empty() {
                text += ": ";
            }
            text += &part;
        }
        next = error.source();
    }
    text
}

/// Where musl has a sentence of its own for an error number: the one that glibc and Go have, and callers look for.
const SENTENCES: &[(Errno, &str)] = &[
    (Errno::ADDRINUSE, "address already in use"),
    (Errno::BUSY, "device or resource busy"),
    (Errno::CHILD, "no child processes"),
    (Errno::DEADLK, "resource deadlock avoided"),
    (Errno::DQUOT, "disk quota exceeded"),
    (Errno::IO, "input/output error"),
    (Errno::LOOP, "too many levels of symbolic links"),
    (Errno::MFILE, "too many open files"),
    (Errno::NAMETOOLONG, "file name too long"),
    (Errno::NOMEM, "cannot allocate memory"),
    (Errno::NOTCONN, "transport endpoint is not connected"),
    (Errno::NOTSOCK, "socket operation on non-socket"),
    (Errno::NOTTY, "inappropriate ioctl for device"),
    (Errno::OPNOTSUPP, "operation not supported"),
    (Errno::OVERFLOW, "value too large for defined data type"),
    (Errno::RANGE, "numerical result out of range"),
    (Errno::TIMEDOUT, "connection timed out"),
    (Errno::XDEV, "invalid cross-device link"),
];

/// The system's sentence for an error number, without the number and with a small first letter.
pub fn describe_io(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(code) = error.raw_os_error() else { return text };
    if let Some((_, sentence)) = SENTENCES.iter().find(|(errno, _)| errno.raw_os_error() == code) {
        return (*sentence).to_owned();
    }
    let text = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
    match text.split_at_checked(1) {
        // "RFS-specific error" and the like stay as they are.
        Some((first, rest)) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == ' ') => {
            first.to_ascii_lowercase() + rest
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open {path}")]
    struct Open {
        path: &'static str,
        source: io::Error,
    }

    /// In the unit tests of a program with glibc this is true of itself; the sentences are for the other one.
    #[test]
    fn the_sentences_are_those_of_glibc() {
        for (errno, sentence) in SENTENCES {
            let text = io::Error::from(*errno).to_string();
            if cfg!(target_env = "gnu") {
                assert!(text.to_ascii_lowercase().starts_with(&format!("{sentence} (os error")), "{text}");
            }
            assert_eq!(describe_io(&io::Error::from(*errno)), *sentence);
        }
    }

    #[test]
    fn the_chain_is_one_line_in_the_fields_words() {
        let error = Open { path: "/x", source: io::Error::from_raw_os_error(2) };
        assert_eq!(describe(&error), "open /x: no such file or directory");
        assert_eq!(describe_io(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(describe_io(&io::Error::from_raw_os_error(21)), "is a directory");
    }
}

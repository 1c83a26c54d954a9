//! The monitor's own log: `monitor.log` in the pod's run directory.
//!
//! For people who look for the cause of trouble. It lives on a tmpfs, so it is bounded: what comes after the bound is lost.

use std::error::Error;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use carrack_words::Timestamp;

/// Name of the file in the pod's run directory.
pub const JOURNAL_FILE: &str = "monitor.log";
const MAX_BYTES: u64 = 256 << 10;

/// Where the monitor notes what nobody waits to be told.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens the journal for appending.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join(JOURNAL_FILE))?;
        Ok(Self { file })
    }

    /// The file, as the standard error of programs the monitor starts.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Notes one line. A failure to do so has nobody to go to.
    pub fn note(&self, text: impl Display) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() < MAX_BYTES) {
            let line = format!("{} {text}\n", Timestamp::now());
            let _ = (&self.file).write_all(line.as_bytes());
        }
    }

    /// Notes an error with its causes.
    pub fn note_error(&self, error: &dyn Error) {
        self.note(chain(error));
    }
}

/// An error's text with all its causes, for a reader who sees nothing else of it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

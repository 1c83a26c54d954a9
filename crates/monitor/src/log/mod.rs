//! A container's log: output in, records of the CRI format out.
//!
//! [`Splitter`] cuts a stream into lines and pieces, [`Encoder`] writes them down with their time, [`LogFile`] puts the bytes into
//! the file. Only the last one does I/O.

mod file;
mod record;
mod splitter;

pub use file::{LogFile, LogFileError, LogTrouble};
pub use record::{Encoder, LogStream};
pub use splitter::{Piece, Splitter, Tag};

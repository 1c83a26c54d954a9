//! What is said to the caller: results on standard output, whose failure ends the command, and remarks on standard error.
//!
//! `println!` panics when its reader is gone or the disk behind it is full; everything that is printed goes through here instead.

use std::fmt;
use std::io::{self, Write};

use crate::failure::Failure;

/// Writes text to standard output, with nothing after it.
pub fn text(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    write_to(&mut io::stdout().lock(), text).map_err(Failure::output)
}

fn write_to(out: &mut impl Write, text: fmt::Arguments<'_>) -> io::Result<()> {
    out.write_fmt(text)?;
    // A buffer that cannot be emptied at exit would be lost without a word.
    out.flush()
}

/// Says something beside the results. Who cannot read it has nowhere else to be told.
pub fn aside(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a line on standard output, like `println!`, and returns the failure instead of a panic.
macro_rules! say {
    ($($text:tt)*) => { $crate::print::text(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line on standard error, like `eprintln!`, and lets a failure pass.
macro_rules! remark {
    ($($text:tt)*) => { $crate::print::aside(format_args!($($text)*)) };
}

pub(crate) use {remark, say};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn a_full_disk_is_an_error_and_no_panic() {
        let mut full = io::BufWriter::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let error = write_to(&mut full, format_args!("text\n")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let failure = Failure::output(error);
        assert!(failure.chain().starts_with("write standard output: No space left on device"), "{}", failure.chain());
        assert_eq!((failure.exit_code(false), failure.exit_code(true)), (1, 125));
        // It is in the buffer still; dropping that would try again.
        drop(full.into_parts());
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_command_in_silence() {
        let failure = Failure::output(io::ErrorKind::BrokenPipe.into());
        assert!(failure.is_silent());
        assert_eq!((failure.exit_code(false), failure.exit_code(true)), (141, 141));
    }
}

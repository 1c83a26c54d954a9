//! Writes pieces down as records: `TIME STREAM TAG CONTENT\n` (Kubernetes' CRI log format).

use carrack_words::Timestamp;

use super::{Piece, Tag};

/// The stream a record names. All output of a terminal is `stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Appends records to a buffer; keeps the text of the current second, since formatting a date costs more than the rest.
#[derive(Debug)]
pub struct Encoder {
    second: i64,
    /// `YYYY-MM-DDThh:mm:ss.` of `second`.
    text: String,
}

const NANOSECONDS: i64 = 1_000_000_000;
/// Length of `YYYY-MM-DDThh:mm:ss.`.
const SECOND_TEXT_BYTES: usize = 20;

impl Default for Encoder {
    fn default() -> Self {
        // No second of the clock is i64::MIN, so the first record formats its date.
        Self { second: i64::MIN, text: String::new() }
    }
}

impl Encoder {
    /// Appends one record to `out`.
    pub fn append(&mut self, at: Timestamp, stream: LogStream, piece: Piece<'_>, out: &mut Vec<u8>) {
        self.append_time(at, out);
        out.extend_from_slice(match (stream, piece.tag) {
            (LogStream::Stdout, Tag::Full) => b" stdout F ",
            (LogStream::Stdout, Tag::Partial) => b" stdout P ",
            (LogStream::Stderr, Tag::Full) => b" stderr F ",
            (LogStream::Stderr, Tag::Partial) => b" stderr P ",
        });
        out.extend_from_slice(piece.content);
        out.push(b'\n');
    }

    fn append_time(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        let nanoseconds = at.nanoseconds().max(0);
        let second = nanoseconds / NANOSECONDS;
        if second != self.second {
            self.text = Timestamp::from_nanoseconds(second * NANOSECONDS).to_string();
            self.text.truncate(SECOND_TEXT_BYTES);
            self.second = second;
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut digits = *b"000000000Z";
        let mut rest = nanoseconds % NANOSECONDS;
        for digit in digits[..9].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_is_time_stream_tag_and_content() {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        let at = Timestamp::from_nanoseconds(1_475_744_949_669_794_202);
        encoder.append(at, LogStream::Stdout, Piece { tag: Tag::Full, content: b"hello" }, &mut out);
        encoder.append(at, LogStream::Stderr, Piece { tag: Tag::Partial, content: b"first part" }, &mut out);
        encoder.append(at, LogStream::Stdout, Piece { tag: Tag::Full, content: b"" }, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2016-10-06T09:09:09.669794202Z stdout F hello\n\
             2016-10-06T09:09:09.669794202Z stderr P first part\n\
             2016-10-06T09:09:09.669794202Z stdout F \n"
        );
    }

    proptest! {
        #[test]
        fn the_time_is_printed_as_everywhere_else(times in proptest::collection::vec(0i64..4_000_000_000_000_000_000, 1..8)) {
            let mut encoder = Encoder::default();
            for time in times {
                // Twice in one second, so that the kept text is used too.
                for time in [time, time / NANOSECONDS * NANOSECONDS] {
                    let at = Timestamp::from_nanoseconds(time);
                    let mut out = Vec::new();
                    encoder.append_time(at, &mut out);
                    prop_assert_eq!(String::from_utf8(out).unwrap(), at.to_string());
                }
            }
        }
    }
}

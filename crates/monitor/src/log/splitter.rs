//! Cuts the bytes of a stream into the pieces that a log records.
//!
//! A line is what stands before a newline; one `\r` before the newline belongs to it and is dropped. A line longer than
//! [`MAX_PIECE_BYTES`] becomes several pieces, all but the last of them partial. What stands after the last newline when the stream
//! ends is partial too.

/// The longest content of one record, as in containerd.
pub const MAX_PIECE_BYTES: usize = 16384;

/// What a record's tag says about its piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// The line goes on in the stream's next record.
    Partial,
    /// The line ends here.
    Full,
}

/// A part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Whether the line ends with it.
    pub tag: Tag,
    /// Its bytes, without a newline.
    pub content: &'a [u8],
}

/// The state of one stream between two reads: the begun piece that is not recorded yet.
#[derive(Debug, Default)]
pub struct Splitter {
    /// At most [`MAX_PIECE_BYTES`] bytes, and one `\r` more that may belong to a newline to come.
    begun: Vec<u8>,
}

impl Splitter {
    /// Takes bytes of the stream, and hands each piece that is complete to `record`. How the stream is cut into calls changes nothing.
    pub fn push(&mut self, mut bytes: &[u8], mut record: impl FnMut(Piece<'_>)) {
        while let Some(newline) = bytes.iter().position(|&byte| byte == b'\n') {
            let (rest_of_line, after) = (&bytes[..newline], &bytes[newline + 1..]);
            bytes = after;
            if self.begun.is_empty() {
                full_line(rest_of_line, &mut record);
            } else {
                self.extend(rest_of_line, &mut record);
                full_line(&self.begun, &mut record);
                self.begun.clear();
            }
        }
        self.extend(bytes, &mut record);
        if self.begun.is_empty() {
            // Most programs write whole lines: between them a stream keeps no memory.
            self.begun = Vec::new();
        }
    }

    /// The stream has ended: hands out what no newline followed.
    pub fn finish(&mut self, mut record: impl FnMut(Piece<'_>)) {
        let begun = std::mem::take(&mut self.begun);
        for content in begun.chunks(MAX_PIECE_BYTES) {
            record(Piece { tag: Tag::Partial, content });
        }
    }

    /// Appends bytes without a newline, and hands out pieces that are certainly not the last of their line.
    fn extend(&mut self, mut bytes: &[u8], record: &mut impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = MAX_PIECE_BYTES + 1 - self.begun.len();
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            self.begun.extend_from_slice(taken);
            bytes = rest;
            // A `\r` in the place after the last may be the first half of a line end; the next byte tells.
            let is_over =
                self.begun.len() > MAX_PIECE_BYTES && (self.begun[MAX_PIECE_BYTES] != b'\r' || !bytes.is_empty());
            if is_over {
                record(Piece { tag: Tag::Partial, content: &self.begun[..MAX_PIECE_BYTES] });
                self.begun.drain(..MAX_PIECE_BYTES);
            } else if self.begun.len() > MAX_PIECE_BYTES {
                return;
            }
        }
    }
}

/// Records a line that has ended.
fn full_line(line: &[u8], record: &mut impl FnMut(Piece<'_>)) {
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    while rest.len() > MAX_PIECE_BYTES {
        let (content, after) = rest.split_at(MAX_PIECE_BYTES);
        record(Piece { tag: Tag::Partial, content });
        rest = after;
    }
    record(Piece { tag: Tag::Full, content: rest });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Tag, Vec<u8>);

    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
        let (mut splitter, mut pieces) = (Splitter::default(), Vec::new());
        let mut keep = |piece: Piece<'_>| pieces.push((piece.tag, piece.content.to_vec()));
        for chunk in chunks {
            splitter.push(chunk, &mut keep);
        }
        splitter.finish(&mut keep);
        pieces
    }

    fn full(content: impl AsRef<[u8]>) -> Owned {
        (Tag::Full, content.as_ref().to_vec())
    }

    fn partial(content: impl AsRef<[u8]>) -> Owned {
        (Tag::Partial, content.as_ref().to_vec())
    }

    #[test]
    fn lines_become_full_pieces_and_the_unended_last_one_a_partial_piece() {
        for (stream, pieces) in [
            ("", vec![]),
            ("a\n", vec![full("a")]),
            ("\n\n", vec![full(""), full("")]),
            ("a\nb", vec![full("a"), partial("b")]),
            ("a\r\nb\rc\n", vec![full("a"), full("b\rc")]),
            ("a\r\r\n", vec![full("a\r")]),
            ("\r\n", vec![full("")]),
            ("a\r", vec![partial("a\r")]),
        ] {
            assert_eq!(split([stream.as_bytes()]), pieces, "{stream:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_and_only_its_last_piece_is_full() {
        let max = "x".repeat(MAX_PIECE_BYTES);
        for (stream, pieces) in [
            (format!("{max}\n"), vec![full(&max)]),
            (format!("{max}\r\n"), vec![full(&max)]),
            (format!("{max}\r\r\n"), vec![partial(&max), full("\r")]),
            (format!("{max}y\n"), vec![partial(&max), full("y")]),
            (format!("{max}{max}\n"), vec![partial(&max), full(&max)]),
            (format!("{max}{max}y\nz\n"), vec![partial(&max), partial(&max), full("y"), full("z")]),
            (max.clone(), vec![partial(&max)]),
            (format!("{max}y"), vec![partial(&max), partial("y")]),
            (format!("{max}\r"), vec![partial(&max), partial("\r")]),
        ] {
            assert_eq!(split([stream.as_bytes()]), pieces, "{} bytes", stream.len());
        }
    }

    /// Streams in which line ends, carriage returns and lengths about the limit are frequent.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            3 => Just(b"\n".to_vec()),
            2 => Just(b"\r".to_vec()),
            2 => (0usize..4).prop_map(|n| vec![b'a'; n]),
            2 => (MAX_PIECE_BYTES - 2..MAX_PIECE_BYTES + 3).prop_map(|n| vec![b'b'; n]),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_into_reads_changes_nothing(
            stream in streams(),
            sizes in proptest::collection::vec(1usize..40_000, 1..6),
            tiny in any::<bool>(),
        ) {
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let size = if tiny { size % 3 + 1 } else { *size };
                let (chunk, after) = rest.split_at(size.min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(split(chunks), split([&stream[..]]));
        }

        #[test]
        fn joined_pieces_are_the_lines_of_the_stream(stream in streams()) {
            let mut joined = Vec::new();
            for (tag, content) in split([&stream[..]]) {
                prop_assert!(content.len() <= MAX_PIECE_BYTES);
                joined.extend(content);
                if tag == Tag::Full {
                    joined.push(b'\n');
                }
            }
            // The naive model: lines by newline, one `\r` dropped from each that has ended.
            let mut lines: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
            let last = lines.pop().expect("split gives at least one part");
            let mut model = Vec::new();
            for line in lines {
                model.extend(line.strip_suffix(b"\r").unwrap_or(line));
                model.push(b'\n');
            }
            model.extend(last);
            prop_assert_eq!(joined, model);
        }
    }
}

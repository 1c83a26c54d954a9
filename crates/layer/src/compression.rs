//! Finds out how a layer is compressed, and undoes it.
//!
//! The media type is not asked: registries and builders get it wrong, and the first bytes cannot lie. gzip: RFC 1952, several members one after
//! the other. zstd: RFC 8878, several frames, skippable ones among them.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Limits, UnpackError};

/// How a layer was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Decides by the first bytes of a stream, of which there may be fewer than six.
fn detect(head: &[u8]) -> Result<Compression, UnpackError> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A skippable frame may come first; sixteen magic numbers are set aside for them.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(UnpackError::Compression { name: "bzip2" }),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(UnpackError::Compression { name: "xz" }),
        _ => Ok(Compression::Plain),
    }
}

/// Compressed input read in steps large enough that the source's cost per call does not matter.
const INPUT_BYTES: usize = 256 << 10;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, Tap<R>>>;

/// A layer's uncompressed bytes.
pub(crate) struct Inflate<R: Read> {
    decoder: Decoder<R>,
    compression: Compression,
    seen: Arc<Seen>,
}

enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<R>>),
}

impl<R: Read> Inflate<R> {
    pub(crate) fn new(input: R, limits: &Limits) -> Result<Self, UnpackError> {
        let seen = Arc::new(Seen::default());
        let mut tap = Tap { input, seen: Arc::clone(&seen) };
        let mut head = Vec::with_capacity(8);
        (&mut tap).take(6).read_to_end(&mut head).map_err(|source| UnpackError::Read { source })?;
        let compression = detect(&head)?;
        let input = BufReader::with_capacity(INPUT_BYTES, Cursor::new(head).chain(tap));
        let decoder = match compression {
            Compression::Plain => Decoder::Plain(input),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let corrupt = |source| UnpackError::Corrupt { compression, source };
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
                decoder.window_log_max(limits.zstd_window_log).map_err(corrupt)?;
                Decoder::Zstd(decoder)
            }
        };
        Ok(Self { decoder, compression, seen })
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Compressed bytes taken from the source so far.
    pub(crate) fn compressed_bytes(&self) -> u64 {
        self.seen.bytes.load(Ordering::Relaxed)
    }

    /// Fills `buffer` with the next `full` bytes, fewer if the stream ends; `false` then. `so_far` counts the bytes of earlier calls.
    pub(crate) fn fill(&mut self, buffer: &mut Vec<u8>, full: usize, so_far: u64) -> Result<bool, UnpackError> {
        let mut length = 0;
        // A buffer that comes back has its full length already: nothing is cleared.
        buffer.resize(full, 0);
        while length < full {
            let result = match &mut self.decoder {
                Decoder::Plain(input) => input.read(&mut buffer[length..]),
                Decoder::Gzip(decoder) => decoder.read(&mut buffer[length..]),
                Decoder::Zstd(decoder) => decoder.read(&mut buffer[length..]),
            };
            match result {
                Ok(0) => {
                    buffer.truncate(length);
                    return Ok(false);
                }
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.blame(source, so_far + length as u64)),
            }
        }
        Ok(true)
    }

    /// Tells a failing source from a stream that is damaged or cut.
    fn blame(&self, source: io::Error, at_bytes: u64) -> UnpackError {
        if self.seen.failed.load(Ordering::Relaxed) {
            return UnpackError::Read { source };
        }
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return UnpackError::Truncated { what: "the compressed stream", at_bytes };
        }
        UnpackError::Corrupt { compression: self.compression, source }
    }
}

/// What went through a [`Tap`].
#[derive(Default)]
struct Seen {
    bytes: AtomicU64,
    failed: AtomicBool,
}

/// Counts what is read and remembers whether the source itself failed.
struct Tap<R> {
    input: R,
    seen: Arc<Seen>,
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(count) => {
                self.seen.bytes.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.seen.failed.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn inflate(bytes: &[u8]) -> Result<(Compression, Vec<u8>), UnpackError> {
        let mut inflate = Inflate::new(bytes, &Limits::default())?;
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let more = inflate.fill(&mut buffer, 1000, all.len() as u64)?;
            all.extend_from_slice(&buffer);
            if !more {
                assert_eq!(inflate.compressed_bytes(), bytes.len() as u64);
                return Ok((inflate.compression(), all));
            }
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let text = b"hello ".repeat(1000);
        let bytes = [gzip(&text), gzip(b""), gzip(b"world")].concat();
        assert_eq!(inflate(&bytes).unwrap(), (Compression::Gzip, [&text[..], b"world"].concat()));
    }

    #[test]
    fn skippable_zstd_frames_are_skipped_wherever_they_stand() {
        let skippable =
            |payload: &[u8]| [&[0x53, 0x2a, 0x4d, 0x18][..], &(payload.len() as u32).to_le_bytes(), payload].concat();
        let frame = |text: &[u8]| zstd::stream::encode_all(text, 3).unwrap();
        let bytes =
            [skippable(b"x"), frame(b"hello "), skippable(b"toc"), frame(b"world"), skippable(&[0; 5000])].concat();
        assert_eq!(inflate(&bytes).unwrap(), (Compression::Zstd, b"hello world".to_vec()));
    }

    #[test]
    fn no_bytes_are_a_plain_stream_without_bytes() {
        assert_eq!(inflate(b"").unwrap(), (Compression::Plain, vec![]));
    }

    #[test]
    fn each_compression_that_is_cut_is_reported_as_truncated() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for whole in [gzip(&text), zstd::stream::encode_all(&text[..], 1).unwrap()] {
            for cut in [whole.len() - 1, whole.len() / 2, 11] {
                let error = inflate(&whole[..cut]).unwrap_err();
                assert!(matches!(error, UnpackError::Truncated { .. }), "{cut}: {error:?}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_reported_as_damage() {
        let mut bytes = gzip(&b"hello ".repeat(1000));
        let end = bytes.len();
        bytes[end - 6] ^= 1;
        assert!(matches!(inflate(&bytes).unwrap_err(), UnpackError::Corrupt { compression: Compression::Gzip, .. }));
        let trailing = [gzip(b"x"), b"garbage of some length".to_vec()].concat();
        assert!(matches!(inflate(&trailing).unwrap_err(), UnpackError::Corrupt { .. }));
    }

    #[test]
    fn compressions_that_layers_do_not_have_are_named() {
        for (head, name) in [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0\0", "xz")] {
            assert_eq!(inflate(head).unwrap_err().to_string(), UnpackError::Compression { name }.to_string());
        }
    }

    #[test]
    fn a_failing_source_is_told_from_a_damaged_stream() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("connection reset"))
            }
        }
        let head = gzip(&b"hello ".repeat(1000));
        let mut inflate = Inflate::new(head[..20].chain(Broken), &Limits::default()).unwrap();
        let error = inflate.fill(&mut Vec::new(), 4096, 0).unwrap_err();
        assert!(
            matches!(&error, UnpackError::Read { source } if source.to_string() == "connection reset"),
            "{error:?}"
        );
    }
}

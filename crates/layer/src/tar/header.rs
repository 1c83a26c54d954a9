//! One header block.

use super::BLOCK;
use crate::HeaderProblem;

/// A number as a header field holds it. Octal text, or base-256 with the top bit set.
pub type Number = i64;

/// The fields of a header block. Texts end at their first NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name, with ustar's or star's prefix before it.
    pub name: Vec<u8>,
    /// Mode.
    pub mode: Number,
    /// Owner.
    pub uid: Number,
    /// Group.
    pub gid: Number,
    /// Bytes of data that follow.
    pub size: Number,
    /// Seconds since 1970.
    pub mtime: Number,
    /// Type.
    pub flag: u8,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Device number, major part; zero in formats without one.
    pub major: Number,
    /// Device number, minor part.
    pub minor: Number,
    /// Whether the magic is GNU's: only then does a sparse map stand where ustar has its prefix.
    pub gnu: bool,
}

impl Header {
    /// Parses a block. `None` if it is all zeros.
    pub fn parse(block: &[u8; BLOCK]) -> Result<Option<Header>, HeaderProblem> {
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        check_sum(block)?;
        let posix = &block[257..263] == b"ustar\0";
        let star = posix && &block[508..512] == b"tar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let named = |range: std::ops::Range<usize>, field| number(&block[range]).ok_or(HeaderProblem::Number { field });
        let device = |range, field| if posix || gnu { named(range, field) } else { Ok(0) };
        let prefix = match (star, posix) {
            (true, _) => text(&block[345..476]),
            (false, true) => text(&block[345..500]),
            (false, false) => &[],
        };
        let mut name = prefix.to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(text(&block[0..100]));
        Ok(Some(Header {
            name,
            mode: named(100..108, "mode")?,
            uid: named(108..116, "uid")?,
            gid: named(116..124, "gid")?,
            size: named(124..136, "size")?,
            mtime: named(136..148, "mtime")?,
            flag: block[156],
            link: text(&block[157..257]).to_vec(),
            major: device(329..337, "devmajor")?,
            minor: device(337..345, "devminor")?,
            gnu,
        }))
    }

    /// Prints the block; `None` if a text does not fit (a prefix is not used). The inverse of [`Header::parse`] for what fits.
    pub fn print(&self) -> Option<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        let mut put = |start: usize, width: usize, bytes: &[u8]| {
            let fits = bytes.len() <= width;
            if fits {
                block[start..start + bytes.len()].copy_from_slice(bytes);
            }
            fits
        };
        let texts = put(0, 100, &self.name) && put(157, 100, &self.link);
        let fields = [
            (100, 8, self.mode),
            (108, 8, self.uid),
            (116, 8, self.gid),
            (124, 12, self.size),
            (136, 12, self.mtime),
            (329, 8, self.major),
            (337, 8, self.minor),
        ];
        let numbers = fields.iter().all(|&(start, width, value)| match print_number(value, width) {
            Some(bytes) => put(start, width, &bytes),
            None => false,
        });
        let magic: &[u8] = if self.gnu { b"ustar  \0" } else { b"ustar\x0000" };
        let rest = put(257, 8, magic) && put(156, 1, &[self.flag]);
        if !(texts && numbers && rest) {
            return None;
        }
        let sum = format!("{:06o}\0 ", sums(&block).0);
        block[148..156].copy_from_slice(sum.as_bytes());
        Some(block)
    }
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// The sum of a header's bytes, its own field taken as spaces; unsigned as POSIX wants it, and signed as some old tars wrote it.
fn sums(block: &[u8; BLOCK]) -> (i64, i64) {
    block.iter().enumerate().fold((0, 0), |(unsigned, signed), (at, &byte)| {
        let byte = if (148..156).contains(&at) { b' ' } else { byte };
        (unsigned + i64::from(byte), signed + i64::from(byte as i8))
    })
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), HeaderProblem> {
    let stored = octal(&block[148..156]).ok_or(HeaderProblem::Checksum)?;
    let (unsigned, signed) = sums(block);
    if stored == unsigned || stored == signed { Ok(()) } else { Err(HeaderProblem::Checksum) }
}

/// A numeric field. `None` if it is neither octal text nor a base-256 number that fits.
pub(super) fn number(field: &[u8]) -> Option<Number> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// Octal digits, with spaces and NULs before and behind. An empty field is zero.
fn octal(field: &[u8]) -> Option<Number> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    text(&field[start..end]).iter().try_fold(0i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// GNU's extension: a big-endian two's complement number; the first byte's top bit only marks it.
fn base_256(field: &[u8]) -> Option<Number> {
    let negative = field[0] & 0x40 != 0;
    let start = if negative { -1i128 } else { 0 };
    let value = field.iter().enumerate().try_fold(start, |value, (at, &byte)| {
        // The mark is no digit: it is given the sign's value.
        let byte = match (at, negative) {
            (0, true) => byte | 0x80,
            (0, false) => byte & 0x7f,
            _ => byte,
        };
        let next = (value << 8) | i128::from(byte);
        (i64::MIN as i128..=i64::MAX as i128).contains(&next).then_some(next)
    })?;
    i64::try_from(value).ok()
}

/// Octal with a closing NUL if that fits, base-256 otherwise; `None` if neither does.
fn print_number(value: Number, width: usize) -> Option<Vec<u8>> {
    let digits = format!("{value:0width$o}\0", width = width - 1);
    if value >= 0 && digits.len() == width {
        return Some(digits.into_bytes());
    }
    let mut bytes = vec![if value < 0 { 0xff } else { 0 }; width];
    let raw = value.to_be_bytes();
    if width >= raw.len() {
        bytes[width - raw.len()..].copy_from_slice(&raw);
    }
    bytes[0] |= 0x80;
    (base_256(&bytes) == Some(value)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = Header> {
        let text = |longest| prop::collection::vec(1u8.., 0..=longest);
        let narrow = -(1i64 << 55)..1 << 55;
        let numbers =
            (narrow.clone(), narrow.clone(), narrow.clone(), narrow.clone(), narrow, any::<i64>(), any::<i64>());
        (text(100), text(100), numbers, any::<u8>(), any::<bool>()).prop_map(|(name, link, n, flag, gnu)| Header {
            name,
            link,
            mode: n.0,
            uid: n.1,
            gid: n.2,
            major: n.3,
            minor: n.4,
            size: n.5,
            mtime: n.6,
            flag,
            gnu,
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_header(header in header()) {
            let block = header.print().expect("everything generated fits");
            prop_assert_eq!(Header::parse(&block), Ok(Some(header)));
        }

        #[test]
        fn any_block_parses_or_is_refused(bytes in prop::collection::vec(any::<u8>(), BLOCK)) {
            let mut block: [u8; BLOCK] = bytes.try_into().expect("it has one block's length");
            let _ = Header::parse(&block);
            // And once more behind a checksum that lets it pass.
            let sum = format!("{:06o}\0 ", sums(&block).0);
            block[148..156].copy_from_slice(sum.as_bytes());
            let _ = Header::parse(&block);
        }
    }

    #[test]
    fn numbers_in_all_their_forms() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"644\0junk", Some(0o644)),
            (b"64x\0", None),
            (b"-1\0", None),
            (b"777777777777777777777777", None),
            (b"\x80\0\0\0\0\0\x01\x00", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), want, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let header = Header {
            name: b"x".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            flag: b'0',
            link: vec![],
            major: 0,
            minor: 0,
            gnu: false,
        };
        let mut block = header.print().unwrap();
        block[0] = b'y';
        assert_eq!(Header::parse(&block), Err(HeaderProblem::Checksum));
        assert_eq!(Header::parse(&[0; BLOCK]), Ok(None));
    }
}

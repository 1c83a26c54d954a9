//! PAX extension records: `length key=value\n`, again and again.

use super::{Extent, Xattr};
use crate::{HeaderProblem, Shown, Time};

/// What the records of one extension header override.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<i64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<Time>,
    pub xattrs: Vec<Xattr>,
    pub sparse: PaxSparse,
}

/// GNU's sparse records, formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub version: (Option<i64>, Option<i64>),
    pub name: Option<Vec<u8>>,
    pub size: Option<i64>,
    pub count: Option<i64>,
    /// 0.0 repeats its records, 0.1 has one list; both end up here.
    pub map: Vec<Extent>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    /// Parses the data of one extension header. A later record of a key replaces an earlier one; an empty value takes it back.
    pub fn parse(data: &[u8], xattr_limit: usize) -> Result<Pax, HeaderProblem> {
        let mut pax = Pax::default();
        let mut offset = None;
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) = split_record(rest).ok_or(HeaderProblem::PaxRecord)?;
            rest = after;
            let invalid = || HeaderProblem::PaxValue { key: Shown::new(key) };
            let number = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or_else(invalid) };
            let text = || match value {
                _ if value.contains(&0) => Err(invalid()),
                b"" => Ok(None),
                _ => Ok(Some(value.to_vec())),
            };
            match key {
                b"path" => pax.path = text()?,
                b"linkpath" => pax.link = text()?,
                b"size" => pax.size = number()?,
                b"uid" => pax.uid = number()?,
                b"gid" => pax.gid = number()?,
                b"mtime" if value.is_empty() => pax.mtime = None,
                b"mtime" => pax.mtime = Some(time(value).ok_or_else(invalid)?),
                b"GNU.sparse.major" => pax.sparse.version.0 = number()?,
                b"GNU.sparse.minor" => pax.sparse.version.1 = number()?,
                b"GNU.sparse.name" => pax.sparse.name = text()?,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse.size = number()?,
                b"GNU.sparse.numblocks" => pax.sparse.count = number()?,
                b"GNU.sparse.offset" => match offset.replace(unsigned(value).ok_or_else(invalid)?) {
                    None => {}
                    Some(_) => return Err(invalid()),
                },
                b"GNU.sparse.numbytes" => {
                    let offset = offset.take().ok_or_else(invalid)?;
                    pax.sparse.map.push(Extent { offset, length: unsigned(value).ok_or_else(invalid)? });
                }
                b"GNU.sparse.map" => pax.sparse.map = list(value).ok_or_else(invalid)?,
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR) {
                        pax.set_xattr(name, value, xattr_limit)?;
                    }
                }
            }
        }
        if offset.is_some() {
            return Err(HeaderProblem::SparseMap { what: "an offset has no length" });
        }
        Ok(pax)
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8], limit: usize) -> Result<(), HeaderProblem> {
        // Names reach the kernel as C strings of at most XATTR_NAME_MAX bytes, values have at most XATTR_SIZE_MAX.
        if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 64 << 10 {
            return Err(HeaderProblem::PaxValue { key: Shown::new([XATTR, name].concat()) });
        }
        let full = self.xattrs.len() == limit;
        match self.xattrs.iter_mut().find(|xattr| xattr.name == name) {
            Some(xattr) => xattr.value = value.to_vec(),
            None if full => return Err(HeaderProblem::TooManyXattrs { limit }),
            None => self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() }),
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, what follows.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(unsigned(&data[..space])?).ok()?;
    // "5 k=v\n" is the shortest there is: the space, a key's byte, '=' and the newline.
    if length < space + 4 || length > data.len() {
        return None;
    }
    let (record, after) = data.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, after))
}

pub(super) fn unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn decimal(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0i64.checked_sub_unsigned(unsigned(digits)?),
        None => unsigned(text)?.try_into().ok(),
    }
}

/// `offset,length,offset,length,…`
fn list(text: &[u8]) -> Option<Vec<Extent>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers = text.split(|&byte| byte == b',').map(unsigned).collect::<Option<Vec<_>>>()?;
    let pairs = numbers.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| Extent { offset: pair[0], length: pair[1] }).collect())
}

/// Seconds with an optional fraction, of which nine digits count.
fn time(text: &[u8]) -> Option<Time> {
    let dot = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = dot.map_or((text, &b""[..]), |dot| (&text[..dot], &text[dot + 1..]));
    let seconds = decimal(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    // "-1.25" is a quarter before -1; the kernel counts nanoseconds forwards.
    if whole.starts_with(b"-") && nanoseconds > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let bare = key.len() + value.len() + 3;
        let length =
            (1..).map(|digits| bare + digits).find(|length| length.to_string().len() + bare == *length).unwrap();
        [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
    }

    proptest! {
        #[test]
        fn records_survive_printing(path in prop::collection::vec(1u8.., 1..300), value in prop::collection::vec(any::<u8>(), 0..200),
                                    uid in any::<i64>(), seconds in any::<i64>(), nanoseconds in 0u32..1_000_000_000) {
            let mtime = Time { seconds: seconds.max(0), nanoseconds };
            let data = [
                record(b"path", &path),
                record(b"uid", uid.to_string().as_bytes()),
                record(b"comment", b"a\nb=c"),
                record(b"SCHILY.xattr.user.x", &value),
                record(b"mtime", format!("{}.{:09}", mtime.seconds, mtime.nanoseconds).as_bytes()),
            ].concat();
            let want = Pax {
                path: Some(path),
                uid: Some(uid),
                mtime: Some(mtime),
                xattrs: vec![Xattr { name: b"user.x".to_vec(), value }],
                ..Pax::default()
            };
            prop_assert_eq!(Pax::parse(&data, 8), Ok(want));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(data in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Pax::parse(&data, 8);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5 a=b"[..],
            b"6 a=bc",
            b"4 =b\n",
            b"999999 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"-6 a=b\n",
            b"6 a b\n\n",
            b" 6 a=b\n",
            b"6\0a=b\n",
        ] {
            assert_eq!(Pax::parse(bad, 8), Err(HeaderProblem::PaxRecord), "{}", bad.escape_ascii());
        }
        let floods: Vec<u8> = (0..9).flat_map(|i| record(format!("SCHILY.xattr.user.{i}").as_bytes(), b"")).collect();
        assert_eq!(Pax::parse(&floods, 8), Err(HeaderProblem::TooManyXattrs { limit: 8 }));
        for (key, value) in [
            (&b"path"[..], &b"a\0b"[..]),
            (b"uid", b"1x"),
            (b"mtime", b"1.-2"),
            (b"SCHILY.xattr.", b""),
            (b"GNU.sparse.map", b"1"),
            (b"SCHILY.xattr.user.x", &[0; (64 << 10) + 1]),
        ] {
            let error = Pax::parse(&record(key, value), 8).unwrap_err();
            assert_eq!(error, HeaderProblem::PaxValue { key: Shown::new(key) });
        }
    }

    #[test]
    fn times_before_1970_count_nanoseconds_forwards() {
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(time(b"-0.5"), Some(Time { seconds: -1, nanoseconds: 500_000_000 }));
        assert_eq!(time(b"1350244992.023960108"), Some(Time { seconds: 1_350_244_992, nanoseconds: 23_960_108 }));
        assert_eq!(time(b"1.0000000019"), Some(Time { seconds: 1, nanoseconds: 1 }));
        assert_eq!(time(b"1."), Some(Time { seconds: 1, nanoseconds: 0 }));
        assert_eq!(time(b"."), None);
    }
}

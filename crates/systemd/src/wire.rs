//! Values as bytes and back (D-Bus specification, "Marshaling"); little-endian.

use crate::value::{MAX_DEPTH, Value, alignment, split_type};

/// Bytes are no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// They end too early, or a length says so.
    #[error("it ends in the middle of a value")]
    Short,
    /// A gap between values is not empty.
    #[error("it has something between its values")]
    Padding,
    /// A truth is neither 0 nor 1.
    #[error("it has a truth value other than 0 and 1")]
    Bool,
    /// A text is not UTF-8, holds a zero byte, or does not end in one.
    #[error("it has a faulty text")]
    Text,
    /// A type is unknown, or too deep.
    #[error("it has a value of an unknown type")]
    Type,
}

/// Bytes under construction.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        // What does not fit into 32 bits is refused by systemd as far too long for a message; there is no such text here.
        self.u32(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    pub(crate) fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend_from_slice(signature.as_bytes());
        self.bytes.push(0);
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(truth) => self.u32(u32::from(*truth)),
            Value::Int16(number) => self.aligned(2, &number.to_le_bytes()),
            Value::Uint16(number) => self.aligned(2, &number.to_le_bytes()),
            Value::Int32(number) => self.aligned(4, &number.to_le_bytes()),
            Value::Uint32(number) => self.aligned(4, &number.to_le_bytes()),
            Value::Int64(number) => self.aligned(8, &number.to_le_bytes()),
            Value::Uint64(number) => self.aligned(8, &number.to_le_bytes()),
            Value::Double(number) => self.aligned(8, &number.to_le_bytes()),
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Signature(signature) => self.signature(signature),
            Value::Array { of, values } => self.array(of, values),
            Value::Tuple(values) => {
                self.align(8);
                values.iter().for_each(|value| self.value(value));
            }
            Value::Variant(value) => {
                self.signature(&value.signature());
                self.value(value);
            }
        }
    }

    fn aligned(&mut self, to: usize, bytes: &[u8]) {
        self.align(to);
        self.bytes.extend_from_slice(bytes);
    }

    /// The length counts neither itself nor the gap before the first value.
    fn array(&mut self, of: &str, values: &[Value]) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment(of));
        let start = self.bytes.len();
        values.iter().for_each(|value| self.value(value));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Bytes being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A value of each of these types.
    pub(crate) fn values(&mut self, mut signature: &str) -> Result<Vec<Value>, WireError> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (first, rest) = split_type(signature).ok_or(WireError::Type)?;
            values.push(self.value(first, 0)?);
            signature = rest;
        }
        Ok(values)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(count).ok_or(WireError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(WireError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.align(N)?;
        self.take(N).map(|taken| taken.try_into().expect("as many bytes were taken"))
    }

    pub(crate) fn align(&mut self, to: usize) -> Result<(), WireError> {
        let gap = self.take(self.at.next_multiple_of(to) - self.at)?;
        if gap.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(WireError::Padding) }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array_of().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, WireError> {
        usize::try_from(self.u32()?).map_err(|_| WireError::Short)
    }

    fn text_of(&mut self, length: usize) -> Result<String, WireError> {
        let bytes = self.take(length)?;
        let is_ended = self.take(1)? == [0];
        match std::str::from_utf8(bytes) {
            Ok(text) if is_ended && !text.contains('\0') => Ok(text.to_owned()),
            _ => Err(WireError::Text),
        }
    }

    fn text(&mut self) -> Result<String, WireError> {
        let length = self.length()?;
        self.text_of(length)
    }

    fn signature(&mut self) -> Result<String, WireError> {
        let length = self.take(1)?[0];
        self.text_of(usize::from(length))
    }

    /// `signature` is one whole type.
    fn value(&mut self, signature: &str, depth: usize) -> Result<Value, WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::Type);
        }
        let letter = signature.as_bytes().first().ok_or(WireError::Type)?;
        Ok(match letter {
            b'y' => Value::Byte(self.take(1)?[0]),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(WireError::Bool),
            },
            b'n' => Value::Int16(i16::from_le_bytes(self.array_of()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.array_of()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.array_of()?)),
            b'u' => Value::Uint32(self.u32()?),
            b'x' => Value::Int64(i64::from_le_bytes(self.array_of()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.array_of()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.array_of()?)),
            b's' => Value::Text(self.text()?),
            b'o' => Value::Path(self.text()?),
            b'g' => Value::Signature(self.signature()?),
            b'a' => self.array(&signature[1..], depth)?,
            b'(' => {
                self.align(8)?;
                let mut members = &signature[1..signature.len() - 1];
                let mut values = Vec::new();
                while !members.is_empty() {
                    let (first, rest) = split_type(members).ok_or(WireError::Type)?;
                    values.push(self.value(first, depth + 1)?);
                    members = rest;
                }
                Value::Tuple(values)
            }
            b'v' => {
                let signature = self.signature()?;
                match split_type(&signature) {
                    Some((one, "")) => Value::Variant(Box::new(self.value(one, depth + 1)?)),
                    _ => return Err(WireError::Type),
                }
            }
            _ => return Err(WireError::Type),
        })
    }

    /// Every value takes at least a byte, so the length bounds how many there are.
    fn array(&mut self, of: &str, depth: usize) -> Result<Value, WireError> {
        let length = self.length()?;
        self.align(alignment(of))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(WireError::Short)?;
        let mut values = Vec::new();
        while self.at < end {
            values.push(self.value(of, depth + 1)?);
        }
        if self.at == end { Ok(Value::Array { of: of.to_owned(), values }) } else { Err(WireError::Short) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(values: &[Value]) -> (String, Vec<u8>) {
        let mut writer = Writer::default();
        values.iter().for_each(|value| writer.value(value));
        (values.iter().map(Value::signature).collect(), writer.bytes)
    }

    #[test]
    fn values_stand_where_the_specification_puts_them() {
        let pair = |name: &str, value| Value::Tuple(vec![Value::text(name), Value::Variant(Box::new(value))]);
        let values = [
            Value::Byte(7),
            Value::Bool(true),
            Value::Array { of: "(sv)".into(), values: vec![pair("A", Value::Uint64(1))] },
            Value::bytes(&[3]),
        ];
        let (signature, bytes) = written(&values);
        assert_eq!(signature, "yba(sv)ay");
        let want = [
            &[7, 0, 0, 0, 1, 0, 0, 0][..],
            // 32 bytes from the alignment to 8 on: "A", its variant's type, and the number aligned to 8.
            &[24, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, b'A', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 3],
        ];
        assert_eq!(bytes, want.concat());
        assert_eq!(Reader::new(&bytes).values(&signature).expect("what was written"), values);
    }

    #[test]
    fn an_empty_array_keeps_its_gap() {
        let values = [Value::Array { of: "t".into(), values: vec![] }, Value::Byte(1)];
        let (signature, bytes) = written(&values);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(Reader::new(&bytes).values(&signature).expect("what was written"), values);
    }

    #[test]
    fn what_is_no_value_is_refused_by_what_is_wrong() {
        for (signature, bytes, want) in [
            ("u", &[1, 0, 0][..], WireError::Short),
            ("yu", &[1, 1, 0, 0, 1, 0, 0, 0], WireError::Padding),
            ("b", &[2, 0, 0, 0], WireError::Bool),
            ("s", &[255, 255, 255, 255, 0], WireError::Short),
            ("s", &[1, 0, 0, 0, b'a', b'b'], WireError::Text),
            ("s", &[1, 0, 0, 0, 0xff, 0], WireError::Text),
            ("s", &[2, 0, 0, 0, b'a', 0, 0], WireError::Text),
            ("ay", &[255, 255, 255, 255, 0], WireError::Short),
            ("au", &[2, 0, 0, 0, 1, 0, 0, 0], WireError::Short),
            ("v", &[0, 0], WireError::Type),
            ("v", &[2, b'u', b'u', 0, 0, 0, 0, 0], WireError::Type),
            ("a{sv}", &[0, 0, 0, 0], WireError::Type),
        ] {
            assert_eq!(Reader::new(bytes).values(signature), Err(want), "{signature} {bytes:?}");
        }
        let nested = [1, b'v', 0].repeat(10_000);
        assert_eq!(Reader::new(&nested).values("v"), Err(WireError::Type), "too deep");
    }

    /// Any value at most so deep.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::Int16),
            any::<u16>().prop_map(Value::Uint16),
            any::<i32>().prop_map(Value::Int32),
            any::<u32>().prop_map(Value::Uint32),
            any::<i64>().prop_map(Value::Int64),
            any::<u64>().prop_map(Value::Uint64),
            (-1e300_f64..1e300).prop_map(Value::Double),
            "[^\0]{0,9}".prop_map(Value::Text),
            "/[a-z/]{0,9}".prop_map(Value::Path),
            Just(Value::Signature("a(sv)".into())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Tuple),
                inner.clone().prop_map(|value| Value::Variant(Box::new(value))),
                (inner, 0..4_usize)
                    .prop_map(|(value, count)| Value::Array { of: value.signature(), values: vec![value; count] }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec(any_value(), 0..5)) {
            let (signature, bytes) = written(&values);
            prop_assert_eq!(Reader::new(&bytes).values(&signature), Ok(values));
        }

        #[test]
        fn a_cut_or_changed_value_is_read_or_refused(value in any_value(), cut in 0..64_usize, at in 0..64_usize, byte in any::<u8>()) {
            let (signature, mut bytes) = written(std::slice::from_ref(&value));
            let whole = bytes.len();
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
            bytes.truncate(whole.saturating_sub(cut));
            // Whatever comes, it comes without a panic, and no larger than the bytes allow.
            let _ = Reader::new(&bytes).values(&signature);
        }

        #[test]
        fn noise_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), signature in "[ybnqiuxtdsogav()]{0,8}") {
            let _ = Reader::new(&bytes).values(&signature);
        }
    }
}

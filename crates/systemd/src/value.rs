//! The types of D-Bus that systemd's properties are made of (D-Bus specification, "Type System").

/// How deep values may lie in each other; the specification allows 64, nothing that systemd knows has more than four.
pub(crate) const MAX_DEPTH: usize = 16;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `o`: the path of an object.
    Path(String),
    /// `g`: a type, written down.
    Signature(String),
    /// `a`: values of one type.
    Array {
        /// Their type, which an empty array has too.
        of: String,
        /// Each of that type.
        values: Vec<Value>,
    },
    /// `(…)`: at least one value.
    Tuple(Vec<Value>),
    /// `v`: a value that brings its type along.
    Variant(Box<Value>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// `ay`
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Array { of: "y".into(), values: bytes.iter().copied().map(Self::Byte).collect() }
    }

    /// Its type.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int16(_) => "n".into(),
            Self::Uint16(_) => "q".into(),
            Self::Int32(_) => "i".into(),
            Self::Uint32(_) => "u".into(),
            Self::Int64(_) => "x".into(),
            Self::Uint64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array { of, .. } => format!("a{of}"),
            Self::Tuple(values) => format!("({})", values.iter().map(Self::signature).collect::<String>()),
            Self::Variant(_) => "v".into(),
        }
    }
}

/// The first whole type of a list of types, and the rest; none if there is no such type, or it is none that we know.
pub(crate) fn split_type(signature: &str) -> Option<(&str, &str)> {
    let end = type_end(signature.as_bytes(), 0, 0)?;
    // Every type is ASCII, so this is the edge of a letter.
    Some(signature.split_at(end))
}

fn type_end(letters: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    match letters.get(at)? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' => Some(at + 1),
        b'a' => type_end(letters, at + 1, depth + 1),
        b'(' => {
            let mut end = type_end(letters, at + 1, depth + 1)?;
            while letters.get(end)? != &b')' {
                end = type_end(letters, end, depth + 1)?;
            }
            Some(end + 1)
        }
        _ => None,
    }
}

/// What values of a type are aligned to, by its first letter.
pub(crate) fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(') => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_types_is_split_at_its_first_type() {
        for (list, want) in [
            ("uoss", Some(("u", "oss"))),
            ("a(sv)a(sa(sv))", Some(("a(sv)", "a(sa(sv))"))),
            ("(s(ii)v)x", Some(("(s(ii)v)", "x"))),
            ("", None),
            ("a", None),
            ("(", None),
            ("()", None),
            ("(s", None),
            ("a{sv}", None),
            ("z", None),
            ("é", None),
        ] {
            assert_eq!(split_type(list), want, "{list}");
        }
        assert_eq!(split_type(&"a".repeat(100_000)), None, "too deep");
    }
}

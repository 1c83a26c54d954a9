//! Properties of a unit from annotations: `org.systemd.property.NAME` = a value in GVariant's text form.
//!
//! Source: GLib, "GVariant Text Format"; as runc reads it, a number that says nothing else is an `int32`, and a name that ends in `Sec` stands for the
//! one in microseconds. Dictionaries and `maybe` values are refused: no property has such a type.

use carrack_words::Kind;

use crate::manager::Property;
use crate::value::{MAX_DEPTH, Value, split_type};

/// An annotation is no property.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// Its name.
    #[error("annotation {key} name incorrect: {reason}")]
    Name {
        /// The annotation.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Its value.
    #[error("annotation {key}={text} value parse error: {reason}")]
    Value {
        /// The annotation.
        key: String,
        /// Its value.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl AnnotationError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const KEY: &str = "org.systemd.property.";

/// The property that an annotation sets; none if it is about something else.
pub fn property_of_annotation(key: &str, text: &str) -> Option<Result<Property, AnnotationError>> {
    let name = key.strip_prefix(KEY)?;
    let name_fault = |reason| AnnotationError::Name { key: key.to_owned(), reason };
    let value_fault = |reason| AnnotationError::Value { key: key.to_owned(), text: text.to_owned(), reason };
    if name.len() < 3 {
        return Some(Err(name_fault("too short")));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(Err(name_fault("contains non-alphabetic character")));
    }
    let value = parse(text).and_then(|value| match seconds_name(name) {
        Some(name) => Ok((name, microseconds(&value)?)),
        None => Ok((name.to_owned(), value)),
    });
    Some(value.map_err(value_fault))
}

/// `TimeoutStopSec` is called `TimeoutStopUSec` on D-Bus.
fn seconds_name(name: &str) -> Option<String> {
    let stem = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|letter: char| letter.is_ascii_lowercase()))?;
    Some(format!("{stem}USec"))
}

fn microseconds(value: &Value) -> Result<Value, &'static str> {
    const SECOND: u64 = 1_000_000;
    let whole = |number: i128| u64::try_from(number).ok().and_then(|number| number.checked_mul(SECOND));
    let number = match value {
        Value::Byte(number) => whole((*number).into()),
        Value::Int16(number) => whole((*number).into()),
        Value::Uint16(number) => whole((*number).into()),
        Value::Int32(number) => whole((*number).into()),
        Value::Uint32(number) => whole((*number).into()),
        Value::Int64(number) => whole((*number).into()),
        Value::Uint64(number) => whole((*number).into()),
        Value::Double(number) => {
            let scaled = number * SECOND as f64;
            (0.0..u64::MAX as f64).contains(&scaled).then_some(scaled as u64)
        }
        _ => return Err("not a number"),
    };
    number.map(Value::Uint64).ok_or("not a time")
}

fn parse(text: &str) -> Result<Value, &'static str> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.skip_blank();
    match parser.rest {
        // Whoever reads the value learns its type from at most so many letters.
        "" if value.signature().len() > 255 => Err("its type is too long"),
        "" => Ok(value),
        _ => Err("something follows the value"),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_blank();
        self.rest.chars().next()
    }

    fn take(&mut self, letter: char) -> bool {
        self.skip_blank();
        let rest = self.rest.strip_prefix(letter);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self, is_in_word: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|letter| !is_in_word(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value; of the type `want`, if that is known.
    fn value(&mut self, want: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        if depth > MAX_DEPTH {
            return Err("too deep");
        }
        match self.peek().ok_or("a value is missing")? {
            '@' => {
                self.take('@');
                let signature = self.word(|letter| letter.is_ascii_alphabetic() || "()".contains(letter));
                match split_type(signature) {
                    Some((_, "")) => self.value(Some(signature), depth + 1),
                    _ => Err("no such type"),
                }
            }
            '[' => self.array(want, depth),
            '(' => self.tuple(want, depth),
            '<' => self.variant(want, depth),
            '\'' | '"' => string(self.quoted()?, want),
            'b' if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => self.byte_string(want),
            letter
                if letter.is_ascii_alphabetic() && !self.rest.starts_with("inf") && !self.rest.starts_with("nan") =>
            {
                match self.word(|letter| letter.is_ascii_alphanumeric()) {
                    "true" => boolean(true, want),
                    "false" => boolean(false, want),
                    word => self.value(Some(type_called(word)?), depth + 1),
                }
            }
            _ => number(self.word(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter)), want),
        }
    }

    fn array(&mut self, want: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        let mut of = match want {
            None => None,
            Some(want) => Some(want.strip_prefix('a').ok_or("an array is of another type")?.to_owned()),
        };
        self.take('[');
        let mut values = Vec::new();
        while !self.take(']') {
            if !values.is_empty() && !self.take(',') {
                return Err("a comma is missing");
            }
            let value = self.value(of.as_deref(), depth + 1)?;
            let signature = value.signature();
            if of.get_or_insert_with(|| signature.clone()) != &signature {
                return Err("an array has values of different types");
            }
            values.push(value);
        }
        Ok(Value::Array { of: of.ok_or("an empty array has no type")?, values })
    }

    fn tuple(&mut self, want: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        let mut members = match want {
            None => None,
            Some(want) => {
                let inner = want.strip_prefix('(').and_then(|want| want.strip_suffix(')'));
                Some(inner.ok_or("a tuple is of another type")?)
            }
        };
        self.take('(');
        let mut values = Vec::new();
        while !self.take(')') {
            if !values.is_empty() && !self.take(',') {
                return Err("a comma is missing");
            }
            // A tuple of one has a comma at its end.
            if values.len() == 1 && self.take(')') {
                break;
            }
            let first = match members {
                None => None,
                Some(left) => {
                    let (first, left) = split_type(left).ok_or("a tuple is too long")?;
                    members = Some(left);
                    Some(first)
                }
            };
            values.push(self.value(first, depth + 1)?);
        }
        match members {
            _ if values.is_empty() => Err("an empty tuple"),
            Some(left) if !left.is_empty() => Err("a tuple is too short"),
            _ => Ok(Value::Tuple(values)),
        }
    }

    fn variant(&mut self, want: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        if want.is_some_and(|want| want != "v") {
            return Err("a variant is of another type");
        }
        self.take('<');
        let value = self.value(None, depth + 1)?;
        if self.take('>') { Ok(Value::Variant(Box::new(value))) } else { Err("a variant does not end") }
    }

    /// `ay`, with a zero byte at the end.
    fn byte_string(&mut self, want: Option<&str>) -> Result<Value, &'static str> {
        self.take('b');
        let text = self.quoted()?;
        if want.is_some_and(|want| want != "ay") {
            return Err("a string of bytes is of another type");
        }
        Ok(Value::bytes(&[text.as_bytes(), &[0]].concat()))
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        const UNENDED: &str = "a text does not end";
        let mut letters = self.rest.chars();
        let quote = letters.next().ok_or(UNENDED)?;
        let mut text = String::new();
        loop {
            match letters.next().ok_or(UNENDED)? {
                letter if letter == quote => break,
                '\\' => text.push(escaped(&mut letters)?),
                '\0' => return Err("a text holds a zero byte"),
                letter => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }
}

fn escaped(letters: &mut std::str::Chars<'_>) -> Result<char, &'static str> {
    let digits = |letters: &mut std::str::Chars<'_>, count: usize| {
        let text: String = letters.take(count).collect();
        let number = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == count);
        number.and_then(char::from_u32).filter(|letter| *letter != '\0').ok_or("a text has a faulty escape")
    };
    Ok(match letters.next().ok_or("a text does not end")? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'u' => digits(letters, 4)?,
        'U' => digits(letters, 8)?,
        other => other,
    })
}

fn type_called(word: &str) -> Result<&'static str, &'static str> {
    Ok(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return Err("no such type"),
    })
}

fn string(text: String, want: Option<&str>) -> Result<Value, &'static str> {
    match want {
        None | Some("s") => Ok(Value::Text(text)),
        Some("o") if text.starts_with('/') => Ok(Value::Path(text)),
        Some("g") if text.len() < 256 => Ok(Value::Signature(text)),
        Some(_) => Err("a text is of another type"),
    }
}

fn boolean(truth: bool, want: Option<&str>) -> Result<Value, &'static str> {
    match want {
        None | Some("b") => Ok(Value::Bool(truth)),
        Some(_) => Err("a truth is of another type"),
    }
}

fn number(word: &str, want: Option<&str>) -> Result<Value, &'static str> {
    const NONE: &str = "no number of its type";
    let is_real = word.contains('.')
        || word.contains("inf")
        || word.contains("nan")
        || (!is_hex(word) && word.contains(['e', 'E']));
    let want = want.unwrap_or(if is_real { "d" } else { "i" });
    if want == "d" {
        return word.parse().map(Value::Double).map_err(|_| NONE);
    }
    let whole = integer(word).ok_or(NONE)?;
    let value = match want {
        "y" => whole.try_into().map(Value::Byte),
        "n" => whole.try_into().map(Value::Int16),
        "q" => whole.try_into().map(Value::Uint16),
        "i" => whole.try_into().map(Value::Int32),
        "u" => whole.try_into().map(Value::Uint32),
        "x" => whole.try_into().map(Value::Int64),
        "t" => whole.try_into().map(Value::Uint64),
        _ => return Err("a number is of another type"),
    };
    value.map_err(|_| NONE)
}

fn is_hex(word: &str) -> bool {
    word.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x")
}

/// Decimal, or hexadecimal after `0x`, or octal after `0`.
fn integer(word: &str) -> Option<i128> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let (radix, digits) = match digits {
        hex if is_hex(hex) => (16, hex.get(2..)?),
        octal if octal.len() > 1 && octal.starts_with('0') => (8, &octal[1..]),
        decimal => (10, decimal),
    };
    // What stands before a second sign would be taken for one.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok()?.checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_read_as_glib_writes_them() {
        let texts = |of: &str, values: &[&str]| Value::Array {
            of: of.into(),
            values: values.iter().map(|text| Value::text(*text)).collect(),
        };
        for (text, want) in [
            ("true", Value::Bool(true)),
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            ("\"it's\\n\\u00e9\"", Value::text("it's\né")),
            ("42", Value::Int32(42)),
            ("-0x10", Value::Int32(-16)),
            ("010", Value::Int32(8)),
            ("0", Value::Int32(0)),
            ("1.5", Value::Double(1.5)),
            ("1e3", Value::Double(1000.0)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@t 0x1F", Value::Uint64(31)),
            ("byte 255", Value::Byte(255)),
            ("['a.target', 'b.target']", texts("s", &["a.target", "b.target"])),
            ("@as []", texts("s", &[])),
            ("b'ab'", Value::bytes(b"ab\0")),
            ("@ay [1, 0x2]", Value::bytes(&[1, 2])),
            (
                "[('/dev/null', 'rw')]",
                Value::Array {
                    of: "(ss)".into(),
                    values: vec![Value::Tuple(vec![Value::text("/dev/null"), Value::text("rw")])],
                },
            ),
            ("(uint32 7,)", Value::Tuple(vec![Value::Uint32(7)])),
            ("@(st) ('a', 5)", Value::Tuple(vec![Value::text("a"), Value::Uint64(5)])),
            ("<objectpath '/a'>", Value::Variant(Box::new(Value::Path("/a".into())))),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "nope",
            "'a",
            "[",
            "[]",
            "[1 2]",
            "[1, 'a']",
            "1 2",
            "byte 256",
            "uint64 -1",
            "@a",
            "@zz 1",
            "()",
            "(1",
            "@(s) ('a', 'b')",
            "@(ss) ('a',)",
            "<1",
            "{'a': 1}",
            "@s 1",
            "--1",
            "0x",
            "0x-1",
            "5000000000",
            "'\\u0000'",
            "just 1",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert_eq!(parse(&"[".repeat(100_000)), Err("too deep"));
        assert_eq!(parse(&"byte ".repeat(100_000)), Err("too deep"));
    }

    #[test]
    fn annotations_name_properties() {
        let of = |name: &str, text: &str| property_of_annotation(&format!("org.systemd.property.{name}"), text);
        assert_eq!(property_of_annotation("org.opencontainers.x", "1"), None);
        let told = |name: &str, value| Some(Ok((name.to_owned(), value)));
        assert_eq!(of("CollectMode", "'inactive'"), told("CollectMode", Value::text("inactive")));
        assert_eq!(of("TimeoutStopSec", "123"), told("TimeoutStopUSec", Value::Uint64(123_000_000)));
        assert_eq!(of("TimeoutStopSec", "1.5"), told("TimeoutStopUSec", Value::Uint64(1_500_000)));
        assert_eq!(of("TimeoutStopUSec", "uint64 5"), told("TimeoutStopUSec", Value::Uint64(5)));
        let refused = |name: &str, text: &str| of(name, text).expect("a property").expect_err("a fault").to_string();
        for (name, text, want) in [
            ("ab", "1", "annotation org.systemd.property.ab name incorrect: too short"),
            ("A_b", "1", "annotation org.systemd.property.A_b name incorrect: contains non-alphabetic character"),
            ("Abc", "'", "annotation org.systemd.property.Abc=' value parse error: a text does not end"),
            ("StopSec", "'1'", "annotation org.systemd.property.StopSec='1' value parse error: not a number"),
            ("StopSec", "-1", "annotation org.systemd.property.StopSec=-1 value parse error: not a time"),
        ] {
            assert_eq!(refused(name, text), want);
        }
    }

    /// As GLib prints a value with all its types.
    fn printed(value: &Value) -> String {
        let list = |values: &[Value]| values.iter().map(printed).collect::<Vec<_>>().join(", ");
        match value {
            Value::Bool(truth) => truth.to_string(),
            Value::Byte(number) => format!("byte {number:#x}"),
            Value::Int16(number) => format!("int16 {number}"),
            Value::Uint16(number) => format!("uint16 {number}"),
            Value::Int32(number) => number.to_string(),
            Value::Uint32(number) => format!("uint32 {number}"),
            Value::Int64(number) => format!("int64 {number}"),
            Value::Uint64(number) => format!("uint64 {number}"),
            Value::Double(number) => format!("{number:e}"),
            Value::Text(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            Value::Path(text) => format!("objectpath '{text}'"),
            Value::Signature(text) => format!("signature '{text}'"),
            Value::Array { of, values } => format!("@a{of} [{}]", list(values)),
            Value::Tuple(values) => format!("({}{})", list(values), if values.len() == 1 { "," } else { "" }),
            Value::Variant(value) => format!("<{}>", printed(value)),
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(value in crate::wire::tests::any_value()) {
            let text = printed(&value);
            prop_assert_eq!(parse(&text), Ok(value), "{}", text);
        }

        #[test]
        fn noise_is_read_or_refused(text in "[@a-z0-9'\"\\\\<>()\\[\\], .xe+-]{0,40}") {
            let _ = parse(&text);
        }
    }
}

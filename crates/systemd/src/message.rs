//! Messages (D-Bus specification, "Message Format").

use crate::value::Value;
use crate::wire::{Reader, WireError, Writer};

/// A method to call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) method: &'a str,
    pub(crate) arguments: &'a [Value],
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Reply,
    Error,
    Signal,
    /// The specification says to ignore what one does not know.
    Other,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// The call that it answers.
    pub(crate) answers: Option<u32>,
    pub(crate) member: String,
    /// Of an error.
    pub(crate) error_name: String,
    signature: String,
    body: Vec<u8>,
}

/// The part of a fixed length, at the front.
pub(crate) const PREFIX_BYTES: usize = 16;
/// The specification allows 128 MiB; systemd's answers to us are some hundred bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

const LITTLE_ENDIAN: u8 = b'l';
const METHOD_CALL: u8 = 1;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A message is not one, or not one for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a message of {bytes} bytes")]
    TooLarge { bytes: usize },
    #[error("a message in another byte order")]
    ByteOrder,
    #[error("a message of another protocol version")]
    Version,
    #[error("a message that cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("a message without what it must have")]
    Incomplete,
}

impl Call<'_> {
    /// Its bytes, as message number `serial`.
    pub(crate) fn bytes(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        self.arguments.iter().for_each(|argument| body.value(argument));
        let field = |code, value| Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = vec![
            field(PATH, Value::Path(self.path.to_owned())),
            field(INTERFACE, Value::text(self.interface)),
            field(MEMBER, Value::text(self.method)),
            field(DESTINATION, Value::text(self.destination)),
        ];
        let signature: String = self.arguments.iter().map(Value::signature).collect();
        if !signature.is_empty() {
            fields.push(field(SIGNATURE, Value::Signature(signature)));
        }
        let mut message = Writer { bytes: vec![LITTLE_ENDIAN, METHOD_CALL, 0, 1] };
        message.u32(body.bytes.len() as u32);
        message.u32(serial);
        message.value(&Value::Array { of: "(yv)".into(), values: fields });
        message.align(8);
        message.bytes.extend(body.bytes);
        message.bytes
    }
}

/// How many bytes follow the prefix.
pub(crate) fn rest_bytes(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, MessageError> {
    if prefix[0] != LITTLE_ENDIAN {
        return Err(MessageError::ByteOrder);
    }
    if prefix[3] != 1 {
        return Err(MessageError::Version);
    }
    let mut reader = Reader::new(prefix);
    let mut numbers = [0; 4];
    for number in &mut numbers {
        *number = reader.u32()? as usize;
    }
    let [_, body, _, fields] = numbers;
    // Each is below 2^32, so the sum of them fits into 64 bits.
    let bytes = fields.next_multiple_of(8).saturating_add(body);
    if bytes > MAX_MESSAGE_BYTES { Err(MessageError::TooLarge { bytes }) } else { Ok(bytes) }
}

impl Message {
    /// From its bytes, prefix included.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Reply,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => Kind::Other,
        };
        let mut reader = Reader::new(bytes);
        reader.u32()?;
        let body_bytes = reader.u32()? as usize;
        reader.u32()?;
        let fields = reader.values("a(yv)")?;
        reader.align(8)?;
        let start = bytes.len().checked_sub(body_bytes).ok_or(WireError::Short)?;
        let mut message = Self {
            kind,
            answers: None,
            member: String::new(),
            error_name: String::new(),
            signature: String::new(),
            body: bytes[start..].to_vec(),
        };
        let [Value::Array { values, .. }] = fields.as_slice() else { return Err(MessageError::Incomplete) };
        for field in values {
            let Value::Tuple(pair) = field else { return Err(MessageError::Incomplete) };
            let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else {
                return Err(MessageError::Incomplete);
            };
            match (*code, value.as_ref()) {
                (MEMBER, Value::Text(text)) => message.member.clone_from(text),
                (ERROR_NAME, Value::Text(text)) => message.error_name.clone_from(text),
                (REPLY_SERIAL, Value::Uint32(serial)) => message.answers = Some(*serial),
                (SIGNATURE, Value::Signature(text)) => message.signature.clone_from(text),
                _ => {}
            }
        }
        let is_answer = matches!(kind, Kind::Reply | Kind::Error);
        if is_answer && message.answers.is_none() { Err(MessageError::Incomplete) } else { Ok(message) }
    }

    /// What it says.
    pub(crate) fn arguments(&self) -> Result<Vec<Value>, MessageError> {
        Ok(Reader::new(&self.body).values(&self.signature)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::any_value;

    /// What a peer would send: a message of this kind with these fields.
    pub(crate) fn message(kind: u8, fields: Vec<(u8, Value)>, arguments: &[Value]) -> Vec<u8> {
        let mut body = Writer::default();
        arguments.iter().for_each(|argument| body.value(argument));
        let signature = (SIGNATURE, Value::Signature(arguments.iter().map(Value::signature).collect()));
        let fields = fields.into_iter().chain([signature]);
        let fields = fields.map(|(code, value)| Value::Tuple(vec![Value::Byte(code), Value::Variant(Box::new(value))]));
        let mut message = Writer { bytes: vec![LITTLE_ENDIAN, kind, 0, 1] };
        message.u32(body.bytes.len() as u32);
        message.u32(77);
        message.value(&Value::Array { of: "(yv)".into(), values: fields.collect() });
        message.align(8);
        message.bytes.extend(body.bytes);
        message.bytes
    }

    pub(crate) fn reply(to: u32, arguments: &[Value]) -> Vec<u8> {
        message(2, vec![(REPLY_SERIAL, Value::Uint32(to))], arguments)
    }

    pub(crate) fn error(to: u32, name: &str, text: &str) -> Vec<u8> {
        let fields = vec![(REPLY_SERIAL, Value::Uint32(to)), (ERROR_NAME, Value::text(name))];
        message(3, fields, &[Value::text(text)])
    }

    pub(crate) fn signal(member: &str, arguments: &[Value]) -> Vec<u8> {
        message(4, vec![(PATH, Value::Path("/x".into())), (MEMBER, Value::text(member))], arguments)
    }

    #[test]
    fn a_call_without_arguments_is_laid_out_as_the_specification_says() {
        let call = Call { destination: "d", path: "/", interface: "i.i", method: "M", arguments: &[] };
        let bytes = call.bytes(9);
        assert_eq!(&bytes[..16], [b'l', 1, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 58, 0, 0, 0]);
        assert_eq!(&bytes[16..32], [1, 1, b'o', 0, 1, 0, 0, 0, b'/', 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((bytes.len(), bytes.len() % 8), (80, 0));
        let parsed = Message::parse(&bytes).expect("a message");
        assert_eq!((parsed.kind, parsed.member.as_str(), parsed.arguments()), (Kind::Call, "M", Ok(vec![])));
        let prefix = bytes[..16].try_into().expect("sixteen");
        assert_eq!(rest_bytes(prefix), Ok(64));
    }

    #[test]
    fn hostile_prefixes_are_refused_before_anything_is_allocated() {
        let with = |at: usize, bytes: &[u8]| {
            let mut prefix = [b'l', 2, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            prefix[at..at + bytes.len()].copy_from_slice(bytes);
            rest_bytes(&prefix)
        };
        assert_eq!(with(0, b"B"), Err(MessageError::ByteOrder));
        assert_eq!(with(3, &[2]), Err(MessageError::Version));
        assert_eq!(with(4, &[0xff; 4]), Err(MessageError::TooLarge { bytes: 0xffff_ffff }));
        assert_eq!(with(12, &[0xff; 4]), Err(MessageError::TooLarge { bytes: 1 << 32 }));
        assert_eq!(with(4, &[8, 0, 0, 0]), Ok(8));
    }

    proptest! {
        #[test]
        fn arguments_arrive_as_they_were_sent(arguments in prop::collection::vec(any_value(), 0..4)) {
            let parsed = Message::parse(&reply(5, &arguments)).expect("a message");
            prop_assert_eq!((parsed.kind, parsed.answers), (Kind::Reply, Some(5)));
            prop_assert_eq!(parsed.arguments(), Ok(arguments));
        }

        #[test]
        fn a_changed_message_is_read_or_refused(at in 0..200_usize, byte in any::<u8>(), cut in 0..60_usize) {
            let mut bytes = signal("JobRemoved", &[Value::Uint32(1), Value::Path("/j".into()), Value::text("u"), Value::text("done")]);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            if let Ok(message) = Message::parse(&bytes) {
                let _ = message.arguments();
            }
        }
    }
}

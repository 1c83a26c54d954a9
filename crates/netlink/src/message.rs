//! Writing and reading netlink messages and their attributes.
//!
//! A datagram is a row of messages (`struct nlmsghdr`: length, type, flags, sequence number, port), a message is a header of its
//! protocol and a row of attributes (`struct nlattr`: length, type), and an attribute may hold attributes. All is aligned to four bytes. Numbers are
//! the host's, except where nftables wants big-endian ones. Pure.

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
const ACK: u16 = 0x04;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: without the flags for nesting and byte order.
const TYPE_MASK: u16 = 0x3fff;
/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Several requests that go to the kernel in one datagram and are done in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each message is for, in words; the sequence number is the place in this list plus one.
    names: Vec<&'static str>,
    /// Where the last message that wants an acknowledgement begins.
    last: Option<usize>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a request. The acknowledgement of the last one stands for all of them: the kernel reports each failure anyway.
    pub fn request(
        &mut self,
        name: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: impl FnOnce(&mut Message),
    ) {
        self.last = Some(self.bytes.len());
        self.append(name, kind, REQUEST | flags, header, attributes);
    }

    /// Appends a message that frames others and is never acknowledged.
    pub fn frame(&mut self, name: &'static str, kind: u16, header: &[u8]) {
        self.append(name, kind, REQUEST, header, |_| {});
    }

    fn append(
        &mut self,
        name: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: impl FnOnce(&mut Message),
    ) {
        self.names.push(name);
        let start = self.bytes.len();
        let sequence = self.names.len() as u32;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(header);
        let mut message = Message { bytes: std::mem::take(&mut self.bytes) };
        message.align();
        attributes(&mut message);
        self.bytes = message.bytes;
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The datagram, whose last request asks for an acknowledgement, and that request's sequence number.
    pub fn sealed(&self) -> (Vec<u8>, u32) {
        let mut bytes = self.bytes.clone();
        let Some(last) = self.last else { return (bytes, 0) };
        let number = |at: usize| [bytes[at], bytes[at + 1]];
        let flags = u16::from_ne_bytes(number(last + 6)) | ACK;
        let sequence = u32_ne(&bytes[last + 8..]).unwrap_or(0);
        bytes[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
        (bytes, sequence)
    }

    /// What the message with this sequence number is for.
    pub(crate) fn name(&self, sequence: u32) -> &'static str {
        let index = (sequence as usize).wrapping_sub(1);
        self.names.get(index).copied().unwrap_or("netlink batch")
    }
}

/// A message, or an attribute that holds others, being written.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// An attribute with any content; it must be shorter than 64 KiB, which all of ours are by far.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.align();
    }

    /// An attribute with a byte.
    pub fn byte(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// An attribute with a 32-bit number in the host's order.
    pub fn word(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// An attribute with a big-endian 32-bit number, as nftables has them.
    pub fn word_be(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// An attribute with a text that ends in a zero byte.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// An attribute that holds a protocol header and then attributes, or just attributes.
    pub fn nest_with(&mut self, kind: u16, header: &[u8], inner: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        self.bytes.extend(header);
        self.align();
        inner(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        self.nest_with(kind, &[], inner);
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes`: type without flags, and content. Ends at the first that does not fit.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_ne(rest)?);
        let kind = u16_ne(rest.get(2..)?)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & TYPE_MASK, value))
    })
}

fn u16_ne(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

/// The big-endian number at the start of `bytes`.
pub fn u16_be(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

/// The number at the start of `bytes`, in the host's order.
pub fn u32_ne(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The big-endian number at the start of `bytes`.
pub fn u32_be(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The text before the first zero byte.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_lengths_its_number_and_its_padding() {
        let mut batch = Batch::new();
        batch.request("one", 16, 0x400, &[1, 2, 3], |m| {
            m.text(3, "eth0");
            m.nest(18, |m| m.byte(1, 7));
        });
        batch.frame("end", 17, &[]);
        let (bytes, last) = batch.sealed();
        assert_eq!(last, 1, "a frame is not acknowledged");
        let mut expected = vec![44, 0, 0, 0, 16, 0, 5, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0];
        expected.extend([9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
        expected.extend([12, 0, 18, 0x80, 5, 0, 1, 0, 7, 0, 0, 0]);
        expected.extend([16, 0, 0, 0, 17, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes, expected);
        assert_eq!(batch.name(2), "end");
    }

    proptest::proptest! {
        #[test]
        fn attributes_read_back_as_they_were_written(written in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(0u8.., 0..40)), 0..20)) {
            let mut message = Message::default();
            for (kind, value) in &written {
                message.put(*kind, value);
            }
            let bytes = message.bytes;
            let read: Vec<(u16, Vec<u8>)> = attributes(&bytes).map(|(kind, value)| (kind, value.to_vec())).collect();
            proptest::prop_assert_eq!(read, written);
        }

        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let total: usize = attributes(&bytes).map(|(_, value)| value.len() + 4).sum();
            proptest::prop_assert!(total <= bytes.len());
        }
    }
}

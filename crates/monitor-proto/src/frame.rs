//! Frames: bytes in, messages out.
//!
//! A message is a little-endian `u32` length and that much JSON. A stream frame is a channel byte, a little-endian `u32` length and
//! that much payload. Lengths are bounded before anything is allocated for them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use carrack_words::Kind;

use crate::StreamFrame;
use crate::stream::{HEADER_BYTES, MAX_STREAM_BYTES};

/// The longest JSON of one message.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT_CAPACITY_BYTES: usize = 4096;

/// Bytes are not a frame, or a value cannot become one. Nothing more can be read from such a peer.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond the bound.
    #[error("frame of {length_bytes} bytes: at most {max_bytes} are allowed")]
    TooLong {
        /// What the frame claims.
        length_bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// The payload is not the JSON of a message.
    #[error("parse a message")]
    Parse {
        /// What serde found.
        source: serde_json::Error,
    },
    /// The value has no JSON.
    #[error("encode a message")]
    Encode {
        /// What serde found.
        source: serde_json::Error,
    },
    /// A stream frame's channel or payload means nothing.
    #[error("stream frame on channel {channel} is malformed")]
    Stream {
        /// Its channel byte.
        channel: u8,
    },
}

impl FrameError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            FrameError::TooLong { .. } | FrameError::Parse { .. } | FrameError::Stream { .. } => Kind::Invalid,
            FrameError::Encode { .. } => Kind::Internal,
        }
    }
}

/// One message as bytes.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut bytes, message).map_err(|source| FrameError::Encode { source })?;
    let length_bytes = bytes.len() - LENGTH_BYTES;
    if length_bytes > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { length_bytes, max_bytes: MAX_FRAME_BYTES });
    }
    bytes[..LENGTH_BYTES].copy_from_slice(&(length_bytes as u32).to_le_bytes());
    Ok(bytes)
}

/// Bytes received and not yet understood.
///
/// The caller says what it expects next, so one buffer serves a connection before and after it is attached.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// Where the unread part begins.
    start: usize,
}

impl FrameBuffer {
    /// Appends what was received.
    pub fn push(&mut self, received: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(received);
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next message, or `None` until more bytes are pushed.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(payload) = self.payload(0, MAX_FRAME_BYTES)? else { return Ok(None) };
        let message = serde_json::from_slice(&self.bytes[payload.clone()]);
        self.consume(payload.end);
        message.map(Some).map_err(|source| FrameError::Parse { source })
    }

    /// The next stream frame, or `None` until more bytes are pushed.
    pub fn stream_frame(&mut self) -> Result<Option<StreamFrame>, FrameError> {
        let Some(payload) = self.payload(HEADER_BYTES - LENGTH_BYTES, MAX_STREAM_BYTES)? else { return Ok(None) };
        let channel = self.bytes[self.start];
        let frame = StreamFrame::parse(channel, &self.bytes[payload.clone()]);
        self.consume(payload.end);
        frame.map(Some).ok_or(FrameError::Stream { channel })
    }

    /// Where the payload of the next frame stands, whose length field begins `skip` bytes into it; `None` if it is not whole yet.
    fn payload(&self, skip: usize, max_bytes: usize) -> Result<Option<std::ops::Range<usize>>, FrameError> {
        let unread = &self.bytes[self.start..];
        let Some(field) = unread.get(skip..skip + LENGTH_BYTES) else { return Ok(None) };
        let length_bytes = u32::from_le_bytes(field.try_into().expect("the slice has four bytes")) as usize;
        if length_bytes > max_bytes {
            return Err(FrameError::TooLong { length_bytes, max_bytes });
        }
        let begin = self.start + skip + LENGTH_BYTES;
        let end = begin + length_bytes;
        Ok((end <= self.bytes.len()).then_some(begin..end))
    }

    fn consume(&mut self, end: usize) {
        self.start = end;
        if self.is_empty() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT_CAPACITY_BYTES {
                self.bytes = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attach, ExitRecord, Request, Response, Signal, Size, Stream};
    use carrack_words::{ContainerId, Exit, Timestamp};
    use proptest::prelude::*;
    use std::time::Duration;

    fn id() -> ContainerId {
        ContainerId::new("c").unwrap()
    }

    fn requests() -> impl Strategy<Value = Request> {
        prop_oneof![
            any::<u32>().prop_map(|version| Request::Hello { version }),
            Just(Request::State),
            (1i32..=64, any::<u32>(), 0u32..1_000_000_000).prop_map(|(signal, seconds, nanoseconds)| Request::Stop {
                id: id(),
                signal: Signal::try_from(signal).unwrap(),
                timeout: Duration::new(u64::from(seconds), nanoseconds),
            }),
            (any::<u16>(), any::<u16>()).prop_map(|(rows, columns)| Request::Resize { id: id(), rows, columns }),
            (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
                |(stdin, stdout, stderr, lossless)| {
                    Request::Attach(Attach { id: id(), stdin, stdout, stderr, lossless })
                }
            ),
            Just(Request::Shutdown),
        ]
    }

    fn record() -> impl Strategy<Value = ExitRecord> {
        (any::<u8>(), any::<bool>(), any::<i64>(), proptest::option::of(".{0,20}")).prop_map(
            |(code, oom_killed, time, error)| ExitRecord {
                version: ExitRecord::VERSION,
                id: id(),
                exit: Exit::Code(code),
                oom_killed,
                started_at: None,
                finished_at: Timestamp::from_nanoseconds(time),
                restart_count: 3,
                will_restart: false,
                error,
            },
        )
    }

    fn stream_frames() -> impl Strategy<Value = StreamFrame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..300);
        prop_oneof![
            bytes().prop_map(|bytes| StreamFrame::Data { stream: Stream::Stdin, bytes }),
            bytes().prop_map(|bytes| StreamFrame::Data { stream: Stream::Stdout, bytes }),
            bytes().prop_map(|bytes| StreamFrame::Data { stream: Stream::Stderr, bytes }),
            (any::<u16>(), any::<u16>()).prop_map(|(rows, columns)| StreamFrame::Resize(Size { rows, columns })),
            Just(StreamFrame::StdinClosed),
            record().prop_map(StreamFrame::End),
        ]
    }

    /// Pushes `bytes` in pieces of these sizes, and calls `take` after each.
    fn in_pieces(bytes: &[u8], sizes: &[usize], mut take: impl FnMut(&mut FrameBuffer)) {
        let (mut buffer, mut rest) = (FrameBuffer::default(), bytes);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            buffer.push(piece);
            rest = after;
            take(&mut buffer);
        }
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_the_bytes_are_cut(
            messages in proptest::collection::vec(requests(), 0..10),
            sizes in proptest::collection::vec(1usize..60, 1..5),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
            let mut got = Vec::new();
            in_pieces(&bytes, &sizes, |buffer| {
                while let Some(message) = buffer.message::<Request>().unwrap() {
                    got.push(message);
                }
            });
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn stream_frames_come_out_as_they_went_in(
            frames in proptest::collection::vec(stream_frames(), 0..10),
            sizes in proptest::collection::vec(1usize..200, 1..5),
        ) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            let mut got = Vec::new();
            in_pieces(&bytes, &sizes, |buffer| {
                while let Some(frame) = buffer.stream_frame().unwrap() {
                    got.push(frame);
                }
            });
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn hostile_bytes_are_an_error_or_are_waited_for_but_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut buffer = FrameBuffer::default();
            buffer.push(&bytes);
            while let Ok(Some(_)) = buffer.message::<Request>() {}
            let mut buffer = FrameBuffer::default();
            buffer.push(&bytes);
            while let Ok(Some(_)) = buffer.stream_frame() {}
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_payload_comes() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&(MAX_FRAME_BYTES as u32 + 1).to_le_bytes());
        assert!(matches!(buffer.message::<Request>(), Err(FrameError::TooLong { .. })));
        let mut buffer = FrameBuffer::default();
        buffer.push(&[1, 1, 0, 1, 0]);
        assert!(matches!(buffer.stream_frame(), Err(FrameError::TooLong { length_bytes: 65537, .. })));
    }

    #[test]
    fn json_that_is_no_message_and_channels_that_are_none_are_refused() {
        for payload in [
            "",
            "null",
            "{}",
            "\"sta\"",
            "{\"signal\":{\"id\":\"../c\",\"signal\":9,\"scope\":\"init\"}}",
            "\"state\" 1",
        ] {
            let mut buffer = FrameBuffer::default();
            buffer.push(&(payload.len() as u32).to_le_bytes());
            buffer.push(payload.as_bytes());
            assert!(matches!(buffer.message::<Request>(), Err(FrameError::Parse { .. })), "{payload}");
        }
        for frame in [&[6, 0, 0, 0, 0][..], &[4, 1, 0, 0, 0, b'x'], &[3, 2, 0, 0, 0, b'{', b'}'], &[5, 0, 0, 0, 0]] {
            let mut buffer = FrameBuffer::default();
            buffer.push(frame);
            let channel = frame[0];
            assert!(
                matches!(buffer.stream_frame(), Err(FrameError::Stream { channel: c }) if c == channel),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn a_signal_outside_the_range_is_no_request() {
        for number in [0, -1, 65] {
            let text = format!(r#"{{"exec_kill":{{"exec_id":"e","signal":{number}}}}}"#);
            assert!(serde_json::from_str::<Request>(&text).is_err(), "{number}");
        }
    }

    #[test]
    fn a_message_too_long_to_send_is_refused() {
        let message = Response::Error { kind: Kind::Internal, message: "x".repeat(MAX_FRAME_BYTES) };
        assert!(matches!(encode(&message), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn long_data_becomes_several_frames_and_no_data_none() {
        let mut out = Vec::new();
        StreamFrame::encode_data(Stream::Stdout, &[], &mut out);
        assert!(out.is_empty());
        StreamFrame::encode_data(Stream::Stdout, &vec![7; MAX_STREAM_BYTES + 1], &mut out);
        let mut buffer = FrameBuffer::default();
        buffer.push(&out);
        let lengths: Vec<usize> = std::iter::from_fn(|| buffer.stream_frame().unwrap())
            .map(|frame| match frame {
                StreamFrame::Data { stream: Stream::Stdout, bytes } => bytes.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [MAX_STREAM_BYTES, 1]);
    }
}

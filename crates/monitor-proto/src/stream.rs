//! The streams of an attached connection.
//!
//! `[u8 channel][u32 LE length][payload]`. Channels: 0 stdin, 1 stdout, 2 stderr, 3 the terminal's size as JSON, 4 the end of stdin (no
//! payload), 5 the container's exit as JSON, after which nothing follows. 0, 3 and 4 go to the monitor, the others come from it.

use crate::ExitRecord;

/// The longest payload of one stream frame.
pub const MAX_STREAM_BYTES: usize = 64 << 10;
pub(crate) const HEADER_BYTES: usize = 5;

/// A stream whose bytes a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard input, towards the container.
    Stdin,
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// One frame of an attached connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamFrame {
    /// Bytes of a stream.
    Data {
        /// Which.
        stream: Stream,
        /// At most [`MAX_STREAM_BYTES`].
        bytes: Vec<u8>,
    },
    /// The client's terminal has this size.
    Resize(Size),
    /// The client's standard input has ended.
    StdinClosed,
    /// The container has exited; all its output came before this frame.
    End(ExitRecord),
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESIZE: u8 = 3;
const STDIN_CLOSED: u8 = 4;
const END: u8 = 5;

impl StreamFrame {
    /// Appends the frame's bytes to `out`; data beyond the bound becomes several frames.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            StreamFrame::Data { stream, bytes } => Self::encode_data(*stream, bytes, out),
            StreamFrame::Resize(size) => append(RESIZE, &json(size), out),
            StreamFrame::StdinClosed => append(STDIN_CLOSED, &[], out),
            StreamFrame::End(record) => append(END, &json(record), out),
        }
    }

    /// Like [`encode`](Self::encode) of `Data`, from borrowed bytes. No bytes make no frame.
    pub fn encode_data(stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
        let channel = match stream {
            Stream::Stdin => STDIN,
            Stream::Stdout => STDOUT,
            Stream::Stderr => STDERR,
        };
        for piece in bytes.chunks(MAX_STREAM_BYTES) {
            append(channel, piece, out);
        }
    }

    pub(crate) fn parse(channel: u8, payload: &[u8]) -> Option<Self> {
        let data = |stream| Some(StreamFrame::Data { stream, bytes: payload.to_vec() });
        match channel {
            STDIN => data(Stream::Stdin),
            STDOUT => data(Stream::Stdout),
            STDERR => data(Stream::Stderr),
            RESIZE => serde_json::from_slice(payload).ok().map(StreamFrame::Resize),
            STDIN_CLOSED => payload.is_empty().then_some(StreamFrame::StdinClosed),
            END => serde_json::from_slice(payload).ok().map(StreamFrame::End),
            _ => None,
        }
    }
}

fn append(channel: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEADER_BYTES + payload.len());
    out.push(channel);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these records have string keys and finite numbers only")
}

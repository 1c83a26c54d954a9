//! Inflating, hashing and writing at the same time.
//!
//! ```text
//!  caller's thread            thread "hash"             thread "write"
//!  read, inflate ──buffer──▶ sha256 (diff_id) ──buffer──▶ tar entries, files
//!        ▲                                                      │
//!        └──────────────────── empty buffer ────────────────────┘
//! ```
//!
//! Each step costs about as much as the others, so two cores are kept busy. The number of buffers is the bound of all queues.

use carrack_words::{DiffId, Digest};
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use crate::compression::Inflate;
use crate::stream::Buffers;
use crate::{Compression, Limits, UnpackError};

const BUFFER_BYTES: usize = 256 << 10;
const BUFFERS: usize = 16;

/// What is known of the stream after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    pub diff_id: DiffId,
    pub compression: Compression,
    pub compressed_bytes: u64,
    pub tar_bytes: u64,
}

/// Runs `write` over the uncompressed bytes of `input`. What `write` leaves unread is hashed all the same.
pub(crate) fn run<R, T, W>(input: R, limits: &Limits, write: W) -> Result<(Passed, T), UnpackError>
where
    R: Read,
    T: Send,
    W: FnOnce(&mut Buffers) -> Result<T, UnpackError> + Send,
{
    let mut inflate = Inflate::new(input, limits)?;
    let (to_hash, from_inflate) = sync_channel(BUFFERS);
    let (to_write, from_hash) = sync_channel(BUFFERS);
    let (to_inflate, empty) = channel();
    for _ in 0..BUFFERS {
        to_inflate.send(Vec::new()).expect("the receiver is alive: it is a local of this function");
    }
    std::thread::scope(|scope| {
        let start = |source| UnpackError::Thread { source };
        let hasher = std::thread::Builder::new()
            .name("layer-hash".into())
            .spawn_scoped(scope, move || hash(&from_inflate, &to_write))
            .map_err(start)?;
        let writer = std::thread::Builder::new()
            .name("layer-write".into())
            .spawn_scoped(scope, move || {
                let mut buffers = Buffers::new(from_hash, to_inflate);
                let result = write(&mut buffers);
                if result.is_ok() {
                    buffers.drain();
                }
                result
            })
            .map_err(start)?;
        let inflated = feed(&mut inflate, &empty, &to_hash, limits);
        drop(to_hash);
        let diff_id = join(hasher);
        let written = join(writer);
        match (inflated, written) {
            // A stream that broke looks to the writer like one that is too short.
            (Err(cause), Ok(_) | Err(UnpackError::Truncated { .. })) => Err(cause),
            (_, Err(error)) => Err(error),
            (Ok(tar_bytes), Ok(value)) => {
                let compressed_bytes = inflate.compressed_bytes();
                Ok((Passed { diff_id, compression: inflate.compression(), compressed_bytes, tar_bytes }, value))
            }
        }
    })
}

/// Inflates into empty buffers until the stream ends or nobody listens any more; returns the length of what came out.
fn feed<R: Read>(
    inflate: &mut Inflate<R>,
    empty: &Receiver<Vec<u8>>,
    full: &SyncSender<Vec<u8>>,
    limits: &Limits,
) -> Result<u64, UnpackError> {
    let mut tar_bytes = 0;
    while let Ok(mut buffer) = empty.recv() {
        let more = inflate.fill(&mut buffer, BUFFER_BYTES, tar_bytes)?;
        tar_bytes += buffer.len() as u64;
        check_measure(tar_bytes, inflate.compressed_bytes(), limits)?;
        let gone = !buffer.is_empty() && full.send(buffer).is_err();
        if gone || !more {
            break;
        }
    }
    Ok(tar_bytes)
}

/// Stops compression bombs; a bomb is what is both large and inflated more than layers ever are.
fn check_measure(tar_bytes: u64, compressed_bytes: u64, limits: &Limits) -> Result<(), UnpackError> {
    if tar_bytes > limits.tar_bytes {
        return Err(UnpackError::TooMany { what: "bytes", limit: limits.tar_bytes });
    }
    if tar_bytes > limits.free_bytes.saturating_add(compressed_bytes.saturating_mul(limits.inflation)) {
        return Err(UnpackError::Inflation { compressed_bytes, tar_bytes });
    }
    Ok(())
}

fn hash(incoming: &Receiver<Vec<u8>>, outgoing: &SyncSender<Vec<u8>>) -> DiffId {
    let mut hasher = Sha256::new();
    while let Ok(buffer) = incoming.recv() {
        hasher.update(&buffer);
        if outgoing.send(buffer).is_err() {
            break;
        }
    }
    DiffId(Digest::from_sha256(hasher.finalize().into()))
}

/// Passes a panic of the thread on: it is ours.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;

    fn digest(bytes: &[u8]) -> DiffId {
        DiffId(Digest::from_sha256(Sha256::digest(bytes).into()))
    }

    #[test]
    fn what_the_writer_leaves_unread_is_hashed_too() {
        let text: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let (passed, first) = run(&text[..], &Limits::default(), |buffers| {
            let first = buffers.fill_buf().expect("buffers do not fail")[0];
            Ok(first)
        })
        .unwrap();
        assert_eq!(first, 0);
        let want = Passed {
            diff_id: digest(&text),
            compression: Compression::Plain,
            compressed_bytes: text.len() as u64,
            tar_bytes: text.len() as u64,
        };
        assert_eq!(passed, want);
    }

    #[test]
    fn a_writer_that_fails_stops_the_reader() {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                buffer.fill(0);
                Ok(buffer.len())
            }
        }
        let refused = || UnpackError::TooMany { what: "entries", limit: 1 };
        let error = run(Endless, &Limits::default(), |_| Err::<(), _>(refused())).unwrap_err();
        assert_eq!(error.to_string(), refused().to_string());
    }

    #[test]
    fn a_bomb_is_stopped_by_ratio_and_by_size() {
        let zeros = vec![0; 4 << 20];
        let bomb = zstd::stream::encode_all(&zeros[..], 1).unwrap();
        let limits = Limits { free_bytes: 1 << 20, ..Limits::default() };
        let error = run(&bomb[..], &limits, |_| Ok(())).unwrap_err();
        assert!(matches!(error, UnpackError::Inflation { .. }), "{error:?}");
        let limits = Limits { tar_bytes: 1 << 20, ..Limits::default() };
        let error = run(&bomb[..], &limits, |_| Ok(())).unwrap_err();
        assert!(matches!(error, UnpackError::TooMany { what: "bytes", .. }), "{error:?}");
    }
}

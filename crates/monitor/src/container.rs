//! One container of the pod: its life, its streams and its log.

use std::os::fd::OwnedFd;
use std::time::Duration;

use carrack_monitor_proto::Create;
use carrack_words::{ExecId, Timestamp};

use crate::journal::{Journal, chain};
use crate::lifecycle::Lifecycle;
use crate::log::{Encoder, LogFile, LogTrouble, Piece};
use crate::streams::Streams;

/// Names a container within the monitor; an id can be used again after a removal, a key cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerKey(pub u32);

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its name within the monitor.
    pub key: ContainerKey,
    /// How it was, and is again, created.
    pub create: Create,
    /// Where it stands.
    pub life: Lifecycle,
    /// Its streams, while it is created or runs or is drained.
    pub streams: Streams,
    /// Its log, as long as its streams.
    pub log: Option<LogFile>,
    /// While it is drained: when that is given up, by the monotonic clock.
    pub drain_until: Option<Duration>,
}

/// A process that was run in a container besides its first.
#[derive(Debug)]
pub struct Exec {
    /// Its name.
    pub id: ExecId,
    /// Its pid; ours to wait for, so it is not used again before we have.
    pub pid: i32,
    /// A handle on it.
    pub pidfd: OwnedFd,
    /// The controlling side of its terminal, once its client has left it alone: without one it would get SIGHUP.
    pub console: Option<OwnedFd>,
}

impl Container {
    /// Records bytes of one output in the log.
    pub fn record(&mut self, output: usize, bytes: &[u8], recorder: &mut Recorder, journal: &Journal) {
        let Some(log) = &mut self.log else { return };
        let output = &mut self.streams.outputs[output];
        let stream = output.name.in_log();
        output.splitter.push(bytes, |piece| recorder.add(log, stream, piece, journal));
        recorder.write(log, journal);
    }

    /// Records what no newline ended; nothing follows.
    pub fn finish_record(&mut self, recorder: &mut Recorder, journal: &Journal) {
        let Some(log) = &mut self.log else { return };
        for output in &mut self.streams.outputs {
            let stream = output.name.in_log();
            output.splitter.finish(|piece| recorder.add(log, stream, piece, journal));
        }
        recorder.write(log, journal);
    }
}

/// Gathers records, so that many short lines that were read together are written together.
#[derive(Debug, Default)]
pub struct Recorder {
    encoder: Encoder,
    records: Vec<u8>,
}

/// Records are written when there are this many bytes of them: lines of one byte become much longer records.
const GATHERED_BYTES: usize = 24 << 10;

impl Recorder {
    fn add(&mut self, log: &mut LogFile, stream: crate::log::LogStream, piece: Piece<'_>, journal: &Journal) {
        self.encoder.append(Timestamp::now(), stream, piece, &mut self.records);
        if self.records.len() >= GATHERED_BYTES {
            self.write(log, journal);
        }
    }

    fn write(&mut self, log: &mut LogFile, journal: &Journal) {
        if self.records.is_empty() {
            return;
        }
        match log.append(&self.records) {
            Some(LogTrouble::Began { source }) => {
                let path = log.path().display();
                journal
                    .note(format_args!("write log {path}: {}; output is lost until that works again", chain(&source)));
            }
            Some(LogTrouble::Over { lost_writes }) => {
                let path = log.path().display();
                journal.note(format_args!("write log {path}: works again after {lost_writes} failed writes"));
            }
            None => {}
        }
        self.records.clear();
    }
}

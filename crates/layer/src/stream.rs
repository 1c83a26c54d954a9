//! The uncompressed tar as a stream of buffers that another thread fills.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender};

/// Reads the buffers of [`crate::pipeline`] in order and hands each back when it is used up.
pub(crate) struct Buffers {
    incoming: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Buffers {
    pub(crate) fn new(incoming: Receiver<Vec<u8>>, spent: Sender<Vec<u8>>) -> Self {
        Self { incoming, spent, current: Vec::new(), at: 0 }
    }

    /// Reads to the end without looking.
    pub(crate) fn drain(&mut self) {
        while self.refill() {
            self.at = self.current.len();
        }
    }

    /// Takes the next buffer; `false` at the end of the stream.
    fn refill(&mut self) -> bool {
        let used = std::mem::take(&mut self.current);
        self.at = 0;
        if used.capacity() > 0 {
            // The filling thread may have finished; then nobody needs the buffer.
            let _ = self.spent.send(used);
        }
        match self.incoming.recv() {
            Ok(buffer) => {
                self.current = buffer;
                true
            }
            Err(_) => false,
        }
    }
}

impl BufRead for Buffers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() {
            if !self.refill() {
                break;
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Buffers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(out.len());
        out[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

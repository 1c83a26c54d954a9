//! Shows how a pull gets on: a line for each layer and one for the whole on a terminal, a line for each event elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use carrack_image::{Progress, PullEvent};
use carrack_words::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::human;
use crate::print::remark;

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// A line for each thing that is done.
pub struct Lines {
    started: Instant,
    sizes: Mutex<HashMap<Digest, u64>>,
}

impl Lines {
    /// Begins.
    pub fn new() -> Self {
        Self { started: Instant::now(), sizes: Mutex::default() }
    }
}

impl Progress for Lines {
    fn event(&self, event: &PullEvent) {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::Resolved { digest } => remark!("found {digest}"),
            PullEvent::LayerQueued { digest, size_bytes } => drop(sizes.insert(*digest, *size_bytes)),
            PullEvent::LayerProgress { .. } => {}
            PullEvent::LayerDownloaded { digest } => {
                let size = sizes.get(digest).copied().unwrap_or(0);
                let rate = size as f64 / self.started.elapsed().as_secs_f64().max(0.001);
                remark!("{}: downloaded {} ({}/s)", short(digest), human::bytes(size), human::bytes(rate as u64));
            }
            PullEvent::LayerUnpacked { digest } => remark!("{}: unpacked", short(digest)),
            PullEvent::LayerExists { digest } => remark!("{}: is here already", short(digest)),
            PullEvent::Done { .. } => {
                let total: u64 = sizes.values().sum();
                remark!("{} layers, {} in all", sizes.len(), human::bytes(total));
            }
        }
    }
}

/// A bar for each layer and one for the whole.
pub struct Bars {
    all: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: HashMap<Digest, Layer>,
    total: Option<ProgressBar>,
}

struct Layer {
    bar: ProgressBar,
    size: u64,
    bytes: u64,
}

impl Bars {
    /// Begins.
    pub fn new() -> Self {
        Self { all: MultiProgress::new(), state: Mutex::default() }
    }

    fn bar(&self, prefix: String, size: u64) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "{prefix:12} {bar:30} {decimal_bytes:>10}/{decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.all.add(ProgressBar::new(size).with_style(style));
        bar.set_prefix(prefix);
        bar
    }
}

impl Progress for Bars {
    fn event(&self, event: &PullEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        match event {
            PullEvent::Resolved { .. } => {}
            PullEvent::LayerQueued { digest, size_bytes } => {
                // The total stays the last line.
                let total = state.total.take().unwrap_or_else(|| self.bar("total".into(), 0));
                self.all.remove(&total);
                let bar = self.bar(short(digest), *size_bytes);
                state.layers.insert(*digest, Layer { bar, size: *size_bytes, bytes: 0 });
                total.inc_length(*size_bytes);
                state.total = Some(self.all.add(total));
            }
            PullEvent::LayerProgress { digest, bytes } => state.advance(digest, *bytes, ""),
            PullEvent::LayerDownloaded { digest } => state.finish(digest, "downloaded"),
            PullEvent::LayerUnpacked { digest } => state.finish(digest, "unpacked"),
            PullEvent::LayerExists { digest } => state.finish(digest, "is here already"),
            PullEvent::Done { .. } => state.total.iter().for_each(ProgressBar::finish),
        }
    }
}

impl State {
    fn advance(&mut self, digest: &Digest, bytes: u64, message: &'static str) {
        let Some(layer) = self.layers.get_mut(digest) else { return };
        if let Some(total) = &self.total {
            total.inc(bytes.saturating_sub(layer.bytes));
        }
        layer.bytes = layer.bytes.max(bytes);
        layer.bar.set_position(bytes);
        layer.bar.set_message(message);
    }

    fn finish(&mut self, digest: &Digest, message: &'static str) {
        let Some(size) = self.layers.get(digest).map(|layer| layer.size) else { return };
        self.advance(digest, size, message);
        if let (Some(layer), true) = (self.layers.get(digest), message != "downloaded") {
            layer.bar.finish_with_message(message);
        }
    }
}

//! Shows how a pull gets on: a line for each layer and one for the whole on a terminal, a line for each event elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use carrack_image::{Progress, PullEvent};
use carrack_words::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::print::remark;
use crate::{human, terminal};

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
                remark!("{}, {} in all", human::count(sizes.len(), "layer"), human::bytes(total));
            }
        }
    }
}

/// How often the bars are drawn though nothing happened: the rate falls, and the terminal may have another width.
const DRAWN_AGAIN: Duration = Duration::from_millis(200);
/// A terminal that does not tell its width has this one.
const USUAL_WIDTH: usize = 80;

/// A bar for each layer and one for the whole. What is not done when this is dropped is wiped off the terminal.
pub struct Bars {
    shown: Arc<Shown>,
    /// Its end is the end of the thread that draws.
    _end: mpsc::Sender<()>,
}

struct Shown {
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
    note: Note,
    size: u64,
    bytes: u64,
}

/// What is said of a layer once its rate says nothing any more; the bar's drawing reads it.
type Note = Arc<Mutex<&'static str>>;

impl Bars {
    /// Begins.
    pub fn new() -> Self {
        let shown = Arc::new(Shown { all: MultiProgress::new(), state: Mutex::default() });
        let (end, ended) = mpsc::channel();
        thread::spawn({
            let shown = Arc::clone(&shown);
            move || {
                while ended.recv_timeout(DRAWN_AGAIN) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let state = shown.state();
                    state.layers.values().map(|layer| &layer.bar).chain(&state.total).for_each(ProgressBar::tick);
                }
            }
        });
        Self { shown, _end: end }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let is_done = self.shown.state().total.as_ref().is_none_or(ProgressBar::is_finished);
        if !is_done {
            // A terminal that is gone has nothing to be wiped off.
            let _ = self.shown.all.clear();
        }
    }
}

impl Shown {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bar(&self, prefix: String, size: u64) -> (ProgressBar, Note) {
        let note = Note::default();
        let draw = {
            let note = Arc::clone(&note);
            move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let width = terminal::size(io::stderr()).map_or(USUAL_WIDTH, |(_, columns)| usize::from(columns));
                let note = *note.lock().unwrap_or_else(PoisonError::into_inner);
                let done = Done { bytes: state.pos(), size: state.len().unwrap_or(0), rate: state.per_sec() as u64 };
                // Nobody can be told that a line could not be put together.
                let _ = out.write_str(&line(&prefix, done, note, width));
            }
        };
        let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.all.add(ProgressBar::new(size).with_style(style.with_key("line", draw)));
        (bar, note)
    }
}

impl Progress for Bars {
    fn event(&self, event: &PullEvent) {
        let mut state = self.shown.state();
        let state = &mut *state;
        match event {
            PullEvent::Resolved { .. } => {}
            PullEvent::LayerQueued { digest, size_bytes } => {
                // The total stays the last line.
                let total = state.total.take().unwrap_or_else(|| self.shown.bar("total".into(), 0).0);
                self.shown.all.remove(&total);
                let (bar, note) = self.shown.bar(short(digest), *size_bytes);
                state.layers.insert(*digest, Layer { bar, note, size: *size_bytes, bytes: 0 });
                total.inc_length(*size_bytes);
                state.total = Some(self.shown.all.add(total));
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
    fn advance(&mut self, digest: &Digest, bytes: u64, note: &'static str) {
        let Some(layer) = self.layers.get_mut(digest) else { return };
        *layer.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
        if let Some(total) = &self.total {
            total.inc(bytes.saturating_sub(layer.bytes));
        }
        layer.bytes = layer.bytes.max(bytes);
        layer.bar.set_position(bytes);
    }

    fn finish(&mut self, digest: &Digest, note: &'static str) {
        let Some(size) = self.layers.get(digest).map(|layer| layer.size) else { return };
        self.advance(digest, size, note);
        if let (Some(layer), true) = (self.layers.get(digest), note != "downloaded") {
            layer.bar.finish();
        }
    }
}

/// How much of something is here, and how fast it comes.
#[derive(Debug, Clone, Copy)]
struct Done {
    bytes: u64,
    size: u64,
    rate: u64,
}

/// One line of progress, shorter than the terminal is wide: a longer one would be broken in two, and not be overwritten. What a narrow
/// terminal has no room for is left out, the bar first.
fn line(prefix: &str, done: Done, note: &str, width: usize) -> String {
    const WIDEST_BAR: usize = 30;
    const NARROWEST_BAR: usize = 5;
    let room = width.saturating_sub(1);
    let percent = (done.bytes * 100).checked_div(done.size).unwrap_or(100).min(100);
    let (bytes, size, rate) = (human::bytes(done.bytes), human::bytes(done.size), human::bytes(done.rate));
    let long = match note {
        "" => format!("{bytes}/{size} {rate}/s"),
        note => format!("{size} {note}"),
    };
    let brief = format!("{prefix:12} {percent:3}%");
    let full = format!("{prefix:12} {long}");
    match room.checked_sub(full.chars().count() + 3) {
        Some(bar @ NARROWEST_BAR..) => {
            let bar = bar.min(WIDEST_BAR);
            let filled = bar * percent as usize / 100;
            format!("{prefix:12} [{}{}] {long}", "=".repeat(filled), " ".repeat(bar - filled))
        }
        _ if full.chars().count() <= room => full,
        _ => brief.chars().take(room).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_the_terminal_and_tells_what_fits() {
        let done = Done { bytes: 12_300_000, size: 45_600_000, rate: 3_200_000 };
        let shown = |note, width| line("abcdef012345", done, note, width);
        assert_eq!(shown("", 100), "abcdef012345 [=======                       ] 12.3MB/45.6MB 3.20MB/s");
        assert_eq!(shown("", 46), "abcdef012345 [=      ] 12.3MB/45.6MB 3.20MB/s");
        assert_eq!(shown("", 40), "abcdef012345 12.3MB/45.6MB 3.20MB/s");
        assert_eq!(shown("", 30), "abcdef012345  26%");
        assert_eq!(shown("is here already", 40), "abcdef012345 45.6MB is here already");
        for width in 0..120 {
            assert!(shown("", width).len() <= width.saturating_sub(1), "{width}");
        }
        let nothing = Done { bytes: 0, size: 0, rate: 0 };
        assert_eq!(line("total", nothing, "", 30), "total        0B/0B 0B/s");
    }
}

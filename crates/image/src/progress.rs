//! What a pull tells while it goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use carrack_words::Digest;

/// Something happened in a pull. A layer is named by its blob's digest; one that an image has twice is told of once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The name leads to this manifest or index.
    Resolved {
        /// Its digest.
        digest: Digest,
    },
    /// The image has this layer.
    LayerQueued {
        /// The layer.
        digest: Digest,
        /// Its compressed size.
        size_bytes: u64,
    },
    /// The layer is here already; nothing is fetched.
    LayerExists {
        /// The layer.
        digest: Digest,
    },
    /// So much of the layer is here; never less than before.
    LayerProgress {
        /// The layer.
        digest: Digest,
        /// Bytes since its start.
        bytes: u64,
    },
    /// All of the layer is here and has the right digest; it may still be being unpacked.
    LayerDownloaded {
        /// The layer.
        digest: Digest,
    },
    /// The layer can be mounted.
    LayerUnpacked {
        /// The layer.
        digest: Digest,
    },
    /// The image is recorded under its name.
    Done {
        /// The image's id.
        id: Digest,
    },
}

/// Listens to a pull. Called from many threads, for each piece that arrives: it must be cheap and must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: &PullEvent);
}

/// Nobody listens.
impl Progress for () {
    fn event(&self, _: &PullEvent) {}
}

/// One pull's events for all who wait for it. Who joins late is first told how things stand.
#[derive(Default)]
pub(crate) struct Fan {
    state: Mutex<FanState>,
}

#[derive(Default)]
struct FanState {
    listeners: Vec<(u64, Arc<dyn Progress>)>,
    next_id: u64,
    resolved: Option<Digest>,
    /// In the order of the image.
    order: Vec<Digest>,
    layers: HashMap<Digest, LayerState>,
}

#[derive(Default)]
struct LayerState {
    size_bytes: u64,
    bytes: u64,
    /// Existing, downloaded, unpacked: what was last told of it.
    milestone: Option<PullEvent>,
}

impl Fan {
    /// Adds a listener until the answer is dropped.
    pub(crate) fn join(self: &Arc<Self>, listener: Arc<dyn Progress>) -> Listening {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for event in state.so_far() {
            listener.event(&event);
        }
        let id = state.next_id;
        state.next_id += 1;
        state.listeners.push((id, listener));
        Listening { fan: self.clone(), id }
    }

    pub(crate) fn tell(&self, event: PullEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.note(&event);
        for (_, listener) in &state.listeners {
            listener.event(&event);
        }
    }
}

impl FanState {
    fn note(&mut self, event: &PullEvent) {
        match event {
            PullEvent::Resolved { digest } => self.resolved = Some(*digest),
            PullEvent::LayerQueued { digest, size_bytes } => {
                self.order.push(*digest);
                self.layers.insert(*digest, LayerState { size_bytes: *size_bytes, ..LayerState::default() });
            }
            PullEvent::LayerProgress { digest, bytes } => {
                if let Some(layer) = self.layers.get_mut(digest) {
                    layer.bytes = *bytes;
                }
            }
            PullEvent::LayerExists { digest }
            | PullEvent::LayerDownloaded { digest }
            | PullEvent::LayerUnpacked { digest } => {
                if let Some(layer) = self.layers.get_mut(digest) {
                    layer.milestone = Some(event.clone());
                }
            }
            PullEvent::Done { .. } => {}
        }
    }

    fn so_far(&self) -> Vec<PullEvent> {
        let mut events: Vec<_> = self.resolved.iter().map(|digest| PullEvent::Resolved { digest: *digest }).collect();
        for digest in &self.order {
            let layer = &self.layers[digest];
            events.push(PullEvent::LayerQueued { digest: *digest, size_bytes: layer.size_bytes });
            if layer.bytes > 0 {
                events.push(PullEvent::LayerProgress { digest: *digest, bytes: layer.bytes });
            }
            events.extend(layer.milestone.clone());
        }
        events
    }
}

/// A listener's place at the fan.
pub(crate) struct Listening {
    fan: Arc<Fan>,
    id: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.fan.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.listeners.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<PullEvent>>);

    impl Progress for Heard {
        fn event(&self, event: &PullEvent) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    #[test]
    fn who_joins_late_hears_how_things_stand_and_who_left_hears_nothing() {
        let digest = |n| Digest::from_sha256([n; 32]);
        let fan = Arc::new(Fan::default());
        let (early, late) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let place = fan.join(early.clone());
        fan.tell(PullEvent::Resolved { digest: digest(9) });
        fan.tell(PullEvent::LayerQueued { digest: digest(1), size_bytes: 10 });
        fan.tell(PullEvent::LayerQueued { digest: digest(2), size_bytes: 20 });
        fan.tell(PullEvent::LayerProgress { digest: digest(1), bytes: 4 });
        fan.tell(PullEvent::LayerProgress { digest: digest(1), bytes: 7 });
        fan.tell(PullEvent::LayerExists { digest: digest(2) });
        drop(place);
        let _place = fan.join(late.clone());
        fan.tell(PullEvent::LayerDownloaded { digest: digest(1) });
        assert_eq!(early.0.lock().unwrap().len(), 6);
        assert_eq!(
            *late.0.lock().unwrap(),
            [
                PullEvent::Resolved { digest: digest(9) },
                PullEvent::LayerQueued { digest: digest(1), size_bytes: 10 },
                PullEvent::LayerProgress { digest: digest(1), bytes: 7 },
                PullEvent::LayerQueued { digest: digest(2), size_bytes: 20 },
                PullEvent::LayerExists { digest: digest(2) },
                PullEvent::LayerDownloaded { digest: digest(1) },
            ]
        );
    }
}

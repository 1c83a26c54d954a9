//! Pulls under way in this process: who asks for the same joins in.
//!
//! A pull runs as a task of its own and lives as long as anybody waits for it. So one of several callers may go away, and the others get their
//! image; when the last one goes, the pull ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use carrack_registry::CredentialSource;
use carrack_words::ImageRef;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::progress::{Fan, Progress};
use crate::{FetchError, Image, Platform, PullError};

/// Pulls are the same if all of this is. Credentials count: nobody gets what only somebody else may have, nor somebody else's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    pub(crate) image: ImageRef,
    pub(crate) platform: Option<Platform>,
    pub(crate) credentials: CredentialSource,
}

type Outcome = Option<Result<Image, PullError>>;

struct Flight {
    fan: Arc<Fan>,
    outcome: watch::Receiver<Outcome>,
    task: AbortHandle,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All pulls under way.
#[derive(Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<FlightKey, Weak<Flight>>>,
}

impl Flights {
    /// Waits for the pull `key`; starts it with `start` if it is not under way.
    pub(crate) async fn join<F>(
        &self,
        key: FlightKey,
        progress: Arc<dyn Progress>,
        start: impl FnOnce(Arc<Fan>) -> F,
    ) -> Result<Image, PullError>
    where
        F: Future<Output = Result<Image, PullError>> + Send + 'static,
    {
        let image = key.image.to_string();
        let flight = self.find_or_start(key, start);
        let _listening = flight.fan.join(progress);
        let mut outcome = flight.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await;
        match ended.ok().and_then(|outcome| outcome.clone()) {
            Some(result) => result,
            // The task is gone without a word: the runtime shuts down, or it panicked.
            None => Err(PullError { image, source: Arc::new(FetchError::Interrupted) }),
        }
    }

    fn find_or_start<F>(&self, key: FlightKey, start: impl FnOnce(Arc<Fan>) -> F) -> Arc<Flight>
    where
        F: Future<Output = Result<Image, PullError>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, flight| flight.strong_count() > 0);
        // One that has ended is history, though somebody may not have fetched its outcome yet.
        let present = under_way.get(&key).and_then(Weak::upgrade).filter(|flight| flight.outcome.borrow().is_none());
        if let Some(flight) = present {
            return flight;
        }
        let fan = Arc::new(Fan::default());
        let (sender, outcome) = watch::channel(None);
        let pull = start(fan.clone());
        let task = tokio::spawn(async move {
            let result = pull.await;
            // Nobody may be waiting any more.
            let _ = sender.send(Some(result));
        });
        let flight = Arc::new(Flight { fan, outcome, task: task.abort_handle() });
        under_way.insert(key, Arc::downgrade(&flight));
        flight
    }
}

//! One pull's access to the store: on threads that may block, under one lease, and known to be at work until the last of them has cleaned up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use carrack_store::{Lease, Lock, Store};
use carrack_words::Digest;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::FetchError;
use crate::progress::Fan;

/// Between two looks at a lock that somebody else holds.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What a pull works with; clones share it.
#[derive(Clone)]
pub(crate) struct Work {
    store: Store,
    lease: Arc<Lease>,
    pub(crate) fan: Arc<Fan>,
    /// Never sent on. When all clones are gone, so are all threads of this pull.
    _at_work: mpsc::Sender<Infallible>,
}

/// Waits for the end of a pull's threads.
pub(crate) struct AtWork(mpsc::Receiver<Infallible>);

impl AtWork {
    /// Returns when nobody is at work any more; all [`Work`] has to be dropped by then, or it waits for good.
    pub(crate) async fn ended(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

impl Work {
    /// Starts to work under a new lease. Blocks.
    pub(crate) fn start(store: &Store, purpose: &str, fan: Arc<Fan>) -> Result<(Self, AtWork), FetchError> {
        let lease = Arc::new(store.leases().create(purpose, None)?);
        let (sender, receiver) = mpsc::channel(1);
        Ok((Self { store: store.clone(), lease, fan, _at_work: sender }, AtWork(receiver)))
    }

    /// Runs `action` where it may block. If the future is dropped the action still runs to its end, with lease and all.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Store, &Arc<Lease>) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let work = self.clone();
        let action = move || {
            // As a whole: a closure takes only the fields that it names, and the one which says that we are at work would stay behind.
            let work = work;
            action(&work.store, &work.lease)
        };
        match tokio::task::spawn_blocking(action).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down.
            Err(_) => Err(FetchError::Interrupted),
        }
    }

    /// A small blob, if the store has it; the lease holds it from here on.
    pub(crate) async fn stored(&self, digest: Digest, limit_bytes: usize) -> Result<Option<Vec<u8>>, FetchError> {
        self.blocking(move |store, lease| match store.blobs().claim(lease, &digest)? {
            Some(_) => Ok(Some(store.blobs().read(&digest, limit_bytes as u64)?)),
            None => Ok(None),
        })
        .await
    }

    /// Waits until nobody else, in this process or another, fetches this blob.
    pub(crate) async fn exclusively(&self, digest: Digest) -> Result<Lock, FetchError> {
        loop {
            let lock = self.blocking(move |store, _| Ok(store.locks().try_acquire("fetch", &digest.hex())?)).await?;
            match lock {
                Some(lock) => return Ok(lock),
                None => sleep(LOCK_PAUSE).await,
            }
        }
    }
}

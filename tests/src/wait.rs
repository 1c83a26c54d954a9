//! Waiting for conditions. No test sleeps for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// Polls `condition` until it gives a value; panics with `what` when `limit` is over.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Polls `condition` until it holds; panics with `what` when `limit` is over.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

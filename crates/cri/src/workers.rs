//! Carries the engine's blocking calls, so many at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::Status;

use crate::fault::Fault;

/// Calls that end soon: most of them.
const SHORT: usize = 64;
/// Stops, each of which may wait for a grace period.
const STOP: usize = 128;
/// Programs in containers, which may run for as long as they like.
const EXEC: usize = 256;
// Together they stay below the 512 blocking threads that tokio has by default, so that none of them waits for a thread.

/// Which kind of call it is; a flood of one does not keep the others waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Short,
    Stop,
    Exec,
}

/// The bounds. A call above them waits, until its turn comes or its caller goes away.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    short: Arc<Semaphore>,
    stop: Arc<Semaphore>,
    exec: Arc<Semaphore>,
}

impl Workers {
    pub fn new() -> Self {
        let lane = |permits| Arc::new(Semaphore::new(permits));
        Self { short: lane(SHORT), stop: lane(STOP), exec: lane(EXEC) }
    }

    /// Runs `work` on a thread where it may block. If the caller goes away meanwhile, `work` still runs to its end and keeps its
    /// place until then.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        let lane = match lane {
            Lane::Short => &self.short,
            Lane::Stop => &self.stop,
            Lane::Exec => &self.exec,
        };
        let place = lane.clone().acquire_owned().await.expect("the semaphores are never closed");
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        Ok(done.await.map_err(Fault::from)??)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_full_lane_waits_and_the_others_do_not() {
        let workers = Workers::new();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let mut stops = tokio::task::JoinSet::new();
        for _ in 0..STOP + 1 {
            let (workers, held) = (workers.clone(), held.clone());
            stops.spawn(async move {
                workers.run(Lane::Stop, move || Ok(held.lock().expect("no test thread panics").recv().is_ok())).await
            });
        }
        while workers.stop.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.run(Lane::Short, || Ok(7)).await.expect("it is not held up"), 7);
        for _ in 0..STOP + 1 {
            release.send(()).expect("somebody waits");
        }
        while let Some(stopped) = stops.join_next().await {
            assert!(stopped.expect("no panic").expect("no fault"));
        }
        assert_eq!(workers.stop.available_permits(), STOP);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_frees_its_place() {
        let workers = Workers::new();
        // Without the hook's message: in the log of the tests it would look like a failure.
        let panic = || -> Result<(), Fault> { std::panic::resume_unwind(Box::new("on purpose")) };
        let status = workers.run(Lane::Short, panic).await.expect_err("it panicked");
        assert_eq!(status.code(), tonic::Code::Internal);
        assert_eq!(workers.short.available_permits(), SHORT);
    }
}

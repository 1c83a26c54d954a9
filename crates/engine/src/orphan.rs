//! Containers whose monitor was killed. Their processes run on: what they write is lost, nobody will see their exit, nothing can be
//! run in them. They can still be told signals, be stopped, removed, and started anew.

use std::time::{Duration, Instant};

use carrack_runtime::KillScope;
use carrack_words::{ContainerId, Kind};

use crate::container::LOOK_AGAIN;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::record::ContainerRecord;
use crate::view::Phase;

impl Engine {
    /// Sends a signal to an orphan's first process.
    pub(crate) fn signal_orphan(&self, id: &ContainerId, signal: u8) -> Result<(), EngineError> {
        match carrack_runtime::kill(&self.config.runtime_state(), id, i32::from(signal), KillScope::Init) {
            Ok(()) => Ok(()),
            Err(error) => Err(EngineError::State {
                what: "container",
                name: id.short().to_owned(),
                state: format!("cannot be sent signal {signal}: {}", chain(&error)),
            }),
        }
    }

    /// Stops an orphan: its stop signal now, SIGKILL after the timeout.
    pub(crate) fn stop_orphan(&self, record: &ContainerRecord, timeout: Duration) -> Result<(), EngineError> {
        if !timeout.is_zero() && self.signal_orphan(&record.id, record.stop_signal).is_ok() {
            let deadline = Instant::now() + timeout;
            while Instant::now() < deadline && matches!(self.observe(record)?, Phase::Unknown) {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        self.end_orphan(&record.id)
    }

    /// Kills and forgets what the runtime has of a container whose monitor is gone.
    pub(crate) fn end_orphan(&self, id: &ContainerId) -> Result<(), EngineError> {
        let state = self.config.runtime_state();
        if !state.join(id.as_str()).exists() {
            return Ok(());
        }
        match carrack_runtime::delete(&state, id, carrack_runtime::Force::Yes) {
            Ok(_) => Ok(()),
            // Somebody else was faster.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => {
                Err(EngineError::Teardown { what: "container", name: id.to_string(), failures: chain(&error) })
            }
        }
    }
}

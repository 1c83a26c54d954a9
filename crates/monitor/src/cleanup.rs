//! The end of a monitor.
//!
//! When the last container of a pod that is not persistent has exited, the exit is recorded and told. Then the engine's `cleanup` program
//! is started, so that addresses, mounts and `--rm` containers go away though no engine runs, and the monitor leaves as soon as its clients
//! have read what they were promised. Nobody waits for the program; it finds the monitor gone or about to go.

use std::process::{Command, Stdio};
use std::time::Duration;

use carrack_sys::detached::spawn_in_new_session;
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use carrack_words::Exit;

use crate::connection::Role;
use crate::journal::Journal;
use crate::pod::Pod;

/// How long a client that is only told something may take to read it. One that is owed a container's output may take as long as it
/// is there.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the group of a process that was waited for may take to be empty.
const GROUP_PATIENCE: Duration = Duration::from_secs(2);

/// A monitor that is about to leave.
#[derive(Debug)]
pub(crate) struct Ending {
    leave_at: Duration,
    /// Pid of the cleanup program, our child.
    cleanup: Option<u32>,
}

/// Whether the cleanup program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunCleanup {
    /// The pod ended by itself.
    Yes,
    /// The engine ends it, and cleans up itself.
    No,
}

impl Ending {
    /// When the monitor leaves at the latest, by the monotonic clock.
    pub(crate) fn deadline(&self) -> Duration {
        self.leave_at
    }

    /// A child died that nobody else knows.
    pub(crate) fn child_died(&mut self, pid: i32, exit: Exit, journal: &Journal) {
        if self.cleanup.is_some_and(|cleanup| i64::from(cleanup) == i64::from(pid)) {
            self.cleanup = None;
            if exit != Exit::Code(0) {
                journal.note(format_args!("the cleanup program ended with {}", exit.code()));
            }
        }
    }
}

impl Pod {
    /// Begins to end if nothing is left to watch over.
    pub(crate) fn end_if_over(&mut self) {
        let is_over = !self.config.persistent
            && self.ending.is_none()
            && self.execs.is_empty()
            // One was created; a container that was removed since is over too.
            && self.next_container > 0
            && self.containers.iter().all(|container| container.life.has_exited());
        if is_over {
            self.begin_end(RunCleanup::Yes);
        }
    }

    pub(crate) fn begin_end(&mut self, run_cleanup: RunCleanup) {
        self.listener = None;
        self.run_dir.unlock();
        let cleanup = match run_cleanup {
            RunCleanup::Yes => self.start_cleanup(),
            RunCleanup::No => None,
        };
        let leave_at = self.now().monotonic.saturating_add(CLIENT_PATIENCE);
        self.ending = Some(Ending { leave_at, cleanup });
    }

    fn start_cleanup(&self) -> Option<u32> {
        let (program, arguments) = self.config.cleanup.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).env("CARRACK_POD", self.config.id.as_str()).current_dir("/").stdin(Stdio::null());
        for stream in [Command::stdout, Command::stderr] {
            let journal = self.journal.file().try_clone();
            stream(&mut command, journal.map_or_else(|_| Stdio::null(), Stdio::from));
        }
        match spawn_in_new_session(&mut command) {
            Ok(child) => Some(child.id()),
            Err(error) => {
                self.journal.note(format_args!("run {program} to clean up: {error}"));
                None
            }
        }
    }

    /// Whether all clients have been told what they were promised, or have had the time for it.
    pub(crate) fn may_leave(&mut self) -> bool {
        let now = self.now().monotonic;
        let Some(ending) = &mut self.ending else { return false };
        // Output of a container is owed to whoever asked to be waited for; a client that has gone is dropped, not waited for.
        let owes_output = self.connections.values().any(|connection| {
            matches!(connection.role, Role::Closing) && connection.is_lossless() && connection.output_bytes() > 0
        });
        if owes_output {
            ending.leave_at = now.saturating_add(CLIENT_PATIENCE);
            return false;
        }
        now >= ending.leave_at || self.connections.values().all(|connection| connection.output_bytes() == 0)
    }

    /// The last thing a monitor does. Its namespaces go with its handles.
    pub(crate) fn leave(&mut self) {
        if let Some(pid) = self.namespaces.pod_init.take().and_then(|init| Pid::from_raw(init.pid)) {
            // Our own child, not waited for yet, so the pid is still its own.
            let _ = kill_process(pid, Signal::KILL);
            while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
        }
        let removed = self.namespaces.pod_init_group.take().map(|group| group.remove(GROUP_PATIENCE));
        if let Some(Err(error)) = removed {
            self.journal.note_error(&error);
        }
    }
}

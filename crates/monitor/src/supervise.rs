//! Deaths, deadlines, and what follows from them.

use std::time::Duration;

use carrack_monitor_proto::{ExitRecord, Response, Signal, SignalScope, StreamFrame};
use carrack_sys::rustix::process::{WaitOptions, WaitStatus, wait};
use carrack_words::Exit;

use crate::connection::Role;
use crate::container::ContainerKey;
use crate::exit_file;
use crate::lifecycle::{Effect, Event, Failure, StartedBy};
use crate::pod::Pod;
use crate::streams::Got;

/// How long a process that outlived its container may keep an output open. Such a process is killed as soon as the container has died,
/// so this is for one that the kernel cannot end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// A pipe has at most 1 MiB, unless a privileged process made it larger.
const READS_OF_A_FULL_PIPE: usize = 64;

impl Pod {
    /// Lets deadlines that have passed happen.
    pub(crate) fn pass_time(&mut self) {
        let now = self.now();
        let keys: Vec<_> = self.containers.iter().map(|container| container.key).collect();
        for key in keys {
            self.happen(key, Event::Tick);
            let Some(at) = self.position(key) else { continue };
            if self.containers[at].drain_until.is_some_and(|until| now.monotonic >= until) {
                let id = &self.containers[at].create.id;
                self.journal
                    .note(format_args!("container {id}: a process still holds its output; what it writes is lost"));
                self.finish_drain(at);
            }
        }
    }

    /// Takes the exit of every child that has died, our own ones and those that were left to us.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(exit) = exit_of(status) {
                self.child_died(pid.as_raw_nonzero().get(), exit);
            }
        }
    }

    fn child_died(&mut self, pid: i32, exit: Exit) {
        let of_container =
            |container: &&crate::container::Container| container.life.init().is_some_and(|init| init.pid == pid);
        if let Some(container) = self.containers.iter().find(of_container) {
            let key = container.key;
            self.happen(key, Event::Died { exit });
        } else if let Some(at) = self.execs.iter().position(|exec| exec.pid == pid) {
            let exec = self.execs.remove(at);
            for connection in self.connections.values_mut() {
                if matches!(&connection.role, Role::Executing { exec_id, .. } if *exec_id == exec.id) {
                    connection.answer(&Response::ExecExited { exec_id: exec.id.clone(), exit }, None);
                    connection.role = Role::Idle;
                }
            }
        } else if self.namespaces.pod_init.is_some_and(|init| init.pid == pid) {
            self.namespaces.pod_init = None;
            self.journal
                .note(format_args!("the pod's first process has ended ({exit:?}), and its pid namespace with it"));
        } else if let Some(ending) = &mut self.ending {
            ending.child_died(pid, exit, &self.journal);
        }
    }

    /// Tells a container's life of an event, and carries out what follows.
    pub(crate) fn happen(&mut self, key: ContainerKey, event: Event) {
        let now = self.now();
        let Some(at) = self.position(key) else { return };
        match self.containers[at].life.on(event, now) {
            Ok(effects) => {
                for effect in effects {
                    self.carry_out(key, effect);
                }
            }
            // Requests are checked before they become events, so this is a bug; it must not end the pod.
            Err(refused) => self.journal.note_error(&refused),
        }
    }

    fn carry_out(&mut self, key: ContainerKey, effect: Effect) {
        let Some(at) = self.position(key) else { return };
        let id = &self.containers[at].create.id;
        match effect {
            Effect::SignalInit(signal) => {
                if let Err(error) = self.launcher.kill(id, signal, SignalScope::Init) {
                    self.journal.note_error(&error);
                }
            }
            Effect::KillAll => {
                if let Err(error) = self.launcher.kill(id, Signal::KILL, SignalScope::All) {
                    self.journal.note_error(&error);
                }
            }
            Effect::Drain => self.begin_drain(at),
            Effect::Announce(record) => self.announce(at, record),
            Effect::Recreate => match self.recreate(at, StartedBy::Policy) {
                // A failure to start is an event of its own, already carried out.
                Ok(()) => drop(self.release(key)),
                Err(error) => {
                    let failure = Failure::new(error.kind(), crate::journal::chain(&error));
                    self.happen(key, Event::RecreateFailed(failure));
                }
            },
        }
    }

    /// The container's first process is dead: kills what is left, and reads what there is.
    fn begin_drain(&mut self, at: usize) {
        // In a pid namespace of its own nothing is left; otherwise this ends what would keep the outputs open. That it finds nobody is no
        // error worth a note.
        let _ = self.launcher.kill(&self.containers[at].create.id, Signal::KILL, SignalScope::All);
        self.containers[at].streams.release();
        self.containers[at].drain_until = Some(self.now().monotonic.saturating_add(DRAIN_PATIENCE));
        for output in 0..self.containers[at].streams.outputs.len() {
            // As much as a full pipe has; whoever else got hold of it may write for ever, and the loop reads on until the patience ends.
            for _ in 0..READS_OF_A_FULL_PIPE {
                if !matches!(self.read_output(at, output), Got::Bytes(_)) {
                    break;
                }
            }
        }
        self.finish_drain_if_over(at);
    }

    pub(crate) fn finish_drain_if_over(&mut self, at: usize) {
        let container = &self.containers[at];
        if container.drain_until.is_some() && container.streams.outputs.iter().all(|output| output.reader().is_none()) {
            self.finish_drain(at);
        }
    }

    fn finish_drain(&mut self, at: usize) {
        let container = &mut self.containers[at];
        container.drain_until = None;
        container.finish_record(&mut self.recorder, &self.journal);
        container.log = None;
        container.streams = Default::default();
        let oom_killed = self.launcher.oom_killed(&container.create.id);
        match self.launcher.delete(&container.create.id) {
            Ok(failures) => failures.iter().for_each(|failure| self.journal.note_error(failure)),
            Err(error) => self.journal.note_error(&error),
        }
        let key = container.key;
        self.happen(key, Event::Drained { oom_killed });
    }

    /// Records an exit, then tells everybody who waits for it.
    fn announce(&mut self, at: usize, record: ExitRecord) {
        let container = &self.containers[at];
        if let Err(error) = exit_file::write(&container.create.exit_file, &record) {
            self.journal.note_error(&error);
        }
        let (key, has_exited) = (container.key, container.life.has_exited());
        for connection in self.connections.values_mut() {
            match &connection.role {
                Role::Waiting { container } if *container == key => {
                    connection.answer(&Response::Exited(record.clone()), None);
                    connection.role = Role::Idle;
                }
                Role::Attached { container, .. } if *container == key => {
                    connection.stream_frame(&StreamFrame::End(record.clone()));
                    connection.role = Role::Closing;
                }
                Role::Removing { container } if *container == key && has_exited => {
                    connection.answer(&Response::Done, None);
                    connection.role = Role::Idle;
                    self.containers.retain(|container| container.key != key);
                }
                Role::Greeting
                | Role::Idle
                | Role::Waiting { .. }
                | Role::Removing { .. }
                | Role::Executing { .. }
                | Role::Attached { .. }
                | Role::Closing => {}
            }
        }
    }

    /// Reads an output once: into the log and to the clients.
    pub(crate) fn read_output(&mut self, at: usize, output: usize) -> Got {
        let container = &mut self.containers[at];
        let Some(source) = container.streams.outputs.get_mut(output) else { return Got::End };
        let name = source.name;
        let got = source.read(&mut self.buffer[..]);
        let Got::Bytes(count) = got else { return got };
        let bytes = &self.buffer[..count];
        container.record(output, bytes, &mut self.recorder, &self.journal);
        for connection in self.connections.values_mut() {
            if connection.wants(container.key, name.to_client()) {
                connection.stream(name.to_client(), bytes);
            }
        }
        got
    }
}

/// How a child ended; `None` if it only stopped.
fn exit_of(status: WaitStatus) -> Option<Exit> {
    let exit = status.exit_status().map(|code| Exit::Code(code as u8));
    exit.or_else(|| status.terminating_signal().map(|signal| Exit::Signal(signal as u8)))
}

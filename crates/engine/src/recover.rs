//! Brings records and reality together after a crash, a reboot, or the death of a monitor.
//!
//! Reads the disk, asks the kernel, then finishes or rolls back. May be run at any time beside other engines: it takes each pod's lock, and
//! passes over those that somebody else is at work on.

use std::path::Path;

use carrack_monitor_proto::{ContainerPhase, PodState, RestartPolicy};
use carrack_words::{ContainerId, Kind, PodId, Timestamp};

use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::pairing::part;
use crate::record::{ContainerRecord, PodRecord, PodStage};
use crate::view::Phase;

/// Is in the run directory once what an earlier boot left has been released.
const RECOVERED: &str = "recovered";
/// Is in the run directory before anything else; never written again, so that its time tells since when there is the directory.
const BEGAN: &str = "began";

/// Makes that file, in a run directory that is new.
pub(crate) fn mark_beginning(run: &Path) -> Result<(), EngineError> {
    let mark = run.join(BEGAN);
    match std::fs::File::create_new(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(EngineError::io("write", mark)(error)),
        _ => Ok(()),
    }
}

/// Whether containers are started again by their policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    No,
    Yes,
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pods whose effects were half-made, outlived by their monitor or ended by a reboot, and are released now.
    pub released: Vec<PodId>,
    /// Containers started again by their restart policy.
    pub restarted: Vec<ContainerId>,
    /// What went wrong meanwhile.
    pub failures: Vec<String>,
}

impl Engine {
    /// Releases what nobody owns any more, starts again what is to run, and sweeps the store. For the start of a daemon.
    pub fn recover(&self) -> Result<Recovered, EngineError> {
        let mut found = Recovered::default();
        self.recover_pods(Restart::Yes, &mut found)?;
        // A firewall that was started meanwhile may be in the way, or our rules may be gone.
        match self.network()?.ensure() {
            Ok(changes) => changes.iter().for_each(|change| tracing::info!("{change}")),
            Err(error) => found.failures.push(chain(&error)),
        }
        // The network lists its pods first and asks afterwards: one that is just being made is in the table before it gets an address.
        let network = self.network()?.reconcile(|id| match self.pods_table().get(id) {
            Ok(kept) => kept.record.stage != PodStage::Idle,
            // A database that fails says nothing about the pod.
            Err(error) => error.kind() != Kind::NotFound,
        });
        if let Err(error) = network {
            found.failures.push(chain(&error));
        }
        self.release_unused_images()?;
        if let Err(error) = self.store.gc() {
            found.failures.push(chain(&error));
        }
        Ok(found)
    }

    /// Releases what a reboot has ended, if nobody has done so in this boot. For commands that run without a daemon; they start nothing again.
    pub fn recover_after_reboot(&self) -> Result<Recovered, EngineError> {
        let mut found = Recovered::default();
        if !self.config.run.join(RECOVERED).exists() {
            self.recover_pods(Restart::No, &mut found)?;
        }
        Ok(found)
    }

    fn recover_pods(&self, restart: Restart, found: &mut Recovered) -> Result<(), EngineError> {
        for pod in self.pods_table().list()? {
            if let Err(error) = self.recover_pod(&pod, restart, found) {
                found.failures.push(format!("pod {}: {}", pod.id.short(), chain(&error)));
            }
        }
        let mark = self.config.run.join(RECOVERED);
        std::fs::write(&mark, "").map_err(EngineError::io("write", mark))
    }

    /// Whether a container was started before there was this run directory. A host that is itself a container is restarted without a new
    /// boot id.
    pub(crate) fn is_of_earlier_run(&self, container: &ContainerRecord) -> bool {
        let began = std::fs::metadata(self.config.run.join(BEGAN)).and_then(|mark| mark.modified());
        began.ok().zip(container.started_at).is_some_and(|(began, started)| started < Timestamp::from(began))
    }

    /// A container whose maker was killed before it was recorded may still hold its image.
    fn release_unused_images(&self) -> Result<(), EngineError> {
        for id in self.image_holders()? {
            let is_being_made =
                |kind| Ok::<_, EngineError>(self.store.locks().try_acquire(kind, id.as_str())?.is_none());
            if is_being_made("container")? || is_being_made("pod")? {
                continue;
            }
            if self.containers_table().get(&id).is_err_and(|error| error.kind() == Kind::NotFound) {
                self.release_image(&id)?;
            }
        }
        Ok(())
    }

    fn recover_pod(&self, pod: &PodRecord, restart: Restart, found: &mut Recovered) -> Result<(), EngineError> {
        let Some(lock) = self.store.locks().try_acquire("pod", pod.id.as_str())? else { return Ok(()) };
        let mut kept = match self.pods_table().get(&pod.id) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        let mut containers = self.containers_table().list()?;
        containers.retain(|container| container.pod == pod.id);
        let is_lost = match kept.record.stage {
            PodStage::Idle => false,
            PodStage::Making => true,
            PodStage::Ready if kept.record.boot_id != self.boot_id => true,
            // Nobody is starting anything: we have the lock.
            PodStage::Ready => self.pod_state(&pod.id)?.is_none_or(|state| pod.is_single() && is_over(&state)),
        };
        if is_lost {
            self.release_pod(&mut kept)?;
            found.released.push(pod.id.clone());
        }
        let removable = |container: &&ContainerRecord| {
            container.request.auto_remove
                && (container.started_in_boot.is_some() || self.is_abandoned(container.id.as_str()))
        };
        if pod.is_single() && kept.record.stage == PodStage::Idle {
            let gone: Vec<_> = containers.iter().filter(removable).collect();
            for container in &gone {
                self.forget_container(container, true)?;
            }
            if !gone.is_empty() || containers.is_empty() {
                return self.pods_table().delete(&pod.id);
            }
        }
        drop(lock);
        if restart == Restart::No {
            return Ok(());
        }
        for container in containers.iter().filter(|container| !container.sandboxed && wants_start(container)) {
            if matches!(self.observe(container)?, Phase::Exited(_))
                && container.started_in_boot.as_ref() != Some(&self.boot_id)
            {
                self.start_container(&container.id)?;
                found.restarted.push(container.id.clone());
            }
        }
        Ok(())
    }

    /// Stops and releases everything of this engine and removes what it set up on the host. Images, volumes and containers stay, and
    /// may be used with another run directory afterwards. Goes through all steps even if one fails; what goes away by itself meanwhile is fine.
    pub fn teardown(&self) -> Result<(), EngineError> {
        let mut failures: Vec<EngineError> = Vec::new();
        let mut attempt = |result: Result<(), EngineError>| failures.extend(result.err());
        match self.pods_table().list() {
            Ok(pods) => pods.iter().for_each(|pod| attempt(self.stop_pod_if_there(&pod.id))),
            Err(error) => attempt(Err(error)),
        }
        match self.unknown_pods() {
            Ok(pods) => pods.iter().for_each(|pod| attempt(self.release_unknown_pod(pod))),
            Err(error) => attempt(Err(error)),
        }
        attempt(self.network().and_then(|network| Ok(network.teardown()?)));
        for group in [self.config.monitor_cgroup(), self.config.cgroup_parent.clone()] {
            attempt(remove_group(&group));
        }
        // Something may still run in the run directory otherwise, and another one must not be used.
        if failures.is_empty() {
            failures.extend(part(&self.config.root).err());
        }
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => {
                let name = self.config.run.display().to_string();
                let failures = failures.iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ");
                Err(EngineError::Teardown { what: "what ran in", name, failures })
            }
        }
    }

    fn stop_pod_if_there(&self, pod: &PodId) -> Result<(), EngineError> {
        match self.stop_pod(pod) {
            Err(EngineError::NotFound { what: "pod", .. }) => Ok(()),
            other => other,
        }
    }
}

/// Whether the policy starts a container after a reboot.
fn wants_start(container: &ContainerRecord) -> bool {
    match container.request.restart {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !container.stopped,
        // A run that a reboot cut off counts as a failure.
        RestartPolicy::OnFailure { .. } => !container.stopped,
        RestartPolicy::No => false,
    }
}

/// Whether nothing runs or will run by itself.
fn is_over(state: &PodState) -> bool {
    let is_idle =
        |phase: &ContainerPhase| matches!(phase, ContainerPhase::Created { .. } | ContainerPhase::Exited { .. });
    state.containers.iter().all(|container| is_idle(&container.phase))
}

fn remove_group(path: &str) -> Result<(), EngineError> {
    let failed = |error: &dyn std::error::Error| EngineError::Teardown {
        what: "cgroup",
        name: path.to_owned(),
        failures: chain(error),
    };
    let host = carrack_cgroup::Host::probe().map_err(|error| failed(&error))?;
    let path = carrack_cgroup::GroupPath::parse(path).map_err(|error| failed(&error))?;
    host.open(&path).remove(std::time::Duration::from_secs(2)).map_err(|error| failed(&error))
}

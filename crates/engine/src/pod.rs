//! Pods: their namespaces, addresses and monitors come and go together.
//!
//! The effects of a pod are made in one order and undone in the other, always by whoever holds the pod's lock. Undoing may be repeated: what is
//! gone is gone. A pod made for a single container has its effects only while that container runs.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use carrack_monitor::Vacant;
use carrack_monitor::client::{Client, ClientError};
use carrack_monitor_proto::{
    ContainerPhase, IpcMode, NetworkMode as MonitorNetwork, POD_CONFIG_FILE, PidMode, PodConfig, PodState, Request,
    Response, UtsMode,
};
use carrack_network::{
    AttachRequest, DnsOverride, HostResolvFiles, HostsFile, InterfaceName, ResolvNote, create_netns, hostname_file,
    hosts_file, remove_netns, resolv_conf,
};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use carrack_words::{Kind, PodId, Timestamp};

use crate::defaults;
use crate::engine::{Engine, create_private_dir, replace_file};
use crate::error::{EngineError, chain};
use crate::link::{connect, is_absent};
use crate::names;
use crate::record::{PodRecord, PodStage};
use crate::request::{NamespaceMode, NetworkMode, PodFilter, PodRequest};
use crate::table::Kept;
use crate::view::PodView;

/// How long a monitor that takes no requests may take to begin or to end.
const MONITOR_END_LIMIT: Duration = Duration::from_secs(5);
const MONITOR_POLL: Duration = Duration::from_millis(2);

impl Engine {
    /// Makes a pod sandbox. A repeat of the same request finds the sandbox that it made; another one of the same name is refused.
    pub fn run_pod(&self, request: PodRequest) -> Result<PodId, EngineError> {
        check_pod(&request)?;
        let name = sandbox_name(&request);
        if let Some(name) = &name
            && let Ok(id) = self.pods_table().find(name)
        {
            return self.existing_pod(id, &request, name);
        }
        let id = PodId::new(names::random_hex()).expect("hexadecimal digits are legal in ids");
        let _lock = self.lock_pod(&id)?;
        let mut kept = self.insert_pod(id.clone(), request, name.as_deref())?;
        if let Err(error) = self.make_pod(&mut kept) {
            // Nothing of it shall stay, not even its name; unless something could not be undone, which its record remembers.
            if kept.record.stage == PodStage::Idle {
                self.pods_table().delete(&id)?;
            }
            return Err(error);
        }
        Ok(id)
    }

    fn existing_pod(&self, id: PodId, request: &PodRequest, name: &str) -> Result<PodId, EngineError> {
        // Whoever is making it has the lock; then it is either ready or gone.
        let _lock = self.lock_pod(&id)?;
        let kept = self.pods_table().get(&id)?;
        match kept.record.stage == PodStage::Ready && kept.record.request == *request {
            true => Ok(id),
            false => Err(EngineError::Store(carrack_store::StoreError::NameTaken {
                kind: "pod".into(),
                name: name.to_owned(),
                id: id.to_string(),
            })),
        }
    }

    pub(crate) fn insert_pod(
        &self,
        id: PodId,
        request: PodRequest,
        name: Option<&str>,
    ) -> Result<Kept<PodRecord>, EngineError> {
        let record = PodRecord {
            version: PodRecord::VERSION,
            id,
            ports: request.ports.clone(),
            request,
            created_at: Timestamp::now(),
            stage: PodStage::Idle,
            boot_id: self.boot_id.clone(),
            network_namespace: None,
            addresses: Vec::new(),
        };
        Ok(self.pods_table().insert(&record, name)?)
    }

    /// Kills what runs in a pod and releases what it holds; its record and its containers' stay. A repeat changes nothing.
    pub fn stop_pod(&self, id: &PodId) -> Result<(), EngineError> {
        let _lock = self.lock_pod(id)?;
        let mut kept = self.pods_table().get(id)?;
        self.mark_stopped(id)?;
        self.release_pod(&mut kept)
    }

    /// Stops a pod and removes it with all its containers.
    pub fn remove_pod(&self, id: &PodId) -> Result<(), EngineError> {
        let _lock = self.lock_pod(id)?;
        let mut kept = self.pods_table().get(id)?;
        self.release_pod(&mut kept)?;
        for container in self.containers_table().list()?.into_iter().filter(|container| container.pod == *id) {
            self.forget_container(&container, true)?;
        }
        self.pods_table().delete(id)
    }

    /// The pod with this id, or the beginning of it.
    pub fn find_pod(&self, query: &str) -> Result<PodId, EngineError> {
        self.pods_table().find(query)
    }

    /// One pod.
    pub fn pod(&self, id: &PodId) -> Result<PodView, EngineError> {
        Ok(self.view_pod(self.pods_table().get(id)?.record))
    }

    /// All pods that pass the filter, the oldest first.
    pub fn pods(&self, filter: &PodFilter) -> Result<Vec<PodView>, EngineError> {
        let mut found: Vec<PodView> = self
            .pods_table()
            .list()?
            .into_iter()
            .filter(|pod| filter.include_single || !pod.is_single())
            .filter(|pod| filter.id.as_deref().is_none_or(|id| pod.id.as_str().starts_with(id)))
            .filter(|pod| has_labels(&pod.request.labels, &filter.labels))
            .map(|pod| self.view_pod(pod))
            .filter(|pod| filter.ready.is_none_or(|ready| pod.ready == ready))
            .collect();
        found.sort_by_key(|pod| pod.created_at);
        Ok(found)
    }

    fn view_pod(&self, record: PodRecord) -> PodView {
        let has_effects = record.stage == PodStage::Ready && record.boot_id == self.boot_id;
        let (ready, monitor) = match has_effects.then(|| self.link(&record.id)) {
            None => (false, None),
            Some(Ok(link)) => (true, Some(link.monitor())),
            Some(Err(error)) if is_absent(&error) => (false, None),
            // It does not answer, which does not mean that it is dead.
            Some(Err(_)) => (true, None),
        };
        PodView {
            ready,
            monitor,
            id: record.id,
            request: record.request,
            created_at: record.created_at,
            addresses: record.addresses,
            ports: record.ports,
            network_namespace: record.network_namespace,
        }
    }

    /// A connection to the pod's monitor.
    pub(crate) fn link(&self, pod: &PodId) -> Result<Client, ClientError> {
        connect(&self.config.pod_dir(pod))
    }

    /// What the pod's monitor says of its containers; `None` if there is no monitor.
    pub(crate) fn pod_state(&self, pod: &PodId) -> Result<Option<PodState>, EngineError> {
        let mut link = match self.link(pod) {
            Ok(link) => link,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match link.call(&Request::State) {
            Ok(Response::State(state)) => Ok(Some(*state)),
            Ok(other) => Err(ClientError::other_answer(&other).into()),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a pod's effects. The caller holds its lock; after a failure nothing of them is left.
    pub(crate) fn make_pod(&self, kept: &mut Kept<PodRecord>) -> Result<(), EngineError> {
        kept.record.stage = PodStage::Making;
        kept.record.boot_id = self.boot_id.clone();
        self.pods_table().update(kept)?;
        if let Err(error) = self.make_effects(&mut kept.record) {
            // The first failure is the one to tell; what could not be undone is found again by recovery.
            if let Err(second) = self.release_pod(kept) {
                tracing::warn!(pod = %kept.record.id, error = chain(&second), "roll back");
            }
            return Err(error);
        }
        kept.record.stage = PodStage::Ready;
        self.pods_table().update(kept)
    }

    fn make_effects(&self, pod: &mut PodRecord) -> Result<(), EngineError> {
        let directory = self.config.pod_dir(&pod.id);
        create_private_dir(&directory)?;
        if pod.request.network != NetworkMode::Host {
            pod.network_namespace = Some(create_netns(&namespace_name(&pod.id))?);
        }
        if let (NetworkMode::Bridge, Some(netns)) = (pod.request.network, &pod.network_namespace) {
            let attached = self.network()?.attach(&AttachRequest {
                id: pod.id.clone(),
                netns: netns.clone(),
                interface: InterfaceName::new("eth0").expect("the name is well-formed"),
                ports: pod.request.ports.clone(),
            })?;
            for change in &attached.changes {
                tracing::info!("{change}");
            }
            pod.addresses = attached.attachment.addresses.iter().map(|address| address.ip).collect();
            pod.ports = attached.attachment.ports;
        }
        let hostname = hostname(&pod.id, &pod.request)?;
        let files = self.config.files_dir(&pod.id);
        create_private_dir(&files)?;
        write_files(&files, &pod.request, &hostname, &pod.addresses)?;
        if shares_shm(&pod.request) {
            mount_shm(&directory.join("shm"), pod.request.shm_size_bytes.unwrap_or(defaults::SHM_BYTES))?;
        }
        let config = self.plan_pod(pod, hostname);
        let text = serde_json::to_vec(&config).expect("the record has string keys only");
        replace_file(&directory.join(POD_CONFIG_FILE), &text)?;
        carrack_monitor::start(&self.config.oci_program, &directory)?;
        Ok(())
    }

    fn plan_pod(&self, pod: &PodRecord, hostname: String) -> PodConfig {
        let request = &pod.request;
        let mut sysctls = BTreeMap::new();
        if request.network != NetworkMode::Host {
            // In a namespace of its own a container may have low ports and ping without privilege.
            sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
        sysctls.extend(request.sysctls.clone());
        let cgroup = request.cgroup_parent.as_deref().unwrap_or(&self.config.cgroup_parent);
        PodConfig {
            version: PodConfig::VERSION,
            id: pod.id.clone(),
            persistent: !pod.is_single(),
            state_root: self.config.runtime_state(),
            network: match &pod.network_namespace {
                Some(netns) => MonitorNetwork::Path(netns.clone()),
                None => MonitorNetwork::Host,
            },
            ipc: if request.ipc == NamespaceMode::Host { IpcMode::Host } else { IpcMode::Pod },
            uts: if shares_host_name(request) { UtsMode::Host } else { UtsMode::Pod { hostname } },
            pid: if request.pid == NamespaceMode::Pod { PidMode::Pod } else { PidMode::PerContainer },
            sysctls,
            monitor_cgroup: Some(self.config.monitor_cgroup().into()),
            pod_init_cgroup: Some(format!("{}/{}", cgroup.trim_end_matches('/'), pod.id).into()),
            cleanup: self.cleanup_command(&pod.id),
        }
    }

    /// What the pod's monitor executes in the end.
    fn cleanup_command(&self, pod: &PodId) -> Vec<String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            path(&self.config.program),
            "--root".into(),
            path(&self.config.root),
            "--run".into(),
            path(&self.config.run),
            "cleanup".into(),
            pod.to_string(),
        ]
    }

    /// Undoes a pod's effects, whichever are there: processes, monitor, addresses, namespace, mounts, files. The caller holds its lock.
    pub(crate) fn release_pod(&self, kept: &mut Kept<PodRecord>) -> Result<(), EngineError> {
        let id = kept.record.id.clone();
        if kept.record.stage == PodStage::Idle && !self.config.pod_dir(&id).exists() {
            return Ok(());
        }
        let has_network = kept.record.network_namespace.is_some() || kept.record.stage == PodStage::Making;
        self.release_effects(&id, has_network)?;
        kept.record.stage = PodStage::Idle;
        kept.record.network_namespace = None;
        kept.record.addresses.clear();
        kept.record.ports.clone_from(&kept.record.request.ports);
        self.pods_table().update(kept)
    }

    /// Pods in the run directory that are in no record of this root.
    pub(crate) fn unknown_pods(&self) -> Result<Vec<PodId>, EngineError> {
        let directory = self.config.run.join("pods");
        let failed = || EngineError::io("list", &directory);
        let mut unknown = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let Some(id) = name.to_str().and_then(|name| PodId::new(name).ok()) else { continue };
            if self.has_no_record(&id) {
                unknown.push(id);
            }
        }
        Ok(unknown)
    }

    /// Ends what runs of a pod of this root that is in no record any more: its database was lost or replaced.
    pub(crate) fn release_unknown_pod(&self, id: &PodId) -> Result<(), EngineError> {
        let _lock = self.lock_pod(id)?;
        // It may have been recorded, or cleaned up, before we got the lock.
        let is_there = self.config.pod_dir(id).exists();
        if is_there && self.has_no_record(id) && self.is_of_this_root(id) {
            self.release_effects(id, true)?;
        }
        Ok(())
    }

    fn has_no_record(&self, id: &PodId) -> bool {
        self.pods_table().get(id).is_err_and(|error| error.kind() == Kind::NotFound)
    }

    /// Whether a pod in the run directory was made for this root: another one may share the directory. What is half-made is nobody's.
    fn is_of_this_root(&self, pod: &PodId) -> bool {
        let Ok(bytes) = fs::read(self.config.pod_dir(pod).join(POD_CONFIG_FILE)) else { return true };
        let Ok(config) = serde_json::from_slice::<PodConfig>(&bytes) else { return true };
        // The program may have been replaced since.
        config.cleanup.get(1..) == self.cleanup_command(pod).get(1..)
    }

    /// Undoes all effects that a pod may have, whether or not it has a record.
    fn release_effects(&self, id: &PodId, has_network: bool) -> Result<(), EngineError> {
        let mut failures: Vec<EngineError> = Vec::new();
        let vacant = self.end_monitor(id);
        let mut attempt = |result: Result<(), EngineError>| failures.extend(result.err());
        let vacant = vacant.map_err(|error| attempt(Err(error))).ok();
        attempt(self.end_orphans(id));
        if has_network {
            attempt(self.network().and_then(|network| Ok(network.detach(id)?)));
            attempt(remove_netns(&namespace_name(id)).map_err(Into::into));
        }
        let directory = self.config.pod_dir(id);
        attempt(unmount_shm(&directory.join("shm")));
        attempt(remove_tree(&self.config.files_dir(id)));
        // It holds the way to a monitor that would not end.
        if vacant.is_some() {
            attempt(remove_tree(&directory));
        }
        if !failures.is_empty() {
            let failures = failures.iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ");
            return Err(EngineError::Teardown { what: "pod", name: id.to_string(), failures });
        }
        Ok(())
    }

    /// Kills what runs and ends the monitor. None begins as long as the result lives.
    fn end_monitor(&self, pod: &PodId) -> Result<Vacant, EngineError> {
        let directory = self.config.pod_dir(pod);
        let deadline = Instant::now() + MONITOR_END_LIMIT;
        loop {
            match self.shut_down(pod) {
                Ok(()) => {}
                // It has ended by itself meanwhile; or it is about to begin, and who started it was killed.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(vacant) = Vacant::claim(&directory).map_err(EngineError::io("lock", &directory))? {
                return Ok(vacant);
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Deadline.into());
            }
            thread::sleep(MONITOR_POLL);
        }
    }

    fn shut_down(&self, pod: &PodId) -> Result<(), ClientError> {
        let mut link = self.link(pod)?;
        let monitor = link.monitor();
        let containers = match link.call(&Request::State)? {
            Response::State(state) => state.containers,
            other => return Err(ClientError::other_answer(&other)),
        };
        for container in containers {
            link.call(&Request::Remove { id: container.id })?;
        }
        link.call(&Request::Shutdown)?;
        match wait_gone(monitor) {
            true => Ok(()),
            false => Err(ClientError::Deadline),
        }
    }

    /// Removes what the runtime still knows of the pod's containers: their monitor was killed.
    fn end_orphans(&self, pod: &PodId) -> Result<(), EngineError> {
        for container in self.containers_table().list()?.into_iter().filter(|container| container.pod == *pod) {
            self.end_orphan(&container.id)?;
        }
        Ok(())
    }

    /// Releases an ended pod of a single container, and the container if it was to be removed. Monitors call this after the last exit;
    /// it does nothing while something runs.
    pub fn cleanup(&self, id: &PodId) -> Result<(), EngineError> {
        let _lock = self.lock_pod(id)?;
        let mut kept = match self.pods_table().get(id) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        if !kept.record.is_single() {
            return Ok(());
        }
        let is_busy = |state: PodState| {
            state.containers.iter().any(|container| !matches!(container.phase, ContainerPhase::Exited { .. }))
        };
        if self.pod_state(id)?.is_some_and(is_busy) {
            return Ok(());
        }
        self.release_pod(&mut kept)?;
        let containers = self.containers_table().list()?;
        for container in
            containers.into_iter().filter(|container| container.pod == *id && container.request.auto_remove)
        {
            self.forget_container(&container, true)?;
            self.pods_table().delete(id)?;
        }
        Ok(())
    }
}

/// Waits for a process that is about to end, for a bounded time; whether it has ended.
fn wait_gone(process: carrack_words::ProcessId) -> bool {
    use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
    use carrack_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
    const LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
    let Some(handle) = Pid::from_raw(process.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return true;
    };
    // Another process may have its number by now.
    crate::container::start_time(process.pid) != Some(process.start_time)
        || poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&LIMIT)).is_ok_and(|ready| ready > 0)
}

fn sandbox_name(request: &PodRequest) -> Option<String> {
    let metadata = request.metadata.as_ref()?;
    Some(format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt))
}

fn namespace_name(pod: &PodId) -> String {
    format!("carrack-{pod}")
}

/// A pod sandbox has one `/dev/shm` for all; a single container mounts its own.
pub(crate) fn shares_shm(request: &PodRequest) -> bool {
    request.metadata.is_some() && request.ipc == NamespaceMode::Pod
}

/// With the host's network goes the host's name, unless another one was asked for.
pub(crate) fn shares_host_name(request: &PodRequest) -> bool {
    request.network == NetworkMode::Host && request.hostname.is_none()
}

/// The name that the pod's containers see.
pub(crate) fn hostname(id: &PodId, request: &PodRequest) -> Result<String, EngineError> {
    match &request.hostname {
        Some(name) => Ok(name.clone()),
        None if request.network == NetworkMode::Host => {
            let path = "/proc/sys/kernel/hostname";
            Ok(fs::read_to_string(path).map_err(EngineError::io("read", path))?.trim().to_owned())
        }
        None => Ok(id.short().to_owned()),
    }
}

/// Refuses what cannot work, or would change the host.
pub(crate) fn check_pod(request: &PodRequest) -> Result<(), EngineError> {
    let invalid = |message: String| Err(EngineError::Invalid { message });
    if !request.runtime_handler.is_empty() {
        return Err(EngineError::Unsupported { what: format!("runtime handler {:?}", request.runtime_handler) });
    }
    if let Some(name) = &request.hostname {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
            return invalid(format!("invalid host name {name:?}: want 1 to 64 letters, digits, dots and dashes"));
        }
    }
    if request.network != NetworkMode::Bridge && !request.ports.is_empty() {
        return invalid("ports can be published with the bridge network only".into());
    }
    for name in request.sysctls.keys() {
        let of_network = name.starts_with("net.") || name.starts_with("net/");
        if of_network && request.network == NetworkMode::Host {
            return invalid(format!("sysctl {name} would change the host: the pod uses the host's network"));
        }
        if !of_network && !is_of_ipc(name) {
            return invalid(format!("sysctl {name} is not namespaced: it would change the host"));
        }
        if !of_network && request.ipc == NamespaceMode::Host {
            return invalid(format!("sysctl {name} would change the host: the pod uses the host's IPC namespace"));
        }
    }
    if let Some(parent) = &request.cgroup_parent {
        let path = Path::new(parent);
        let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
        if !path.is_absolute() || !path.components().all(plain) {
            return invalid(format!("cgroup parent {parent:?} is not an absolute path without .."));
        }
    }
    Ok(())
}

/// Kernel parameters of an IPC namespace (ipc_namespaces(7)); all others but `net.` are the host's.
fn is_of_ipc(name: &str) -> bool {
    let name = name.replace('/', ".");
    let exact = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    exact.contains(&name.as_str()) || name.starts_with("fs.mqueue.")
}

fn write_files(
    directory: &Path,
    request: &PodRequest,
    hostname: &str,
    addresses: &[IpAddr],
) -> Result<(), EngineError> {
    let host = HostResolvFiles::load();
    let resolv = match (&request.dns, request.network) {
        (None, NetworkMode::Host) => host.main.unwrap_or_default(),
        (dns, _) => {
            let dns = dns.clone().unwrap_or_default();
            let server = |text: &String| {
                text.parse()
                    .map_err(|_| EngineError::Invalid { message: format!("name server {text:?} is not an IP address") })
            };
            let wanted = DnsOverride {
                servers: dns.servers.iter().map(server).collect::<Result<_, _>>()?,
                searches: dns.searches,
                options: dns.options,
            };
            let resolv = resolv_conf(&host, &wanted);
            for note in &resolv.notes {
                match note {
                    // There is nobody to ask and nothing to ask for.
                    ResolvNote::NoServer { .. } if request.network == NetworkMode::None => {}
                    ResolvNote::NoServer { .. } | ResolvNote::WordDropped { .. } => tracing::warn!("{note}"),
                    // Names resolve all the same: not worth a word at each start.
                    ResolvNote::LoopbackDropped { .. } | ResolvNote::ServersCut { .. } => tracing::info!("{note}"),
                }
            }
            resolv.text
        }
    };
    let hosts = hosts_file(&HostsFile { hostname, addresses, extra: &request.extra_hosts });
    let files = [("hosts", hosts), ("hostname", hostname_file(hostname)), ("resolv.conf", resolv)];
    for (name, content) in files {
        let path = directory.join(name);
        fs::write(&path, content).map_err(EngineError::io("write", &path))?;
    }
    Ok(())
}

fn mount_shm(path: &Path, size_bytes: u64) -> Result<(), EngineError> {
    create_private_dir(path)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = std::ffi::CString::new(format!("mode=1777,size={size_bytes}")).expect("digits have no NUL");
    mount("shm", path, "tmpfs", flags, options.as_c_str())
        .map_err(|errno| EngineError::io("mount shared memory at", path)(errno.into()))
}

fn unmount_shm(path: &Path) -> Result<(), EngineError> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not there, or not a mount.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => Ok(()),
        Err(errno) => Err(EngineError::io("unmount", path)(errno.into())),
    }
}

/// Removes a directory of ours with what is in it; success if it is gone.
pub(crate) fn remove_tree(path: &Path) -> Result<(), EngineError> {
    carrack_rooted::remove_tree(path).map_err(EngineError::io("remove", path))
}

/// Whether `labels` has all of `wanted`.
pub(crate) fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_would_change_the_host_is_refused() {
        let host = PodRequest { network: NetworkMode::Host, ..PodRequest::default() };
        let sysctl = |name: &str| BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        let refused = [
            PodRequest { sysctls: sysctl("net.core.somaxconn"), ..host.clone() },
            PodRequest { sysctls: sysctl("kernel.shmmax"), ipc: NamespaceMode::Host, ..PodRequest::default() },
            PodRequest { sysctls: sysctl("kernel.core_pattern"), ..PodRequest::default() },
            PodRequest { hostname: Some("a b".into()), ..PodRequest::default() },
            PodRequest { cgroup_parent: Some("/a/../b".into()), ..PodRequest::default() },
            PodRequest { runtime_handler: "kata".into(), ..PodRequest::default() },
        ];
        for request in refused {
            assert!(check_pod(&request).is_err(), "{request:?}");
        }
        check_pod(&PodRequest { sysctls: sysctl("net.core.somaxconn"), ..PodRequest::default() }).unwrap();
        check_pod(&host).unwrap();
    }
}

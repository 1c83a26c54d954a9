//! Containers: made as records, given effects when they start, told apart by what kernel, monitor and disk say.
//!
//! Making a container only writes its record, so a crash cannot leave half of one. Everything else happens in [`Engine::start_container`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carrack_image::Image;
use carrack_monitor::client::{AttachReader, AttachWriter, Client, ClientError};
use carrack_monitor_proto::RestartPolicy;
use carrack_monitor_proto::{
    Attach, ContainerPhase, ContainerState, Create, ExitRecord, LogFormat, LogTarget, PodState, Request, Response,
    Rootfs, Signal, SignalScope,
};
use carrack_oci_config::LinuxDevice;
use carrack_rooted::Root;
use carrack_store::{Stack, StoreError};
use carrack_words::{ContainerId, ImageQuery, Kind, PodId, Timestamp};

use crate::engine::{Engine, create_private_dir, replace_file};
use crate::error::{EngineError, chain};
use crate::facts::{device_at, host_devices};
use crate::link::{ANSWER_TIMEOUT, call_patiently, is_absent};
use crate::names;
use crate::pod::{check_pod, has_labels, hostname, remove_tree, shares_shm};
use crate::record::{ContainerRecord, PodRecord, PodStage, StartFailure};
use crate::request::{
    ContainerFilter, ContainerRequest, MountSource, NamespaceMode, NetworkMode, PodRequest, Propagation, SeccompRequest,
};
use crate::rootfs::view;
use crate::signal::signal_number;
use crate::spec::{
    HostFacts, ImageProcess, PreparedMount, PreparedSource, SpecInput, plan_args, plan_env, plan_resources, plan_spec,
};
use crate::table::Kept;
use crate::user::Accounts;
use crate::view::{ContainerView, Ended, MountView, Phase, ProcessView};

/// Whether an operation goes on where it would otherwise refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It refuses.
    No,
    /// It goes on.
    Yes,
}

/// How a container is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it if it runs.
    pub force: Force,
    /// Remove its volumes that have no name.
    pub volumes: bool,
}

/// Which streams of a container a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachRequest {
    /// Write standard input.
    pub stdin: bool,
    /// Read standard output.
    pub stdout: bool,
    /// Read standard error.
    pub stderr: bool,
    /// The container waits when this client is slow; otherwise a slow client is cut off.
    pub lossless: bool,
}

const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// SIGKILL may not end a process that waits for a dead disk.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a container is looked at again that nobody tells of.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);
const SIGTERM: u8 = 15;
/// The exit code shown for a container of a pod sandbox that could not be started, whatever the reason: callers of CRI know it.
const START_FAILED: i32 = 128;
/// The exit codes shown for other containers that could not be started, as shells and docker's `run` have them.
const NO_PROGRAM: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
const ENGINE_FAILED: i32 = 125;
/// The exit code shown where nobody saw the end.
const UNSEEN: i32 = 255;
/// Why the end of a container was not seen.
const RESTARTED: &str = "the host was restarted while it ran";
const MONITOR_KILLED: &str = "its monitor was killed";
/// More volumes than any image needs.
const MAX_IMAGE_VOLUMES: usize = 128;
/// How many made-up names are tried.
const NAME_ATTEMPTS: u32 = 20;

impl Engine {
    /// Makes a container in a pod sandbox.
    pub fn create_container(&self, pod: &PodId, request: ContainerRequest) -> Result<ContainerId, EngineError> {
        let _lock = self.lock_pod(pod)?;
        let sandbox = self.pods_table().get(pod)?.record;
        if sandbox.stage != PodStage::Ready || sandbox.boot_id != self.boot_id {
            return Err(EngineError::State {
                what: "pod",
                name: pod.to_string(),
                state: "is not ready: it was stopped".into(),
            });
        }
        let name = request.name.clone().unwrap_or_default();
        let unique = format!("{pod}/{name}/{}", request.attempt);
        if let Ok(id) = self.containers_table().find(&unique)
            && self.containers_table().get(&id)?.record.request == request
        {
            // The answer to the same request was lost.
            return Ok(id);
        }
        let id = names::container_id();
        let _making = self.store.locks().acquire("container", id.as_str(), Instant::now())?;
        let kept = self
            .plan_container(&sandbox, id.clone(), request, name)
            .and_then(|record| Ok(self.containers_table().insert(&record, Some(&unique)).map(drop)?));
        self.release_image_unless(&id, kept)?;
        Ok(id)
    }

    /// Makes a container without a pod sandbox; its pod is made with it and has its id.
    pub fn create_single(&self, pod: PodRequest, request: ContainerRequest) -> Result<ContainerId, EngineError> {
        check_pod(&pod)?;
        if let Some(name) = &request.name {
            check_name(name)?;
        }
        let id = names::container_id();
        let pod_id = PodId::new(id.as_str()).expect("both kinds of id have the same rule");
        // Recovery passes over what is being made.
        let _lock = self.lock_pod(&pod_id)?;
        let pod_record = self.insert_pod(pod_id.clone(), pod, None)?.record;
        let made = self.insert_single(&pod_record, request);
        if made.is_err() {
            self.pods_table().delete(&pod_id)?;
        }
        made
    }

    fn insert_single(&self, pod: &PodRecord, request: ContainerRequest) -> Result<ContainerId, EngineError> {
        let id = ContainerId::new(pod.id.as_str()).expect("both kinds of id have the same rule");
        let given = request.name.clone();
        let kept = self
            .plan_container(pod, id.clone(), request, given.clone().unwrap_or_default())
            .and_then(|record| self.insert_named(record, given.as_deref()));
        self.release_image_unless(&id, kept)?;
        Ok(id)
    }

    /// Keeps a record under the name that was given, or under one that is made up.
    fn insert_named(&self, mut record: ContainerRecord, given: Option<&str>) -> Result<(), EngineError> {
        for attempt in 0..NAME_ATTEMPTS {
            let name = given.map_or_else(|| names::made_up(attempt), str::to_owned);
            record.name.clone_from(&name);
            match self.containers_table().insert(&record, Some(&name)) {
                Ok(_) => return Ok(()),
                Err(StoreError::NameTaken { .. }) if given.is_none() => {}
                Err(StoreError::NameTaken { id, .. }) if self.is_abandoned(&id) => {
                    let holder = ContainerId::new(id).expect("it was read from the table of containers");
                    self.remove_container(&holder, Force::Yes)?;
                }
                Err(StoreError::NameTaken { id, .. }) => {
                    let holder = &id[..id.len().min(12)];
                    return Err(EngineError::NameTaken { name, holder: holder.to_owned() });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::Invalid { message: "no free name found: give one with --name".into() })
    }

    /// A container that could not be made needs its image no more.
    fn release_image_unless(&self, id: &ContainerId, kept: Result<(), EngineError>) -> Result<(), EngineError> {
        if kept.is_err() {
            self.release_image(id)?;
        }
        kept
    }

    /// A container that was to be removed after its run, whose maker died before it started it.
    pub(crate) fn is_abandoned(&self, id: &str) -> bool {
        let Ok(id) = ContainerId::new(id) else { return false };
        let Ok(kept) = self.containers_table().get(&id) else { return false };
        let record = kept.record;
        record.request.auto_remove
            && record.started_in_boot.is_none()
            && record.start_error.is_none()
            && !is_alive(record.maker)
    }

    /// Everything that can be known before the start. The image's layers are held for the container from here on.
    fn plan_container(
        &self,
        pod: &PodRecord,
        id: ContainerId,
        request: ContainerRequest,
        name: String,
    ) -> Result<ContainerRecord, EngineError> {
        let image = self.images.find(&ImageQuery::Id(request.image))?;
        self.hold_image(&id, &image)?;
        let stack = self.stack(&image)?;
        let defaults = image.run_defaults();
        let image_process = image_process(&image);
        let args = plan_args(&request, &image_process)?;
        plan_resources(&request.resources, self.facts())?;
        let resolved = Accounts::load(&view(&stack.lowers)?)?.resolve(&request.user, &defaults.user)?;
        let (mounts, anonymous_volumes) = self.plan_mounts(&request, &defaults.volumes)?;
        let log_path = match (&request.log_path, &pod.request.log_directory, pod.is_single()) {
            (Some(path), Some(directory), _) => Some(directory.join(path)),
            (Some(path), None, _) => Some(path.clone()),
            (None, _, true) => Some(self.config.container_dir(&id).join("container.log")),
            (None, _, false) => None,
        };
        Ok(ContainerRecord {
            version: ContainerRecord::VERSION,
            id,
            name,
            pod: pod.id.clone(),
            sandboxed: !pod.is_single(),
            image: request.image,
            image_process,
            lowers: stack.lowers,
            root_attributes: stack.root_attributes,
            created_at: Timestamp::now(),
            args,
            user: resolved.ids,
            home: resolved.home,
            mounts,
            anonymous_volumes,
            log_path,
            stop_signal: request
                .stop_signal
                .or_else(|| signal_number(defaults.stop_signal.as_deref()?))
                .unwrap_or(SIGTERM),
            started_in_boot: None,
            started_at: None,
            start_error: None,
            stopped: false,
            maker: own_process(),
            request,
        })
    }

    /// Where each mount comes from. Volumes get their names here and their directories at the start.
    fn plan_mounts(
        &self,
        request: &ContainerRequest,
        image: &[String],
    ) -> Result<(Vec<MountView>, Vec<String>), EngineError> {
        let mut anonymous = Vec::new();
        let mut views = Vec::new();
        for mount in &request.mounts {
            let (host_path, volume) = match &mount.source {
                MountSource::Bind { path, create } => {
                    if !create {
                        fs::metadata(path).map_err(EngineError::io("find the mount source", path))?;
                    }
                    (Some(path.clone()), None)
                }
                MountSource::Volume { name } => {
                    carrack_volume::Volumes::check_name(name)?;
                    (None, Some(name.clone()))
                }
                MountSource::Anonymous => {
                    anonymous.push(names::random_hex());
                    (None, anonymous.last().cloned())
                }
                MountSource::Tmpfs { .. } => (None, None),
            };
            views.push(MountView {
                host_path,
                volume,
                destination: mount.destination.clone(),
                readonly: mount.readonly,
                recursive_readonly: mount.recursive_readonly,
                propagation: mount.propagation,
            });
        }
        if image.len() > MAX_IMAGE_VOLUMES {
            let message = format!("the image wants {} volumes: at most {MAX_IMAGE_VOLUMES} are made", image.len());
            return Err(EngineError::Invalid { message });
        }
        for path in image {
            // Class 2: only a clean absolute path becomes a mount point (CVE-2022-23648); it is resolved inside the container anyway.
            let path = Path::new(path);
            let plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
            let is_ours = ["/proc", "/sys", "/dev"].iter().any(|own| path.starts_with(own));
            let is_usable = path.is_absolute() && !is_ours && path != Path::new("/") && path.components().all(plain);
            if !is_usable || views.iter().any(|view| view.destination == path) {
                continue;
            }
            anonymous.push(names::random_hex());
            views.push(MountView {
                host_path: None,
                volume: anonymous.last().cloned(),
                destination: path.to_owned(),
                readonly: false,
                recursive_readonly: false,
                propagation: Propagation::Private,
            });
        }
        Ok((views, anonymous))
    }

    /// Starts a container. One of a pod sandbox must not have been started before; another one may also have exited.
    pub fn start_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.start(id, None).map(drop)
    }

    /// Starts a container with a client attached from its first byte on.
    pub fn start_attached(
        &self,
        id: &ContainerId,
        attach: AttachRequest,
    ) -> Result<(AttachReader, AttachWriter), EngineError> {
        let streams = self.start(id, Some(attach))?;
        streams.ok_or_else(|| EngineError::State {
            what: "container",
            name: id.to_string(),
            state: "is running already: attach to it instead".into(),
        })
    }

    fn start(
        &self,
        id: &ContainerId,
        attach: Option<AttachRequest>,
    ) -> Result<Option<(AttachReader, AttachWriter)>, EngineError> {
        let pod = self.containers_table().get(id)?.record.pod;
        let _lock = self.lock_pod(&pod)?;
        let mut kept = self.containers_table().get(id)?;
        let phase = self.observe(&kept.record)?;
        match (&phase, kept.record.sandboxed) {
            (Phase::Created, _) | (Phase::Exited(_), false) => {}
            (Phase::Running { .. }, false) => return Ok(None),
            // Nobody can attend to what still runs of it; making its pod anew ends that.
            (Phase::Unknown, false) => {}
            (phase, _) => {
                let state = format!("is {}, not created: it cannot be started", phase.name());
                return Err(EngineError::State { what: "container", name: id.to_string(), state });
            }
        }
        let mut pod = self.pods_table().get(&pod)?;
        match self.start_locked(&mut pod, &mut kept, attach) {
            Ok(streams) => Ok(streams),
            Err(error) => {
                self.start_failed(&mut pod, &mut kept, &error)?;
                Err(error)
            }
        }
    }

    fn start_locked(
        &self,
        pod: &mut Kept<PodRecord>,
        kept: &mut Kept<ContainerRecord>,
        attach: Option<AttachRequest>,
    ) -> Result<Option<(AttachReader, AttachWriter)>, EngineError> {
        if pod.record.is_single() {
            // What an earlier run left is in the way; a monitor whose container has exited may still be there.
            self.release_pod(pod)?;
            self.make_pod(pod)?;
        } else if pod.record.stage != PodStage::Ready {
            return Err(EngineError::State {
                what: "pod",
                name: pod.record.id.to_string(),
                state: "is not ready".into(),
            });
        }
        let create = self.write_bundle(&pod.record, &kept.record)?;
        let mut link = self.link(&pod.record.id)?;
        // Written before the container's own effects: after a crash it is known that there may be some.
        kept.record.started_in_boot = Some(self.boot_id.clone());
        kept.record.started_at = Some(Timestamp::now());
        kept.record.start_error = None;
        kept.record.stopped = false;
        self.containers_table().update(kept)?;
        let id = &kept.record.id;
        call(&mut link, id, &Request::Create(Box::new(create)))?;
        let streams = attach.map(|attach| self.attach_to(&pod.record.id, id, attach)).transpose()?;
        call(&mut link, id, &Request::Start { id: id.clone() })?;
        Ok(streams)
    }

    /// After a failed start nothing runs, and the reason is kept.
    fn start_failed(
        &self,
        pod: &mut Kept<PodRecord>,
        kept: &mut Kept<ContainerRecord>,
        error: &EngineError,
    ) -> Result<(), EngineError> {
        if pod.record.is_single() {
            self.release_pod(pod)?;
        } else if let Ok(mut link) = self.link(&pod.record.id) {
            link.call(&Request::Remove { id: kept.record.id.clone() })?;
        }
        let code = match (kept.record.sandboxed, error.program_failure()) {
            (true, _) => START_FAILED,
            (false, Some(Kind::NotFound)) => NO_PROGRAM,
            (false, Some(_)) => NOT_EXECUTABLE,
            (false, None) => ENGINE_FAILED,
        };
        kept.record.start_error = Some(StartFailure { at: Timestamp::now(), message: chain(error), code });
        self.containers_table().update(kept)
    }

    /// Writes `config.json` and makes the directories that the container needs.
    fn write_bundle(&self, pod: &PodRecord, record: &ContainerRecord) -> Result<Create, EngineError> {
        let directory = self.config.container_dir(&record.id);
        let upper = directory.join("upper");
        let stack = self.present_stack(record)?;
        // What overlayfs keeps for itself; a volatile mount that a crash ended has marked it as unusable.
        let work = directory.join("work");
        remove_tree(&work)?;
        create_private_dir(&work)?;
        if !upper.exists() {
            create_private_dir(&upper)?;
            // It becomes the container's root: everybody in it must be able to enter.
            fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .map_err(EngineError::io("change the mode of", &upper))?;
            stack.give_root_attributes(&upper)?;
        }
        let mounts = self.prepare_mounts(record)?;
        let devices = prepare_devices(&record.request)?;
        let facts = match record.request.security.privileged {
            true => HostFacts { devices: host_devices(), ..self.facts().clone() },
            false => self.facts().clone(),
        };
        let parent = pod.request.cgroup_parent.as_deref().unwrap_or(&self.config.cgroup_parent);
        let files = self.config.files_dir(&pod.id);
        let shm = shares_shm(&pod.request).then(|| self.config.pod_dir(&pod.id).join("shm"));
        let spec = plan_spec(SpecInput {
            pod: &pod.request,
            request: &record.request,
            image: &record.image_process,
            user: &record.user,
            home: &record.home,
            hostname: &hostname(&pod.id, &pod.request)?,
            files: &files,
            shm: shm.as_deref(),
            mounts: &mounts,
            devices: &devices,
            seccomp: seccomp(&record.request, &facts)?,
            cgroups_path: format!("{}/{}", parent.trim_end_matches('/'), record.id),
            facts: &facts,
        })?;
        let text = serde_json::to_vec(&spec).expect("the specification has string keys only");
        replace_file(&directory.join("config.json"), &text)?;
        let exit_file = directory.join("exit.json");
        match fs::remove_file(&exit_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::io("remove", exit_file)(error));
            }
            _ => {}
        }
        Ok(Create {
            id: record.id.clone(),
            bundle: directory.clone(),
            rootfs: Rootfs::Overlay { lowers: stack.lowers, upper, work, volatile: is_ephemeral(record) },
            join: self.target_namespaces(record)?,
            no_new_keyring: false,
            log: record.log_path.clone().map(|path| LogTarget { path, format: LogFormat::Cri }),
            exit_file,
            terminal: record.request.terminal,
            stdin: record.request.stdin,
            stdin_once: record.request.stdin_once,
            restart: record.request.restart,
        })
    }

    /// The image's layers; an image without any gets an empty one, since overlayfs wants at least one.
    fn stack(&self, image: &Image) -> Result<Stack, EngineError> {
        let mut stack = self.images.rootfs(image)?;
        if stack.lowers.is_empty() {
            let empty = self.config.root.join("layers/empty");
            create_private_dir(&empty)?;
            stack.lowers.push(empty);
        }
        Ok(stack)
    }

    /// The container's layers, which are made anew where a crash of the machine took some before they were synced.
    fn present_stack(&self, record: &ContainerRecord) -> Result<Stack, EngineError> {
        match record.lowers.iter().all(|lower| lower.is_dir()) {
            true => Ok(Stack { lowers: record.lowers.clone(), root_attributes: record.root_attributes.clone() }),
            false => self.stack(&self.images.find(&ImageQuery::Id(record.image))?),
        }
    }

    /// The pid namespace of another container of the pod, if that is wanted.
    fn target_namespaces(
        &self,
        record: &ContainerRecord,
    ) -> Result<Vec<(carrack_monitor_proto::NamespaceType, PathBuf)>, EngineError> {
        let Some(NamespaceMode::Target(target)) = &record.request.pid else { return Ok(Vec::new()) };
        let target = self.containers_table().find(target)?;
        let target = self.containers_table().get(&target)?.record;
        match self.observe(&target)? {
            Phase::Running { process, .. } if target.pod == record.pod => {
                Ok(vec![(carrack_monitor_proto::NamespaceType::Pid, format!("/proc/{}/ns/pid", process.pid).into())])
            }
            _ => Err(EngineError::State {
                what: "container",
                name: target.id.to_string(),
                state: "does not run in the same pod: its pid namespace cannot be joined".into(),
            }),
        }
    }

    fn prepare_mounts(&self, record: &ContainerRecord) -> Result<Vec<PreparedMount>, EngineError> {
        let mut image: Option<Root> = None;
        let mut prepared = Vec::new();
        for (index, mount) in record.mounts.iter().enumerate() {
            // The image's own volumes come after those that were asked for.
            let source = record.request.mounts.get(index).map(|request| &request.source);
            let source = match (&mount.volume, source) {
                (Some(volume), _) => {
                    if image.is_none() {
                        image = Some(view(&record.lowers)?);
                    }
                    let content = image.as_ref().map(|root| (root, mount.destination.as_path()));
                    PreparedSource::Host(self.volumes.ensure(volume, content)?)
                }
                (None, Some(MountSource::Tmpfs { options })) => PreparedSource::Tmpfs(options.clone()),
                (None, Some(MountSource::Bind { path, create })) => PreparedSource::Host(bind_source(path, *create)?),
                (None, _) => continue,
            };
            prepared.push(PreparedMount {
                source,
                destination: mount.destination.clone(),
                readonly: mount.readonly,
                recursive_readonly: mount.recursive_readonly,
                propagation: mount.propagation,
            });
        }
        Ok(prepared)
    }

    /// Joins the streams of a container that runs.
    pub fn attach(&self, id: &ContainerId, attach: AttachRequest) -> Result<(AttachReader, AttachWriter), EngineError> {
        let record = self.containers_table().get(id)?.record;
        match self.observe(&record)? {
            Phase::Running { .. } | Phase::Restarting { .. } => self.attach_to(&record.pod, id, attach),
            phase => Err(not_running(id, &phase)),
        }
    }

    fn attach_to(
        &self,
        pod: &PodId,
        id: &ContainerId,
        attach: AttachRequest,
    ) -> Result<(AttachReader, AttachWriter), EngineError> {
        let link = self.link(pod)?;
        // A container may be silent for as long as it likes.
        link.set_deadline(None)?;
        let AttachRequest { stdin, stdout, stderr, lossless } = attach;
        let attached = link.attach(Attach { id: id.clone(), stdin, stdout, stderr, lossless })?;
        Ok((attached.reader, attached.writer))
    }

    /// Stops a container: its stop signal now, SIGKILL after the timeout (`None`: the container's own, else ten seconds). Success if it
    /// does not run. One that is to be removed after its exit is gone, and its name free, when this returns.
    pub fn stop_container(&self, id: &ContainerId, timeout: Option<Duration>) -> Result<(), EngineError> {
        let record = self.containers_table().get(id)?.record;
        match self.stop_recorded(&record, timeout) {
            // It ended by itself meanwhile, and its own clean-up was faster.
            Err(error) if error.is_no_container(id) => Ok(()),
            other => other,
        }
    }

    fn stop_recorded(&self, record: &ContainerRecord, timeout: Option<Duration>) -> Result<(), EngineError> {
        let id = &record.id;
        {
            // Waits out a start that is under way.
            let _lock = self.lock_pod(&record.pod)?;
            self.note_stop(id)?;
        }
        let record = self.containers_table().get(id)?.record;
        if record.started_in_boot.is_none() {
            return Ok(());
        }
        self.end_container(&record, timeout)?;
        self.finish_removal(&record)
    }

    /// What the monitor of an ended container has asked another process to do; whoever comes second finds nothing left.
    fn finish_removal(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        if record.request.auto_remove { self.cleanup(&record.pod) } else { Ok(()) }
    }

    /// Returns when nothing of it runs any more.
    fn end_container(&self, record: &ContainerRecord, timeout: Option<Duration>) -> Result<(), EngineError> {
        let id = &record.id;
        let phase = self.observe(record)?;
        match phase {
            Phase::Exited(_) => return Ok(()),
            Phase::Unknown | Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => {}
        }
        let timeout = timeout.or(record.request.stop_timeout).unwrap_or(STOP_TIMEOUT);
        if phase == Phase::Unknown {
            return self.stop_orphan(record, timeout);
        }
        let signal = Signal::try_from(i32::from(record.stop_signal))
            .map_err(|error| EngineError::Invalid { message: error.to_string() })?;
        let request = Request::Stop { id: id.clone(), signal, timeout };
        let asked = self.link(&record.pod).and_then(|mut link| {
            // SIGKILL may not end a process that waits for a dead disk.
            link.set_deadline(Some(timeout.saturating_add(ANSWER_TIMEOUT)))?;
            link.call(&request)
        });
        match asked {
            Ok(Response::Exited(_)) => Ok(()),
            Ok(other) => Err(ClientError::other_answer(&other).into()),
            Err(error) if is_absent(&error) => match self.observe(record)? {
                // The monitor was killed meanwhile.
                Phase::Unknown => self.stop_orphan(record, timeout),
                // It was the last one of its pod, and the monitor is gone with it.
                _ => Ok(()),
            },
            Err(ClientError::Refused { kind: Kind::NotFound | Kind::Precondition, .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that the operator stopped it, so that it stays stopped after a reboot.
    fn note_stop(&self, id: &ContainerId) -> Result<(), EngineError> {
        loop {
            let mut kept = self.containers_table().get(id)?;
            if kept.record.stopped {
                return Ok(());
            }
            kept.record.stopped = true;
            match self.containers_table().update(&mut kept) {
                Err(error) if error.kind() == Kind::Busy => {}
                other => return other,
            }
        }
    }

    /// Notes for all containers of a pod that the operator stopped them.
    pub(crate) fn mark_stopped(&self, pod: &PodId) -> Result<(), EngineError> {
        for container in self.containers_table().list()?.into_iter().filter(|container| container.pod == *pod) {
            self.note_stop(&container.id)?;
        }
        Ok(())
    }

    /// Sends a signal to a container's first process. After SIGKILL it returns when the container has ended, which it must within ten
    /// seconds; one that is to be removed then is gone.
    pub fn signal_container(&self, id: &ContainerId, number: u8) -> Result<(), EngineError> {
        let record = self.containers_table().get(id)?.record;
        let phase = self.observe(&record)?;
        if !matches!(phase, Phase::Running { .. } | Phase::Unknown) {
            return Err(not_running(id, &phase));
        }
        let signal =
            Signal::try_from(i32::from(number)).map_err(|error| EngineError::Invalid { message: error.to_string() })?;
        if signal == Signal::KILL {
            self.note_stop(id)?;
        }
        if phase == Phase::Unknown {
            self.signal_orphan(id, number)?;
        } else {
            let mut link = self.link(&record.pod)?;
            link.call(&Request::Signal { id: id.clone(), signal, scope: SignalScope::Init })?;
        }
        if signal == Signal::KILL {
            self.wait_killed(&record)?;
            self.finish_removal(&record)?;
        }
        Ok(())
    }

    /// Waits for the end of a container that was sent SIGKILL.
    fn wait_killed(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let request = Request::Wait { id: record.id.clone() };
        while matches!(self.observe(record)?, Phase::Running { .. } | Phase::Unknown) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = KILL_TIMEOUT.as_secs();
                let state = format!("has not ended within {seconds} s of SIGKILL: its process waits for the kernel");
                return Err(EngineError::State { what: "container", name: record.name.clone(), state });
            }
            let asked = self.link(&record.pod).and_then(|mut link| {
                link.set_deadline(Some(left))?;
                link.call(&request)
            });
            match asked {
                Ok(Response::Exited(_)) => return Ok(()),
                Ok(other) => return Err(ClientError::other_answer(&other).into()),
                // Nobody tells when an orphan ends.
                Err(error) if is_absent(&error) => std::thread::sleep(LOOK_AGAIN.min(left)),
                Err(ClientError::Refused { kind: Kind::NotFound, .. } | ClientError::Deadline) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes a container that does not run, or with [`Force::Yes`] also one that does. Its log file in a pod's log directory stays.
    pub fn remove_container(&self, id: &ContainerId, force: Force) -> Result<(), EngineError> {
        self.remove_container_with(id, RemoveOptions { force, volumes: false })
    }

    /// As [`Engine::remove_container`], with a word on volumes.
    pub fn remove_container_with(&self, id: &ContainerId, options: RemoveOptions) -> Result<(), EngineError> {
        let record = self.containers_table().get(id)?.record;
        let phase = self.observe(&record)?;
        match (&phase, options.force) {
            (Phase::Created | Phase::Exited(_), _) => {}
            (_, Force::Yes) => match self.stop_container(id, Some(Duration::ZERO)) {
                Err(error) if error.is_no_container(id) => return Ok(()),
                other => other?,
            },
            (_, Force::No) => {
                let state = format!("is {}: stop it first, or force its removal", phase.name());
                return Err(EngineError::State { what: "container", name: record.name, state });
            }
        }
        let _lock = self.lock_pod(&record.pod)?;
        let record = match self.containers_table().get(id) {
            // Its own clean-up was faster.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            other => other?.record,
        };
        // It may have been started before we got the lock.
        if options.force == Force::No && !matches!(self.observe(&record)?, Phase::Created | Phase::Exited(_)) {
            let state = "has just been started: stop it first, or force its removal".to_owned();
            return Err(EngineError::State { what: "container", name: record.name, state });
        }
        if record.sandboxed {
            match self.link(&record.pod) {
                Ok(mut link) => drop(link.call(&Request::Remove { id: id.clone() })?),
                Err(error) if is_absent(&error) => self.end_orphan(id)?,
                Err(error) => return Err(error.into()),
            }
            return self.forget_container(&record, options.volumes || record.sandboxed);
        }
        match self.pods_table().get(&record.pod) {
            Ok(mut pod) => self.release_pod(&mut pod)?,
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.forget_container(&record, options.volumes || record.request.auto_remove)?;
        self.pods_table().delete(&record.pod)
    }

    /// Removes a container's directory, anonymous volumes and record. Nothing of it runs any more.
    pub(crate) fn forget_container(&self, record: &ContainerRecord, volumes: bool) -> Result<(), EngineError> {
        if volumes {
            for volume in &record.anonymous_volumes {
                match self.volumes.remove(volume) {
                    Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        remove_tree(&self.config.container_dir(&record.id))?;
        self.release_image(&record.id)?;
        self.containers_table().delete(&record.id)?;
        self.collect_unless_present(record.image);
        Ok(())
    }

    /// Waits until a container has exited for good, which it may have already; restarts by its policy are waited out.
    pub fn wait_container(&self, id: &ContainerId) -> Result<Ended, EngineError> {
        loop {
            let record = self.containers_table().get(id)?.record;
            match self.observe(&record)? {
                Phase::Exited(ended) => return Ok(ended),
                // No message tells when an orphan ends.
                Phase::Unknown => {
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                Phase::Created | Phase::Running { .. } | Phase::Restarting { .. } => {}
            }
            let request = Request::Wait { id: id.clone() };
            match self.link(&record.pod).and_then(|mut link| call_patiently(&mut link, &request)) {
                Ok(Response::Exited(exit)) if !exit.will_restart => return Ok(ended(&exit, record.sandboxed)),
                Ok(Response::Exited(_)) => {}
                Ok(other) => return Err(ClientError::other_answer(&other).into()),
                // Not started yet, or just ended; no message tells when that changes.
                Err(error) if is_absent(&error) => std::thread::sleep(LOOK_AGAIN),
                Err(ClientError::Refused { kind: Kind::NotFound, .. }) => std::thread::sleep(LOOK_AGAIN),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns when a container that is removed after its exit is gone.
    pub fn wait_removed(&self, id: &ContainerId) -> Result<(), EngineError> {
        let pod = PodId::new(id.as_str()).expect("both kinds of id have the same rule");
        // What its monitor has asked another process to do; whoever comes second finds nothing left.
        self.cleanup(&pod)
    }

    /// The container that `query` names: by name, id, or the beginning of just one id.
    pub fn find_container(&self, query: &str) -> Result<ContainerId, EngineError> {
        self.containers_table().find(query)
    }

    /// As [`Engine::find_container`], for people: also by the name that lists show of a container in a pod sandbox, if no other one has it. A
    /// name given to a container without a sandbox comes first, since it is that container's alone.
    pub fn find_shown_container(&self, query: &str) -> Result<ContainerId, EngineError> {
        let found = self.find_container(query);
        // One that is removed in this moment is found by its id, and seen to be gone by whoever works on it.
        let has_name = |id: &ContainerId| self.containers_table().get(id).is_ok_and(|kept| kept.record.name == query);
        if found.as_ref().is_ok_and(|id| id.as_str() == query || has_name(id)) {
            return found;
        }
        let shown = |record: &ContainerRecord| record.sandboxed && record.name == query;
        let named: Vec<ContainerRecord> = self.containers_table().list()?.into_iter().filter(shown).collect();
        match named.as_slice() {
            [] => found,
            [only] => Ok(only.id.clone()),
            several => {
                let ids = several.iter().map(|record| record.id.short()).collect::<Vec<_>>().join(", ");
                let message = format!("container name {query:?} is that of several: give one of the ids {ids}");
                Err(EngineError::Invalid { message })
            }
        }
    }

    /// One container.
    pub fn container(&self, id: &ContainerId) -> Result<ContainerView, EngineError> {
        let record = self.containers_table().get(id)?.record;
        let pod = self.pods_table().get(&record.pod)?.record;
        let told = self.pod_state(&record.pod)?.into();
        Ok(self.view_container(record, &pod, &told))
    }

    /// All containers that pass the filter, the newest first.
    pub fn containers(&self, filter: &ContainerFilter) -> Result<Vec<ContainerView>, EngineError> {
        let records = self.containers_table().list()?;
        let passes = |record: &ContainerRecord| {
            (if record.sandboxed { filter.include_sandboxed } else { filter.include_single })
                && filter.pod.as_ref().is_none_or(|pod| record.pod == *pod)
                && filter.id.as_deref().is_none_or(|id| record.id.as_str().starts_with(id))
                && has_labels(&record.request.labels, &filter.labels)
        };
        let mut pods = std::collections::BTreeMap::new();
        let mut views = Vec::new();
        for record in records.into_iter().filter(passes) {
            let (pod, told) = match pods.entry(record.pod.clone()) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => match self.pods_table().get(entry.key()) {
                    // Removed since the list was read.
                    Err(error) if error.kind() == Kind::NotFound => continue,
                    other => {
                        let pod = other?.record;
                        // A monitor that does not answer must not hide all other containers.
                        let told = self.pod_state(&record.pod).map_or(Told::Silent, Told::from);
                        entry.insert((pod, told))
                    }
                },
            };
            views.push(self.view_container(record, pod, told));
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.created_at));
        Ok(views)
    }

    fn view_container(&self, record: ContainerRecord, pod: &PodRecord, told: &Told) -> ContainerView {
        let (phase, restart_count) = self.observe_in(&record, told);
        let mounts = record.mounts.iter().map(|mount| self.with_host_path(mount)).collect();
        ContainerView {
            phase,
            restart_count,
            mounts,
            id: record.id,
            name: record.name,
            pod: record.pod,
            sandboxed: record.sandboxed,
            image: record.image,
            created_at: record.created_at,
            process: process_view(&record.image_process, &record.request),
            args: record.args,
            user: record.user,
            log_path: record.log_path,
            stop_signal: record.stop_signal,
            addresses: pod.addresses.clone(),
            ports: pod.ports.clone(),
            wanted_ports: pod.request.ports.clone(),
            network: pod.request.network,
            hostname: match (&pod.request.hostname, pod.request.network) {
                (Some(name), _) => name.clone(),
                (None, NetworkMode::Host) => String::new(),
                (None, NetworkMode::Bridge | NetworkMode::None) => pod.id.short().to_owned(),
            },
            labels: record.request.labels.clone(),
            request: record.request,
        }
    }

    fn with_host_path(&self, mount: &MountView) -> MountView {
        let of_volume = mount.volume.as_ref().map(|name| self.config.root.join("volumes").join(name).join("_data"));
        MountView { host_path: mount.host_path.clone().or(of_volume), ..mount.clone() }
    }

    /// Where a container is in its life.
    pub(crate) fn observe(&self, record: &ContainerRecord) -> Result<Phase, EngineError> {
        let told = match &record.started_in_boot {
            Some(boot) if *boot == self.boot_id => Told::from(self.pod_state(&record.pod)?),
            _ => Told::NoMonitor,
        };
        Ok(self.observe_in(record, &told).0)
    }

    fn observe_in(&self, record: &ContainerRecord, told: &Told) -> (Phase, u32) {
        if let Some(failure) = &record.start_error {
            return (Phase::Exited(unseen(failure.code, failure.at, Some(failure.message.clone()))), 0);
        }
        let Some(boot) = &record.started_in_boot else { return (Phase::Created, 0) };
        match told {
            Told::Silent => return (Phase::Unknown, 0),
            Told::State(state) => {
                if let Some(container) = state.containers.iter().find(|container| container.id == record.id) {
                    return (phase_of(container, record.sandboxed), container.restart_count);
                }
            }
            Told::NoMonitor => {}
        }
        // A record that announces a restart is an earlier run's.
        if let Some(exit) = self.exit_record(&record.id).filter(|exit| !exit.will_restart) {
            return (Phase::Exited(ended(&exit, record.sandboxed)), exit.restart_count);
        }
        let lost = |why: &str| {
            // When it ended nobody knows; not before this.
            let started = record.started_at.unwrap_or(record.created_at);
            let ended = unseen(UNSEEN, started, Some(why.to_owned()));
            Phase::Exited(Ended { started_at: record.started_at, ..ended })
        };
        if *boot != self.boot_id {
            return (lost(RESTARTED), 0);
        }
        match carrack_runtime::state(&self.config.runtime_state(), &record.id) {
            Ok(state) if state.pid <= 0 => (lost(MONITOR_KILLED), 0),
            Err(error) if error.kind() == Kind::NotFound && self.is_of_earlier_run(record) => (lost(RESTARTED), 0),
            Err(error) if error.kind() == Kind::NotFound => (lost(MONITOR_KILLED), 0),
            Ok(_) | Err(_) => (Phase::Unknown, 0),
        }
    }

    fn exit_record(&self, id: &ContainerId) -> Option<ExitRecord> {
        let bytes = fs::read(self.config.container_dir(id).join("exit.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Sets the size of a container's terminal.
    pub fn resize(&self, id: &ContainerId, rows: u16, columns: u16) -> Result<(), EngineError> {
        let record = self.containers_table().get(id)?.record;
        self.link(&record.pod)?.call(&Request::Resize { id: id.clone(), rows, columns })?;
        Ok(())
    }

    /// Opens the log's path anew after a rotation; an error if the container does not run.
    pub fn reopen_log(&self, id: &ContainerId) -> Result<(), EngineError> {
        let record = self.containers_table().get(id)?.record;
        match self.observe(&record)? {
            Phase::Running { .. } => {}
            phase => return Err(not_running(id, &phase)),
        }
        self.link(&record.pod)?.call(&Request::ReopenLog { id: id.clone() })?;
        Ok(())
    }

    /// The text of the container's `config.json`; absent until it is started.
    pub fn resolved_config(&self, id: &ContainerId) -> Result<Option<String>, EngineError> {
        let path = self.config.container_dir(id).join("config.json");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("read", path)(error)),
        }
    }
}

/// Whether what it writes to its root filesystem is never read again after a power cut: it is removed after its exit, or the kubelet makes it
/// anew. Then its end need not wait for the disk, as overlayfs otherwise does.
fn is_ephemeral(record: &ContainerRecord) -> bool {
    (record.sandboxed || record.request.auto_remove) && record.request.restart == RestartPolicy::No
}

/// What a pod's monitor said when it was asked.
enum Told {
    /// There is none.
    NoMonitor,
    /// There is one, and it does not answer.
    Silent,
    State(Box<PodState>),
}

impl From<Option<PodState>> for Told {
    fn from(state: Option<PodState>) -> Self {
        state.map_or(Told::NoMonitor, |state| Told::State(Box::new(state)))
    }
}

/// Asks the monitor something about a container; what the runtime says of its program is kept apart.
fn call(link: &mut Client, id: &ContainerId, request: &Request) -> Result<Response, EngineError> {
    match link.call(request) {
        Err(ClientError::Refused { kind, message }) => {
            Err(EngineError::Program { container: id.short().to_owned(), kind, message })
        }
        other => Ok(other?),
    }
}

fn phase_of(container: &ContainerState, sandboxed: bool) -> Phase {
    match &container.phase {
        ContainerPhase::Created { .. } => Phase::Created,
        ContainerPhase::Running { process, since } => Phase::Running { process: *process, started_at: *since },
        ContainerPhase::BackOff { last, .. } => Phase::Restarting { last: ended(last, sandboxed) },
        ContainerPhase::Exited { last } => Phase::Exited(ended(last, sandboxed)),
    }
}

fn ended(exit: &ExitRecord, sandboxed: bool) -> Ended {
    let has_not_started = exit.started_at.is_none() && exit.error.is_some();
    Ended {
        exit: Some(exit.exit),
        code: if sandboxed && has_not_started { START_FAILED } else { exit.exit.code() },
        oom_killed: exit.oom_killed,
        started_at: exit.started_at,
        finished_at: exit.finished_at,
        message: exit.error.clone(),
    }
}

fn unseen(code: i32, finished_at: Timestamp, message: Option<String>) -> Ended {
    Ended { exit: None, code, oom_killed: false, started_at: None, finished_at, message }
}

pub(crate) fn not_running(id: &ContainerId, phase: &Phase) -> EngineError {
    let state = match phase {
        Phase::Unknown => {
            "has lost its monitor, which was killed, and can only be stopped, started anew or removed by force".into()
        }
        phase => format!("is not running: it is {}", phase.name()),
    };
    EngineError::State { what: "container", name: id.short().to_owned(), state }
}

fn check_name(name: &str) -> Result<(), EngineError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    match starts_well && name.len() >= 2 && name.len() <= 255 && name.bytes().all(legal) {
        true => Ok(()),
        false => Err(EngineError::Invalid {
            message: format!(
                "invalid container name {name:?}: want at least two characters of A-Z a-z 0-9 _ . -, beginning with a letter or digit"
            ),
        }),
    }
}

fn process_view(image: &ImageProcess, request: &ContainerRequest) -> ProcessView {
    let of_image = || if request.entrypoint.is_none() { image.command.clone() } else { Vec::new() };
    ProcessView {
        entrypoint: request.entrypoint.clone().unwrap_or_else(|| image.entrypoint.clone()),
        command: request.args.clone().unwrap_or_else(of_image),
        // What a start would refuse is told as it is.
        env: plan_env(&[&image.env, &request.env]).unwrap_or_else(|_| request.env.clone()),
        working_dir: request.working_dir.clone().unwrap_or_else(|| image.working_dir.clone()),
        user: request.user.user.clone().unwrap_or_default(),
    }
}

fn image_process(image: &Image) -> ImageProcess {
    let defaults = image.run_defaults();
    ImageProcess {
        entrypoint: defaults.entrypoint.clone(),
        command: defaults.cmd.clone(),
        env: defaults.env.clone(),
        working_dir: defaults.working_dir.clone(),
    }
}

/// The real path of a bind mount's source.
fn bind_source(path: &Path, create: bool) -> Result<PathBuf, EngineError> {
    match fs::canonicalize(path) {
        Err(error) if create && error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(EngineError::io("create the mount source", path))?;
            fs::canonicalize(path).map_err(EngineError::io("resolve the mount source", path))
        }
        other => other.map_err(EngineError::io("resolve the mount source", path)),
    }
}

fn prepare_devices(request: &ContainerRequest) -> Result<Vec<(LinuxDevice, String)>, EngineError> {
    let mut devices = Vec::new();
    for wanted in &request.devices {
        let stat = |path: &Path| {
            carrack_sys::rustix::fs::stat(path).map_err(|errno| EngineError::io("look at device", path)(errno.into()))
        };
        let facts = stat(&wanted.host_path)?;
        if let Some(device) = device_at(&wanted.container_path, &facts) {
            devices.push((device, wanted.permissions.clone()));
            continue;
        }
        let mut found = 0;
        for entry in
            fs::read_dir(&wanted.host_path).map_err(EngineError::io("list devices in", &wanted.host_path))?.flatten()
        {
            if let Some(device) = device_at(&wanted.container_path.join(entry.file_name()), &stat(&entry.path())?) {
                devices.push((device, wanted.permissions.clone()));
                found += 1;
            }
        }
        if found == 0 {
            return Err(EngineError::Invalid { message: format!("{} is not a device", wanted.host_path.display()) });
        }
    }
    Ok(devices)
}

fn seccomp(
    request: &ContainerRequest,
    facts: &HostFacts,
) -> Result<Option<carrack_oci_config::LinuxSeccomp>, EngineError> {
    match &request.security.seccomp {
        SeccompRequest::Unconfined => Ok(None),
        SeccompRequest::Default => {
            let (capabilities, _) =
                crate::spec::plan_capabilities(&request.security.capabilities, request.security.privileged, facts)?;
            let names: Vec<String> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
            Ok(Some(crate::seccomp::default_profile(&names)))
        }
        SeccompRequest::File(path) => {
            let text = fs::read(path).map_err(EngineError::io("read the seccomp profile", path))?;
            serde_json::from_slice(&text).map(Some).map_err(|error| EngineError::Invalid {
                message: format!("seccomp profile {} is not valid: {error}", path.display()),
            })
        }
    }
}

fn own_process() -> carrack_words::ProcessId {
    let pid = std::process::id() as i32;
    carrack_words::ProcessId { pid, start_time: start_time(pid).unwrap_or(0) }
}

fn is_alive(process: carrack_words::ProcessId) -> bool {
    start_time(process.pid) == Some(process.start_time)
}

/// Field 22 of `/proc/PID/stat`; `None` if there is no such process.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

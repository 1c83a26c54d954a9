//! Plans `config.json` of a container.
//!
//! Pure: from what was asked, what the image says and what the host is, to the OCI runtime specification's [`Spec`]. Class 2 input (the
//! image's entrypoint, command, environment, working directory and user) only reaches the fields that concern the process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use carrack_oci_config::{
    Linux, LinuxCapabilities, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory,
    LinuxNamespace, LinuxPids, LinuxResources, LinuxSeccomp, Mount, Process, Root, Spec, User,
};

use crate::defaults;
use crate::request::{
    ApparmorRequest, CapabilityRequest, ContainerRequest, NamespaceMode, NetworkMode, PodRequest, Propagation,
    ResourceRequest,
};
use crate::view::UserView;

/// A container cannot be made as asked.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither request nor image names a program.
    #[error("no command: neither the request nor image {image} names a program to run")]
    NoCommand {
        /// The image, as the caller named it.
        image: String,
    },
    /// A capability that no kernel has.
    #[error("unknown capability {name:?}")]
    UnknownCapability {
        /// As given.
        name: String,
    },
    /// A working directory that is not absolute.
    #[error("working directory {path:?} is not an absolute path")]
    WorkingDirectory {
        /// As given.
        path: String,
    },
    /// An environment variable without a name.
    #[error("environment variable {text:?} has no name or contains a NUL byte")]
    Environment {
        /// As given, shortened.
        text: String,
    },
    /// A mount point that is not absolute.
    #[error("mount destination {} is not an absolute path", path.display())]
    Destination {
        /// As given.
        path: PathBuf,
    },
    /// A privileged container in a pod that is not.
    #[error("a privileged container needs a pod sandbox that was made privileged")]
    PrivilegeNotGranted,
    /// A limit that makes no sense.
    #[error("{field} {value} is out of range: {want}")]
    Limit {
        /// Which.
        field: &'static str,
        /// As given.
        value: i64,
        /// What would do.
        want: &'static str,
    },
}

/// What the host can do, asked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// Capabilities of the bounding set, without `CAP_`.
    pub capabilities: Vec<String>,
    /// The memory controller counts swap.
    pub has_swap_accounting: bool,
    /// All device nodes of the host, for privileged containers.
    pub devices: Vec<LinuxDevice>,
}

/// What the image says of the process; Class 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ImageProcess {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
}

/// A mount whose source is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreparedMount {
    pub source: PreparedSource,
    pub destination: PathBuf,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

/// Where a prepared mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PreparedSource {
    Host(PathBuf),
    Tmpfs(Vec<String>),
}

/// Everything that decides a container's `config.json`.
pub(crate) struct SpecInput<'a> {
    pub pod: &'a PodRequest,
    pub request: &'a ContainerRequest,
    pub image: &'a ImageProcess,
    pub user: &'a UserView,
    pub home: &'a str,
    pub hostname: &'a str,
    /// Directory with `hosts`, `hostname` and `resolv.conf`.
    pub files: &'a Path,
    /// The pod's shared `/dev/shm`; absent for one of the container's own.
    pub shm: Option<&'a Path>,
    pub mounts: &'a [PreparedMount],
    pub devices: &'a [(LinuxDevice, String)],
    pub seccomp: Option<LinuxSeccomp>,
    pub cgroups_path: String,
    pub facts: &'a HostFacts,
}

/// Program and arguments: what is asked wins over what the image says.
pub(crate) fn plan_args(request: &ContainerRequest, image: &ImageProcess) -> Result<Vec<String>, SpecError> {
    let (entrypoint, image_args) = match &request.entrypoint {
        // An entrypoint of one's own makes the image's command meaningless.
        Some(own) => (own, None),
        None => (&image.entrypoint, Some(&image.command)),
    };
    let args = request.args.as_ref().or(image_args);
    let all: Vec<String> = entrypoint.iter().chain(args.into_iter().flatten()).cloned().collect();
    if all.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand { image: request.image_name.clone() });
    }
    Ok(all)
}

/// The environment: each later variable replaces an earlier one of its name, in the earlier one's place.
pub(crate) fn plan_env(input: &[&[String]]) -> Result<Vec<String>, SpecError> {
    let mut env: Vec<String> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for variable in input.iter().copied().flatten() {
        let name = variable.split_once('=').map_or("", |(name, _)| name);
        if name.is_empty() || variable.contains('\0') {
            return Err(SpecError::Environment { text: variable.chars().take(64).collect() });
        }
        match places.get(name) {
            Some(&place) => env[place] = variable.clone(),
            None => {
                places.insert(name.to_owned(), env.len());
                env.push(variable.clone());
            }
        }
    }
    Ok(env)
}

/// The capability names (without `CAP_`) that a request leads to: bounding set and ambient set.
pub(crate) fn plan_capabilities(
    request: &CapabilityRequest,
    privileged: bool,
    facts: &HostFacts,
) -> Result<(Vec<String>, Vec<String>), SpecError> {
    let known = |name: &String| -> Result<String, SpecError> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match short == "ALL" || defaults::ALL_CAPABILITIES.contains(&short) {
            true => Ok(short.to_owned()),
            false => Err(SpecError::UnknownCapability { name: name.clone() }),
        }
    };
    let names = |list: &[String]| list.iter().map(known).collect::<Result<Vec<_>, _>>();
    let (add, drop, ambient) = (names(&request.add)?, names(&request.drop)?, names(&request.add_ambient)?);
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    // "All" means all that this process could hand on.
    let all = privileged || has(&add, "ALL");
    let wanted = |name: &str| {
        let named = has(&add, name) || has(&ambient, name) || has(&ambient, "ALL");
        let by_default = if all { has(&facts.capabilities, name) } else { defaults::CAPABILITIES.contains(&name) };
        if has(&drop, "ALL") { named } else { (by_default || named) && !has(&drop, name) }
    };
    let bounding: Vec<String> =
        defaults::ALL_CAPABILITIES.iter().filter(|name| wanted(name)).map(|name| (*name).to_owned()).collect();
    let ambient =
        bounding.iter().filter(|name| has(&ambient, name) || has(&ambient, "ALL")).cloned().collect::<Vec<_>>();
    Ok((bounding, ambient))
}

/// Checks and converts limits.
pub(crate) fn plan_resources(request: &ResourceRequest, facts: &HostFacts) -> Result<LinuxResources, SpecError> {
    let limit = |field, value, want| SpecError::Limit { field, value, want };
    if let Some(bytes) = request.memory_bytes
        && bytes != -1
        && bytes < 6 << 20
    {
        return Err(limit("memory limit", bytes, "at least 6 MiB (6291456 bytes), or -1 for no limit"));
    }
    if let (Some(swap), Some(memory)) = (request.memory_swap_bytes, request.memory_bytes)
        && swap != -1
        && swap < memory
    {
        return Err(limit("memory and swap limit", swap, "not less than the memory limit, or -1 for no limit"));
    }
    if let Some(quota) = request.cpu_quota_usec
        && quota != -1
        && quota < 1000
    {
        return Err(limit("CPU quota", quota, "at least 1000 microseconds, or -1 for no limit"));
    }
    if let Some(period) = request.cpu_period_usec
        && !(1000..=1_000_000).contains(&period)
    {
        return Err(limit("CPU period", period.min(i64::MAX as u64) as i64, "1000 to 1000000 microseconds"));
    }
    if let Some(pids) = request.pids
        && pids < -1
    {
        return Err(limit("pids limit", pids, "0 or more, or -1 for no limit"));
    }
    // Without a word on swap a container gets as much swap as memory, as docker users expect.
    let swap = match (request.memory_swap_bytes, request.memory_bytes) {
        (Some(swap), _) if facts.has_swap_accounting => Some(swap),
        (None, Some(memory)) if facts.has_swap_accounting && memory > 0 => memory.checked_mul(2),
        _ => None,
    };
    let memory = LinuxMemory { limit: request.memory_bytes, swap, ..LinuxMemory::default() };
    let cpu = LinuxCpu {
        shares: request.cpu_shares,
        quota: request.cpu_quota_usec,
        period: request.cpu_period_usec,
        cpus: request.cpuset_cpus.clone().unwrap_or_default(),
        mems: request.cpuset_mems.clone().unwrap_or_default(),
        ..LinuxCpu::default()
    };
    Ok(LinuxResources {
        memory: (memory != LinuxMemory::default()).then_some(memory),
        cpu: (cpu != LinuxCpu::default()).then_some(cpu),
        pids: request.pids.map(|limit| LinuxPids { limit: Some(limit) }),
        hugepage_limits: request
            .hugepages
            .iter()
            .map(|(page_size, limit)| LinuxHugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: request.unified.clone(),
        ..LinuxResources::default()
    })
}

/// The whole `config.json`.
pub(crate) fn plan_spec(input: SpecInput<'_>) -> Result<Spec, SpecError> {
    let SpecInput { pod, request, .. } = input;
    let privileged = request.security.privileged;
    if privileged && pod.metadata.is_some() && !pod.privileged {
        return Err(SpecError::PrivilegeNotGranted);
    }
    let (capabilities, ambient) = plan_capabilities(&request.security.capabilities, privileged, input.facts)?;
    Ok(Spec {
        oci_version: "1.2.0".into(),
        process: Some(plan_process(&input, capabilities, ambient)?),
        root: Some(Root { path: "rootfs".into(), readonly: request.security.readonly_rootfs }),
        mounts: plan_mounts(&input)?,
        annotations: request.annotations.clone(),
        linux: Some(plan_linux(input)?),
        ..Spec::default()
    })
}

fn plan_process(input: &SpecInput<'_>, bounding: Vec<String>, ambient: Vec<String>) -> Result<Process, SpecError> {
    let request = input.request;
    let mut base = vec![defaults::PATH.to_owned(), format!("HOSTNAME={}", input.hostname)];
    if request.terminal {
        base.push("TERM=xterm".into());
    }
    base.push(format!("HOME={}", input.home));
    let prefixed = |names: Vec<String>| names.into_iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>();
    let (bounding, ambient) = (prefixed(bounding), prefixed(ambient));
    let cwd = match request.working_dir.as_deref().filter(|path| !path.is_empty()).unwrap_or(&input.image.working_dir) {
        "" => "/",
        path if path.starts_with('/') => path,
        path => return Err(SpecError::WorkingDirectory { path: path.to_owned() }),
    };
    Ok(Process {
        terminal: request.terminal,
        user: User {
            uid: input.user.uid,
            gid: input.user.gid,
            additional_gids: input.user.groups.clone(),
            ..User::default()
        },
        args: plan_args(request, input.image)?,
        env: plan_env(&[&base, &input.image.env, &request.env])?,
        cwd: cwd.to_owned(),
        capabilities: Some(LinuxCapabilities {
            effective: bounding.clone(),
            permitted: bounding.clone(),
            bounding,
            // Only what is ambient is inheritable, or files would hand rights on (CVE-2022-24769).
            inheritable: ambient.clone(),
            ambient,
        }),
        no_new_privileges: request.security.no_new_privileges,
        apparmor_profile: match &request.security.apparmor {
            ApparmorRequest::Profile(name) if !request.security.privileged => name.clone(),
            ApparmorRequest::Profile(_) | ApparmorRequest::Unconfined => String::new(),
        },
        oom_score_adj: request.resources.oom_score_adj,
        ..Process::default()
    })
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn plan_mounts(input: &SpecInput<'_>) -> Result<Vec<Mount>, SpecError> {
    let privileged = input.request.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let shm_size = format!("size={}", input.pod.shm_size_bytes.unwrap_or(defaults::SHM_BYTES));
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ];
    let shm_options = ["rbind", "nosuid", "noexec", "nodev"];
    mounts.push(match (&input.pod.ipc, input.shm) {
        (NamespaceMode::Host, _) => mount("/dev/shm", "bind", "/dev/shm", &shm_options),
        (_, Some(shared)) => mount("/dev/shm", "bind", &shared.to_string_lossy(), &shm_options),
        (_, None) => mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm_size]),
    });
    let write = if input.request.security.readonly_rootfs { "ro" } else { "rw" };
    for name in ["hosts", "hostname", "resolv.conf"] {
        let source = input.files.join(name);
        mounts.push(mount(
            &format!("/etc/{name}"),
            "bind",
            &source.to_string_lossy(),
            &["rbind", "rprivate", "nosuid", "nodev", "noexec", write],
        ));
    }
    let mut own: Vec<&PreparedMount> = input.mounts.iter().collect();
    // Parents before what lies in them; of two on one place the later one wins.
    own.sort_by_key(|mount| mount.destination.components().count());
    for prepared in own {
        if !prepared.destination.is_absolute() {
            return Err(SpecError::Destination { path: prepared.destination.clone() });
        }
        let destination = prepared.destination.to_string_lossy().into_owned();
        mounts.retain(|standard| standard.destination != destination);
        mounts.push(plan_own_mount(prepared, &destination));
    }
    Ok(mounts)
}

fn plan_own_mount(prepared: &PreparedMount, destination: &str) -> Mount {
    let access = match (prepared.readonly, prepared.recursive_readonly) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    match &prepared.source {
        PreparedSource::Host(path) => {
            let propagation = match prepared.propagation {
                Propagation::Private => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional => "rshared",
            };
            mount(destination, "bind", &path.to_string_lossy(), &["rbind", propagation, access])
        }
        PreparedSource::Tmpfs(options) => {
            let mut made = mount(destination, "tmpfs", "tmpfs", &["nosuid", "nodev", access]);
            made.options.extend(options.iter().cloned());
            made
        }
    }
}

fn plan_linux(input: SpecInput<'_>) -> Result<Linux, SpecError> {
    let request = input.request;
    let security = &request.security;
    let privileged = security.privileged;
    let mut resources = plan_resources(&request.resources, input.facts)?;
    let rule = |allow, kind: &str, major, minor, access: &str| LinuxDeviceCgroup {
        allow,
        kind: kind.into(),
        major,
        minor,
        access: access.into(),
    };
    resources.devices = match privileged {
        true => vec![rule(true, "a", None, None, "rwm")],
        false => vec![rule(false, "a", None, None, "rwm")],
    };
    let mut devices: Vec<LinuxDevice> = if privileged { input.facts.devices.clone() } else { Vec::new() };
    for (device, permissions) in input.devices {
        resources.devices.push(rule(true, &device.kind, device.major, device.minor, permissions));
        devices.retain(|present| present.path != device.path);
        devices.push(device.clone());
    }
    let paths = |own: &Option<Vec<String>>, defaults: &[&str]| match own {
        _ if privileged => Vec::new(),
        Some(own) => own.clone(),
        None => defaults.iter().map(|path| (*path).to_owned()).collect(),
    };
    let shares_mounts = input.mounts.iter().any(|mount| mount.propagation == Propagation::Bidirectional);
    let receives_mounts = input.mounts.iter().any(|mount| mount.propagation == Propagation::HostToContainer);
    Ok(Linux {
        namespaces: plan_namespaces(input.pod, request),
        resources: Some(resources),
        cgroups_path: input.cgroups_path,
        devices,
        seccomp: if privileged { None } else { input.seccomp },
        masked_paths: paths(&security.masked_paths, defaults::MASKED_PATHS),
        readonly_paths: paths(&security.readonly_paths, defaults::READONLY_PATHS),
        rootfs_propagation: match (shares_mounts, receives_mounts) {
            (true, _) => "rshared".into(),
            (false, true) => "rslave".into(),
            (false, false) => String::new(),
        },
        ..Linux::default()
    })
}

/// Namespaces of the container's own; those of the pod are joined by the monitor, which puts their paths in.
fn plan_namespaces(pod: &PodRequest, request: &ContainerRequest) -> Vec<LinuxNamespace> {
    let mut kinds = vec!["mount"];
    if !request.security.privileged {
        kinds.push("cgroup");
    }
    if pod.network != NetworkMode::Host {
        kinds.push("network");
    }
    if !crate::pod::shares_host_name(pod) {
        kinds.push("uts");
    }
    if pod.ipc != NamespaceMode::Host {
        kinds.push("ipc");
    }
    if *request.pid.as_ref().unwrap_or(&pod.pid) != NamespaceMode::Host {
        kinds.push("pid");
    }
    kinds.into_iter().map(|kind| LinuxNamespace { kind: kind.into(), path: String::new() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_words::Digest;

    fn facts() -> HostFacts {
        HostFacts {
            capabilities: ["CHOWN", "KILL", "SYS_ADMIN"].map(String::from).to_vec(),
            has_swap_accounting: true,
            devices: Vec::new(),
        }
    }

    fn request() -> ContainerRequest {
        ContainerRequest::of_image(Digest::from_sha256([0; 32]), "app")
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn entrypoint_and_command_follow_the_fields_table() {
        let image = ImageProcess { entrypoint: words("/init"), command: words("serve now"), ..ImageProcess::default() };
        for (entrypoint, args, want) in [
            (None, None, Some("/init serve now")),
            (None, Some("x"), Some("/init x")),
            (Some("sh"), None, Some("sh")),
            (Some("sh"), Some("-c true"), Some("sh -c true")),
            (Some(""), Some("true"), Some("true")),
            (Some(""), None, None),
        ] {
            let mut request = request();
            request.entrypoint = entrypoint.map(words);
            request.args = args.map(words);
            assert_eq!(plan_args(&request, &image).ok(), want.map(words), "{entrypoint:?} {args:?}");
        }
    }

    #[test]
    fn a_later_variable_replaces_an_earlier_one_in_its_place() {
        let (a, b) = (words("A=1 B=2"), words("A=3 C=4"));
        assert_eq!(plan_env(&[&a, &b]).unwrap(), words("A=3 B=2 C=4"));
        assert!(plan_env(&[&words("novalue")]).is_err());
        assert!(plan_env(&[&words("=x")]).is_err());
    }

    #[test]
    fn capabilities_are_added_to_and_taken_from_the_defaults() {
        let plan = |add: &str, drop: &str, ambient: &str| {
            let request = CapabilityRequest { add: words(add), drop: words(drop), add_ambient: words(ambient) };
            plan_capabilities(&request, false, &facts())
        };
        let default = plan("", "", "").unwrap().0;
        assert_eq!(default.len(), defaults::CAPABILITIES.len());
        assert_eq!(plan("net_admin CAP_SYS_TIME", "ALL", "").unwrap().0, words("NET_ADMIN SYS_TIME"));
        assert_eq!(plan("ALL", "kill", "").unwrap().0, words("CHOWN SYS_ADMIN"));
        assert_eq!(plan("", "ALL", "CHOWN").unwrap(), (words("CHOWN"), words("CHOWN")));
        assert!(!plan("", "CHOWN", "").unwrap().0.contains(&"CHOWN".to_owned()));
        assert_eq!(plan("FLY", "", "").unwrap_err().to_string(), "unknown capability \"FLY\"");
    }

    #[test]
    fn limits_that_cannot_work_are_refused_by_name() {
        let refused = |request: ResourceRequest| plan_resources(&request, &facts()).unwrap_err().to_string();
        let none = ResourceRequest::default;
        assert!(refused(ResourceRequest { memory_bytes: Some(4096), ..none() }).contains("at least 6 MiB"));
        assert!(
            refused(ResourceRequest { memory_bytes: Some(1 << 30), memory_swap_bytes: Some(1 << 20), ..none() })
                .contains("swap")
        );
        assert!(refused(ResourceRequest { pids: Some(-2), ..none() }).contains("pids"));
        assert!(refused(ResourceRequest { cpu_quota_usec: Some(5), ..none() }).contains("quota"));
        let memory =
            plan_resources(&ResourceRequest { memory_bytes: Some(8 << 20), ..none() }, &facts()).unwrap().memory;
        assert_eq!(memory.unwrap().swap, Some(16 << 20));
        assert_eq!(plan_resources(&none(), &facts()).unwrap(), LinuxResources::default());
    }

    fn spec(pod: PodRequest, request: ContainerRequest, mounts: &[PreparedMount]) -> Result<Spec, SpecError> {
        plan_spec(SpecInput {
            pod: &pod,
            request: &request,
            image: &ImageProcess { command: words("/bin/sh"), env: words("PATH=/mine"), ..ImageProcess::default() },
            user: &UserView::default(),
            home: "/root",
            hostname: "box",
            files: Path::new("/run/files"),
            shm: None,
            mounts,
            devices: &[],
            seccomp: None,
            cgroups_path: "/carrack/c".into(),
            facts: &facts(),
        })
    }

    #[test]
    fn a_mount_of_ones_own_replaces_a_standard_one_and_parents_come_first() {
        let at = |destination: &str| PreparedMount {
            source: PreparedSource::Host("/src".into()),
            destination: destination.into(),
            readonly: true,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        let made = spec(PodRequest::default(), request(), &[at("/data/deep"), at("/etc/hosts"), at("/data")]).unwrap();
        let order: Vec<&str> = made.mounts.iter().map(|mount| mount.destination.as_str()).skip(7).collect();
        assert_eq!(order, ["/etc/hostname", "/etc/resolv.conf", "/data", "/data/deep", "/etc/hosts"]);
        assert_eq!(made.mounts.last().unwrap().options, ["rbind", "rprivate", "ro"]);
        assert!(spec(PodRequest::default(), request(), &[at("relative")]).is_err());
    }

    #[test]
    fn host_modes_leave_the_namespace_out() {
        let kinds = |pod| -> Vec<String> {
            let spec = spec(pod, request(), &[]).unwrap();
            spec.linux.unwrap().namespaces.into_iter().map(|namespace| namespace.kind).collect()
        };
        assert_eq!(kinds(PodRequest::default()), words("mount cgroup network uts ipc pid"));
        let host = PodRequest {
            network: NetworkMode::Host,
            ipc: NamespaceMode::Host,
            pid: NamespaceMode::Host,
            ..PodRequest::default()
        };
        assert_eq!(kinds(host), words("mount cgroup"));
    }

    #[test]
    fn privilege_in_a_sandbox_needs_the_sandboxes_consent() {
        let mut wanted = request();
        wanted.security.privileged = true;
        let sandbox = PodRequest { metadata: Some(crate::request::PodMetadata::default()), ..PodRequest::default() };
        assert!(matches!(spec(sandbox.clone(), wanted.clone(), &[]), Err(SpecError::PrivilegeNotGranted)));
        let made = spec(PodRequest { privileged: true, ..sandbox }, wanted, &[]).unwrap();
        assert_eq!(made.linux.unwrap().masked_paths, Vec::<String>::new());
    }
}

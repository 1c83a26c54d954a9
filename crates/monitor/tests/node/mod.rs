//! A pod on the real host, for tests: run directory, busybox bundles, a monitor of the built `carrack-oci`, and a check that nothing is
//! left when it is dropped.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carrack_monitor::client::{Attached, Client, ClientError};
use carrack_monitor_proto::{
    Attach, ContainerState, Create, ExitRecord, IpcMode, LogFormat, LogTarget, NetworkMode, PidMode, PodConfig,
    PodState, Request, Response, RestartPolicy, Rootfs, Stream, StreamFrame, UtsMode,
};
use carrack_sys::rustix::process::{Pid, Signal, kill_process};
use carrack_words::{ContainerId, Kind, PodId};
use serde_json::{Value, json};

/// How long anything here may take; far more than it does on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a process that is on its way out may take.
const GRACE: Duration = Duration::from_secs(3);

/// Waits until `condition` gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The programs that these tests need, or the reason why there are none.
pub struct Programs {
    pub carrack_oci: PathBuf,
    pub busybox: PathBuf,
}

impl Programs {
    /// `None`, said aloud, if `test` cannot run here.
    pub fn find(test: &str) -> Option<Self> {
        let skip = |reason: &str| {
            eprintln!("SKIPPED: {test}: {reason}");
            None
        };
        let built = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("carrack-oci"));
        let carrack_oci = std::env::var_os("CARRACK_OCI").map(PathBuf::from).or_else(built);
        let Some(carrack_oci) = carrack_oci.filter(|path| path.exists()) else {
            return skip("no carrack-oci: set CARRACK_OCI, or build it");
        };
        let busybox = std::env::var_os("CARRACK_BUSYBOX").map_or("/bin/busybox".into(), PathBuf::from);
        if !busybox.exists() {
            return skip("no static busybox: set CARRACK_BUSYBOX");
        }
        if !carrack_sys::rustix::process::geteuid().is_root() {
            return skip("not root");
        }
        Some(Self { carrack_oci, busybox })
    }
}

/// One pod and all it needs, in a directory of its own.
pub struct Node {
    pub root: PathBuf,
    pub programs: Programs,
    pub config: PodConfig,
    group: String,
    monitors: RefCell<Vec<i32>>,
}

impl Node {
    /// A pod without namespaces of its own, not persistent; its monitor is not started.
    pub fn new(test: &str) -> Option<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let programs = Programs::find(test)?;
        let name = format!("carrack-test-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(&name);
        for directory in ["run", "oci", "logs", "exits", "rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/tmp"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::copy(&programs.busybox, root.join("rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "cat", "sleep", "true", "stty", "seq", "hostname", "ls", "dd", "kill", "ps", "touch"] {
            symlink("busybox", root.join("rootfs/bin").join(applet)).unwrap();
        }
        let config = PodConfig {
            version: PodConfig::VERSION,
            id: PodId::new(name.clone()).unwrap(),
            persistent: false,
            state_root: root.join("oci"),
            network: NetworkMode::PerContainer,
            ipc: IpcMode::PerContainer,
            uts: UtsMode::PerContainer,
            pid: PidMode::PerContainer,
            sysctls: Default::default(),
            monitor_cgroup: Some(format!("/{name}/monitor").into()),
            pod_init_cgroup: Some(format!("/{name}/init").into()),
            cleanup: vec![],
        };
        Some(Self { root, programs, config, group: name, monitors: RefCell::default() })
    }

    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Writes `pod.json` and starts the monitor.
    pub fn start(&self) -> Client {
        self.try_start().unwrap();
        let client = self.client();
        self.monitors.borrow_mut().push(client.monitor().pid);
        client
    }

    pub fn try_start(&self) -> Result<(), carrack_monitor::StartError> {
        fs::write(self.run_dir().join("pod.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
        carrack_monitor::start(&self.programs.carrack_oci, &self.run_dir())
    }

    pub fn client(&self) -> Client {
        let client =
            Client::connect(&self.run_dir(), None).unwrap_or_else(|error| panic!("{error:?}\n{}", self.journal()));
        client.set_deadline(Some(PATIENCE)).unwrap();
        client
    }

    pub fn journal(&self) -> String {
        fs::read_to_string(self.run_dir().join("monitor.log")).unwrap_or_default()
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.root.join(format!("logs/{name}/0.log"))
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap()
    }

    /// What the log's lines of a stream say, without their times.
    pub fn log_lines(&self, name: &str) -> Vec<String> {
        self.log(name).lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub fn exit_path(&self, name: &str) -> PathBuf {
        self.root.join(format!("exits/{name}.json"))
    }

    pub fn recorded_exit(&self, name: &str) -> ExitRecord {
        serde_json::from_slice(&fs::read(self.exit_path(name)).unwrap()).unwrap()
    }

    /// The configuration of a container that runs `script` in a shell.
    pub fn spec(&self, name: &str, script: &str) -> Value {
        json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": { "path": self.root.join("rootfs") },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            "linux": {
                "namespaces": [
                    { "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" },
                ],
                "cgroupsPath": format!("/{}/{name}", self.group),
            },
        })
    }

    /// What creates a container with this configuration.
    pub fn create_request(&self, name: &str, spec: &Value) -> Create {
        let bundle = self.root.join("bundles").join(name);
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), serde_json::to_vec(spec).unwrap()).unwrap();
        Create {
            id: id(name),
            bundle,
            rootfs: Rootfs::Config,
            join: vec![],
            no_new_keyring: false,
            log: Some(LogTarget { path: self.log_path(name), format: LogFormat::Cri }),
            exit_file: self.exit_path(name),
            terminal: spec["process"]["terminal"] == json!(true),
            stdin: false,
            stdin_once: false,
            restart: RestartPolicy::No,
        }
    }

    /// Creates and starts a container that runs `script`.
    pub fn run(&self, client: &mut Client, name: &str, script: &str) {
        self.create(client, self.create_request(name, &self.spec(name, script)));
        start(client, name);
    }

    pub fn create(&self, client: &mut Client, create: Create) -> i32 {
        match client.call(&Request::Create(Box::new(create))) {
            Ok(Response::Created { process }) => process.pid,
            other => panic!("{other:?}\n{}", self.journal()),
        }
    }

    /// Waits until the monitor has gone.
    pub fn wait_for_end(&self, monitor: i32) {
        eventually("the monitor's end", || is_dead(monitor).then_some(()));
        assert!(!self.run_dir().join("monitor.sock").exists());
    }
}

impl Drop for Node {
    /// Checks, unless the test has failed anyway, that the monitors have gone and left nothing.
    fn drop(&mut self) {
        let monitors = self.monitors.take();
        let leftover: Vec<_> = monitors.iter().copied().filter(|pid| !is_dead(*pid)).collect();
        let journal = self.journal();
        for pid in &leftover {
            // A monitor is not our child; its start time was not looked at, but it lived a moment ago.
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
        }
        // A monitor that refused to start has said so a moment before it ends.
        let begin = Instant::now();
        while begin.elapsed() < GRACE && !processes_below(&self.group).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let processes = processes_below(&self.group);
        for pid in &processes {
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
        }
        eventually("processes to end", || processes_below(&self.group).is_empty().then_some(()));
        let groups = remove_groups(&self.group);
        let run: Vec<_> = names(&self.run_dir())
            .into_iter()
            .filter(|name| name != "streams" || !names(&self.run_dir().join(name)).is_empty())
            .collect();
        let states = names(&self.root.join("oci"));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<_> = mounts.lines().filter(|line| line.contains(&self.group)).map(str::to_owned).collect();
        fs::remove_dir_all(&self.root).unwrap();
        if std::thread::panicking() {
            eprintln!("monitor.log:\n{journal}");
            return;
        }
        assert!(leftover.is_empty(), "the monitor still runs\n{journal}");
        assert!(processes.is_empty(), "processes are left: {processes:?}\n{journal}");
        // The pod's own directory of groups is the engine's to remove, and the monitors' with it.
        let own = [self.group.clone(), format!("{}/monitor", self.group)];
        assert!(groups.iter().all(|group| own.contains(group)), "groups are left: {groups:?}\n{journal}");
        assert!(run.iter().all(|name| ["pod.json", "monitor.log", "streams"].contains(&name.as_str())), "{run:?}");
        assert!(states.is_empty(), "runtime state is left: {states:?}\n{journal}");
        assert!(mounts.is_empty(), "mounts are left: {mounts:?}");
    }
}

pub fn id(name: &str) -> ContainerId {
    ContainerId::new(name).unwrap()
}

pub fn start(client: &mut Client, name: &str) {
    match client.call(&Request::Start { id: id(name) }) {
        Ok(Response::Started { .. }) => {}
        other => panic!("{other:?}"),
    }
}

pub fn wait(client: &mut Client, name: &str) -> ExitRecord {
    exited(client.call(&Request::Wait { id: id(name) }))
}

pub fn stop(client: &mut Client, name: &str, timeout: Duration) -> ExitRecord {
    let signal = carrack_monitor_proto::Signal::TERM;
    exited(client.call(&Request::Stop { id: id(name), signal, timeout }))
}

fn exited(response: Result<Response, ClientError>) -> ExitRecord {
    match response {
        Ok(Response::Exited(record)) => record,
        other => panic!("{other:?}"),
    }
}

pub fn done(client: &mut Client, request: Request) {
    match client.call(&request) {
        Ok(Response::Done) => {}
        other => panic!("{other:?}"),
    }
}

/// The class and words of a refusal.
pub fn refusal(result: Result<Response, ClientError>) -> (Kind, String) {
    match result {
        Err(ClientError::Refused { kind, message }) => (kind, message),
        other => panic!("{other:?}"),
    }
}

pub fn pod_state(client: &mut Client) -> PodState {
    match client.call(&Request::State) {
        Ok(Response::State(state)) => *state,
        other => panic!("{other:?}"),
    }
}

pub fn container_state(client: &mut Client, name: &str) -> ContainerState {
    pod_state(client).containers.into_iter().find(|container| container.id == id(name)).unwrap()
}

/// Everything attached, and waited for.
pub fn attach_all(name: &str) -> Attach {
    Attach { id: id(name), stdin: true, stdout: true, stderr: true, lossless: true }
}

pub fn attach(client: Client, attach: Attach) -> Attached {
    client.attach(attach).unwrap()
}

/// Reads an attached container to its end: standard output, standard error, exit.
pub fn read_to_end(attached: &mut Attached) -> (Vec<u8>, Vec<u8>, ExitRecord) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match attached.reader.next_frame().unwrap() {
            StreamFrame::Data { stream: Stream::Stdout, bytes } => out.extend(bytes),
            StreamFrame::Data { stream: Stream::Stderr, bytes } => err.extend(bytes),
            StreamFrame::End(record) => return (out, err, record),
            other => panic!("{other:?}"),
        }
    }
}

/// Whether a process is gone or a zombie, which process 1 may reap late.
pub fn is_dead(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(')').is_none_or(|(_, rest)| matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return vec![] };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_group = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    mounts.lines().filter(is_group).map(|line| line.split(' ').nth(4).unwrap().into()).collect()
}

/// Processes in groups of the test. The monitor's group does not count once the monitor is dead.
fn processes_below(group: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies() {
        visit(&hierarchy.join(group), &mut |directory| {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    pids.retain(|pid| *pid != 0 && !is_dead(*pid));
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes the groups of the test and tells which there were.
fn remove_groups(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        visit(&hierarchy.join(group), &mut |directory| {
            // A zombie that process 1 has not reaped yet keeps its group.
            eventually("a group to be empty", || match fs::remove_dir(directory) {
                Ok(()) => Some(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(()),
                Err(_) => None,
            });
            found.push(directory.strip_prefix(&hierarchy).unwrap().to_str().unwrap().to_owned());
        });
    }
    found
}

/// Calls `f` for a directory of groups, the innermost first.
fn visit(directory: &Path, f: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), f);
        }
    }
    f(directory);
}

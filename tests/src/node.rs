//! A private host for one test.
//!
//! A node has network, mount and pid namespaces of its own, an empty `/run`, and a private root and run directory. So tests run
//! side by side without seeing each other's bridge, rules and processes; what is left over is what *this* test left; and a
//! [`Node::reboot`] is what the word says: every process dies, mounts and interfaces vanish, `/run` is empty.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use carrack_sys::namespace::{Namespaces, join};
use carrack_sys::rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::os::fd::AsFd;

use crate::command::{Ran, Running, run, start};
use crate::cri::Cri;
use crate::image;
use crate::leak;
use crate::place::Place;
use crate::programs;
use crate::registry::CannedRegistry;
use crate::wait::{wait_for, wait_until};

/// Marks the fixtures' own processes, which are no leak.
pub const FIXTURE: &str = "CARRACK_TEST_FIXTURE";

/// A private host, see the module.
#[derive(Debug)]
pub struct Node {
    holder: Holder,
    place: Place,
    cgroup: String,
}

/// The first process of a node: it reaps orphans, and dies with the test.
#[derive(Debug)]
struct Holder {
    unshare: Child,
    /// Its end is the end of the node, so it is kept open.
    _life: ChildStdin,
    pid: u32,
    mounts: BTreeSet<String>,
}

/// `exec 3<&0`: a shell gives its background jobs an empty standard input.
const HOLDER: &str = r#"
mount -t tmpfs -o mode=755 tmpfs /run || exit 1
mkdir -p /run/lock
[ -f /etc/resolv.conf ] && mount --bind "$CARRACK_RESOLV_CONF" /etc/resolv.conf
ifconfig lo 127.0.0.1 up || exit 1
exec 3<&0
cat <&3 >/dev/null &
life=$!
echo ready
while kill -0 $life 2>/dev/null; do sleep 0.1; done
"#;

impl Holder {
    fn start(place: &Place) -> Self {
        let resolv_conf = place.file("resolv.conf", "nameserver 192.0.2.53\n");
        let mut command = Command::new("unshare");
        command
            .args(["-m", "-n", "-p", "-f", "--mount-proc"])
            .arg(programs::busybox())
            .args(["sh", "-c", HOLDER])
            .env(FIXTURE, "1")
            .env("CARRACK_RESOLV_CONF", resolv_conf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Some versions of unshare complain about a signal mask here, and go on as they should.
            .stderr(Stdio::null());
        let mut unshare = command.spawn().expect("unshare is installed (util-linux)");
        let life = unshare.stdin.take().expect("stdin was asked to be a pipe above");
        let mut line = String::new();
        BufReader::new(unshare.stdout.take().expect("stdout was asked to be a pipe above"))
            .read_line(&mut line)
            .expect("a pipe can be read");
        assert_eq!(line, "ready\n", "a node needs root: network, mount and pid namespaces");
        let pid = *children_of(unshare.id()).first().expect("unshare forked before its child said ready");
        let mounts = leak::mounts(pid);
        Self { unshare, _life: life, pid, mounts }
    }

    /// Kills everything in the node, and returns when it is gone.
    fn end(&mut self) {
        kill(self.pid);
        // unshare ends when its child has, and a first process ends when all others of its namespace have.
        let _ = self.unshare.wait();
    }
}

impl Node {
    /// A new host with nothing in it.
    pub fn new(name: &str) -> Self {
        let place = Place::new(name);
        for directory in ["root", "run", "home"] {
            place.directory(directory);
        }
        let cgroup = cgroup_of(&place.join("run"));
        Self { holder: Holder::start(&place), place, cgroup }
    }

    /// The test's directory.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The engine's persistent directory.
    pub fn root(&self) -> PathBuf {
        self.place.join("root")
    }

    /// The engine's volatile directory.
    pub fn run_directory(&self) -> PathBuf {
        self.place.join("run")
    }

    /// The pid (as we see it) of the node's first process, by which its namespaces are found.
    pub fn pid(&self) -> u32 {
        self.holder.pid
    }

    /// The cgroup under which the engine keeps its pods here.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The engine's own groups here, over all hierarchies.
    pub fn engine_groups(&self) -> Vec<PathBuf> {
        leak::engine_groups(&self.cgroup)
    }

    /// A command that runs inside the node.
    pub fn inside(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        self.enter(&mut command, program.as_ref());
        command
    }

    /// A command that runs inside the node with its standard input as controlling terminal.
    pub fn inside_with_terminal(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setsid");
        command.args(["-c", "nsenter"]);
        self.enter(&mut command, program.as_ref());
        command
    }

    fn enter(&self, command: &mut Command, program: &Path) {
        command.args(["-t", &self.holder.pid.to_string(), "-m", "-n", "-p", "--"]).arg(program);
        command.env("HOME", self.place.join("home")).env_remove("DOCKER_CONFIG").env_remove("SSL_CERT_FILE");
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            command.env_remove(proxy);
        }
    }

    /// `carrack` with this node's directories.
    pub fn carrack(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(programs::carrack());
        self.directories(&mut command).args(arguments);
        command
    }

    /// `carrack` on a terminal.
    pub fn carrack_with_terminal(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside_with_terminal(programs::carrack());
        self.directories(&mut command).args(arguments);
        command
    }

    /// `carrack` of a caller with a umask, in octal.
    pub fn carrack_with_umask(&self, umask: &str, arguments: &[&str]) -> Command {
        let mut command = self.inside(programs::busybox());
        command.args(["sh", "-c", "umask \"$0\" && exec \"$@\"", umask]).arg(programs::carrack());
        self.directories(&mut command).args(arguments);
        command
    }

    fn directories<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--root").arg(self.root()).arg("--run").arg(self.run_directory())
    }

    /// Runs `carrack` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.carrack(arguments))
    }

    /// Runs `carrack`, which must succeed, and returns what it printed without the last newline.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().trim_end().to_owned()
    }

    /// What `carrack inspect` tells of one container or image.
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.ok(&["inspect", name]);
        let mut objects: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("inspect {name}: {error}: {text}"));
        objects[0].take()
    }

    /// A container's state in a word: `created`, `running`, `restarting`, `exited`.
    pub fn state(&self, container: &str) -> String {
        self.inspect(container)["State"]["Status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a container is in a state.
    pub fn wait_for_state(&self, container: &str, state: &str) {
        wait_until(&format!("{container} is {state}"), Duration::from_secs(60), || self.state(container) == state);
    }

    /// The IPv4 address of a container's pod.
    pub fn address(&self, container: &str) -> String {
        self.inspect(container)["NetworkSettings"]["IPAddress"]
            .as_str()
            .expect("a container on the bridge has an address")
            .to_owned()
    }

    /// The pid, as this host's processes see it, of a container's first process.
    pub fn process_of(&self, container: &str) -> u32 {
        let inside = self.inspect(container)["State"]["Pid"].as_u64().expect("a running container has a process");
        self.pid_outside(u32::try_from(inside).expect("a pid is small"))
    }

    /// Our pid of a process whose pid inside the node is known.
    pub fn pid_outside(&self, inside: u32) -> u32 {
        let ours = fs::read_dir("/proc").into_iter().flatten().flatten();
        let namespace =
            fs::read_link(format!("/proc/{}/ns/pid", self.holder.pid)).expect("the node's first process lives");
        let depth = names_of(self.holder.pid).len();
        ours.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .find(|pid| {
                let names = names_of(*pid);
                names.get(depth - 1) == Some(&inside) && is_below(*pid, names.len(), depth, &namespace)
            })
            .unwrap_or_else(|| panic!("no process {inside} in the node"))
    }

    /// Starts `carrack` with an empty standard input.
    pub fn start(&self, arguments: &[&str]) -> Running {
        start(self.carrack(arguments).stdin(Stdio::null()))
    }

    /// `carrack-oci` with a state directory of this node's own.
    pub fn oci(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(programs::carrack_oci());
        command.arg("--root").arg(self.place.join("oci-state")).args(arguments);
        command
    }

    /// A program that a fixture runs inside the node, and that is no leak.
    pub fn fixture(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.inside(program);
        command.env(FIXTURE, "1");
        command
    }

    /// Kills what `running` runs inside the node with SIGKILL.
    pub fn kill_inside(&self, running: Running) {
        for pid in children_of(running.child.id()) {
            kill(pid);
        }
        running.kill();
    }

    /// Sends a signal to what `running` runs inside the node.
    pub fn signal_inside(&self, running: &Running, signal: Signal) {
        for pid in children_of(running.child.id()) {
            let pid = Pid::from_raw(pid as i32).expect("a child's pid is not zero");
            kill_process(pid, signal).expect("the child has not been waited for");
        }
    }

    /// A socket that listens in the node's network; port 0 takes any.
    pub fn listen(&self, address: &str) -> (TcpListener, SocketAddr) {
        let address = address.to_owned();
        let listener = self.in_network(move || {
            TcpListener::bind(&address).unwrap_or_else(|error| panic!("listen on {address}: {error}"))
        });
        let address = listener.local_addr().expect("a listening socket has an address");
        (listener, address)
    }

    /// Runs `work` on a thread that is in the node's network; sockets it makes stay there.
    pub fn in_network<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace =
            File::open(format!("/proc/{}/ns/net", self.holder.pid)).expect("the node's first process lives");
        let worker = thread::spawn(move || {
            join(namespace.as_fd(), Namespaces::NETWORK).expect("root may join a network namespace");
            work()
        });
        worker.join().expect("the work on the node's network succeeds")
    }

    /// Starts `carrack serve`, and returns when it answers.
    pub fn serve(&self) -> Daemon<'_> {
        self.serve_with_umask("022")
    }

    /// The same, of somebody with a umask, in octal.
    pub fn serve_with_umask(&self, umask: &str) -> Daemon<'_> {
        let socket = self.run_directory().join("carrack.sock");
        let serve = ["serve", "--socket", &socket.to_string_lossy()];
        let running = start(self.carrack_with_umask(umask, &serve).stdin(Stdio::null()));
        let cri = wait_for("carrack serve answers", Duration::from_secs(60), || Cri::connect(&socket).ok());
        Daemon { node: self, running: Some(running), socket, cri }
    }

    /// The power goes off and on again.
    pub fn reboot(&mut self) {
        self.holder.end();
        leak::remove_cgroups(&self.cgroup);
        fs::remove_dir_all(self.run_directory()).expect("nothing is mounted there any more");
        self.place.directory("run");
        self.holder = Holder::start(&self.place);
    }

    /// Everything of Carrack's that is there now and would not be on a host on which nothing runs.
    pub fn leaks(&self) -> Vec<String> {
        leak::of_node(self, &self.holder.mounts)
    }

    /// Ends the test: panics if anything is left over. The kernel may take a moment to reap an interface.
    pub fn finish(self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(15);
        loop {
            let leaks = self.leaks();
            if leaks.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "left over:\n{}", leaks.join("\n"));
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.holder.end();
        leak::remove_cgroups(&self.cgroup);
    }
}

/// A node with a registry that has busybox, and the reference by which it is pulled.
pub fn with_busybox(name: &str) -> (Node, CannedRegistry, String) {
    let node = Node::new(name);
    let registry = CannedRegistry::start(&node);
    let image = registry.publish("boxes/busybox", "latest", &image::busybox());
    (node, registry, image)
}

/// A running `carrack serve`.
#[derive(Debug)]
pub struct Daemon<'a> {
    node: &'a Node,
    running: Option<Running>,
    /// Its CRI socket.
    pub socket: PathBuf,
    /// A client of it.
    pub cri: Cri,
}

impl Daemon<'_> {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.node.kill_inside(self.running.take().expect("taken only at the end"));
    }

    /// SIGTERM; it must end with success.
    pub fn stop(mut self) {
        let running = self.running.take().expect("taken only at the end");
        self.cri.close();
        self.node.signal_inside(&running, Signal::TERM);
        running.finish(Duration::from_secs(30)).ok();
    }

    /// What it has said on standard error.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Running::stderr).unwrap_or_default()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.node.kill_inside(running);
        }
    }
}

/// The children of a process, by its main thread.
pub fn children_of(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Kills one process that a fixture started, by its pid.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The pids of a process, in our namespace first, then in those below.
fn names_of(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is in a pid namespace, or in one below it: then one of its ancestors is.
fn is_below(pid: u32, levels: usize, depth: usize, namespace: &Path) -> bool {
    if levels == depth {
        return fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|found| found == namespace);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
    parent.is_some_and(|parent| parent > 1 && is_below(parent, names_of(parent).len(), depth, namespace))
}

/// Waits until a process is gone or a zombie.
pub fn wait_until_dead(pid: u32) {
    wait_until(&format!("process {pid} ends"), Duration::from_secs(30), || {
        leak::is_dead(Path::new(&format!("/proc/{pid}")))
    });
}

/// The engine names the cgroup of a run directory which is not the default by a hash of its path (FNV-1a).
fn cgroup_of(run: &Path) -> String {
    let hash =
        run.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("carrack-{:08x}", hash as u32)
}

//! A group that goes away with the test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carrack_cgroup::{Facts, Group, GroupPath, Host, Layout, Version};
use carrack_oci_config::LinuxResources;

/// Long enough for a busy machine; nothing waits that long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Scratch {
    pub host: Host,
    pub path: GroupPath,
}

impl Scratch {
    pub fn new(host: Host) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("/carrack-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { host, path: GroupPath::parse(&name).expect("a path") }
    }

    pub fn below(&self, name: &str) -> GroupPath {
        self.path.join(name).expect("a path")
    }

    /// Makes the group `name` below this one.
    pub fn create(&self, name: &str, resources: &LinuxResources) -> Group {
        let plan = self.host.plan(&self.below(name), Some(resources)).expect("sound resources");
        self.host.create(&plan).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let group = self.host.open(&self.path);
        let outcome = group.kill_all().map_err(|error| error.to_string());
        let outcome = outcome.and(group.remove(PATIENCE).map_err(|error| error.to_string()));
        if let Err(error) = outcome
            && !std::thread::panicking()
        {
            panic!("clean up {}: {error}", self.path);
        }
        assert!(std::thread::panicking() || !group.exists(), "{} is still there", self.path);
    }
}

pub fn host() -> Host {
    Host::probe().expect("this host's cgroups")
}

/// The version 2 hierarchy alone, if there is one: on a hybrid host too it can kill, freeze and filter devices.
pub fn unified(test: &str) -> Option<Host> {
    let mut facts = host().facts().clone();
    facts.hierarchies.retain(|hierarchy| hierarchy.version == Version::V2);
    if facts.hierarchies.is_empty() {
        eprintln!("SKIPPED: {test}: no cgroup v2 is mounted");
        return None;
    }
    Some(Host::open_facts(Facts { hierarchies: facts.hierarchies }).expect("the version 2 hierarchy"))
}

/// The host as it is, and its version 2 part by itself where that is something else.
pub fn hosts(test: &str) -> Vec<Host> {
    let host = host();
    let second = if host.layout() == Layout::Hybrid { unified(test) } else { None };
    std::iter::once(host).chain(second).collect()
}

/// A file of a group, found by its controller's names in version 1 and 2.
pub fn text(group: &Group, controllers: [&str; 2], file: &str) -> String {
    let paths = group.paths();
    let directory: &PathBuf = paths.get(controllers[0]).or_else(|| paths.get("")).expect("a hierarchy");
    let path = directory.join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

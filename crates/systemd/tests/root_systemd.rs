//! Against a real systemd, over both of its sockets. For a machine whose first process it is.

use std::fs;
use std::process::{Child, Command};

use carrack_systemd::{Manager, Property, Value, is_running};
use carrack_words::Kind;

/// Whether the test cannot run here; then it has said so.
fn is_missing(test: &str) -> bool {
    if !is_running() {
        eprintln!("SKIPPED: {test}: systemd is not the first process here");
    }
    !is_running()
}

/// A process to put into a unit; it is gone when this is.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().expect("sleep runs"))
    }

    fn group(&self) -> String {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.0.id())).expect("it lives");
        text.trim().rsplit(':').next().expect("a path").to_owned()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have been stopped with its unit.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn properties(sleeper: &Sleeper) -> Vec<Property> {
    let pids = Value::Array { of: "u".into(), values: vec![Value::Uint32(sleeper.0.id())] };
    vec![
        ("Slice".into(), Value::text("system.slice")),
        ("PIDs".into(), pids),
        ("CollectMode".into(), Value::text("inactive-or-failed")),
    ]
}

fn name(what: &str) -> String {
    format!("carrack-test-{}-{what}.scope", std::process::id())
}

fn starts_changes_and_stops(mut manager: Manager, unit: &str) {
    let sleeper = Sleeper::new();
    manager.start_scope(unit, &properties(&sleeper)).expect("a scope");
    let group = format!("/system.slice/{unit}");
    assert_eq!(sleeper.group(), group);
    manager.set_properties(unit, &[("TasksMax".into(), Value::Uint64(77))]).expect("a limit");
    let limit = fs::read_to_string(format!("/sys/fs/cgroup{group}/pids.max")).expect("a group");
    assert_eq!(limit, "77\n");
    assert!(manager.version().expect("a version") >= 240);
    let fault = manager.set_properties(unit, &[("NoSuchThing".into(), Value::Byte(1))]).expect_err("no such property");
    assert!(
        fault.to_string().starts_with(&format!("set properties of unit {unit}: Cannot set property NoSuchThing")),
        "{fault}"
    );
    manager.stop(unit).expect("stopped");
    assert!(!fs::exists(format!("/sys/fs/cgroup{group}")).expect("a hierarchy"));
    manager.stop(unit).expect("gone already");
}

#[test]
fn root_systemd_a_scope_over_the_private_socket() {
    if is_missing("root_systemd_a_scope_over_the_private_socket") {
        return;
    }
    starts_changes_and_stops(Manager::connect().expect("systemd"), &name("private"));
}

#[test]
fn root_systemd_a_scope_over_the_system_bus() {
    if is_missing("root_systemd_a_scope_over_the_system_bus") {
        return;
    }
    starts_changes_and_stops(Manager::connect_to_bus().expect("the system's bus"), &name("bus"));
}

#[test]
fn root_systemd_refusals_name_the_unit_and_what_systemd_said() {
    if is_missing("root_systemd_refusals_name_the_unit_and_what_systemd_said") {
        return;
    }
    let mut manager = Manager::connect().expect("systemd");
    let (sleeper, other, unit) = (Sleeper::new(), Sleeper::new(), name("twice"));
    manager.start_scope(&unit, &properties(&sleeper)).expect("a scope");
    let fault = manager.start_scope(&unit, &properties(&other)).expect_err("it lives");
    assert_eq!(fault.kind(), Kind::AlreadyExists);
    assert!(fault.to_string().starts_with(&format!("start unit {unit}: Unit {unit} ")), "{fault}");
    manager.stop(&unit).expect("stopped");
    let fault = manager.start_scope("no name", &[]).expect_err("no name of a unit");
    assert!(fault.to_string().starts_with("start unit no name: "), "{fault}");
    let fault = manager.start_scope(&name("empty"), &[]).expect_err("a scope without processes");
    assert!(fault.to_string().contains(&name("empty")), "{fault}");
}

//! `cargo xtask test`: every check of the project, in stages, each with a bound on its time and its own log.
//!
//! A failed stage does not stop the next: one run tells everything that is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::build::{self, Programs};
use crate::demo;
use crate::failure::Failure;
use crate::packages;
use crate::process::{Show, find_program, output_of, run_bounded};
use crate::summary::{self, Counts};
use crate::vm::{self, Guest, GuestCommand, Init};
use crate::workspace::{Profile, Workspace, cargo};

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `cargo fmt --check`.
    Format,
    /// `cargo clippy`, where a warning is an error.
    Clippy,
    /// The tests of every crate, and the rules over the workspace.
    Unit,
    /// The black-box tests over both programs, on this machine.
    Host,
    /// Every test that needs root, again, in the virtual machine.
    Vm,
    /// The main job.
    Demo,
}

/// Crates with tests that a pure cgroup v2 machine may answer differently.
const PACKAGES_IN_VM: &[&str] = &[
    "carrack-runtime",
    "carrack-cgroup",
    "carrack-systemd",
    "carrack-oci",
    "carrack-network",
    "carrack-monitor",
    "carrack-tests",
];

/// Tests over the programs that a machine without KVM could only fail, whose answer does not hang on the kernel, or whose peers are not there.
const TESTS_NOT_IN_VM: &[&str] = &["budgets", "callers", "fixtures", "images"];

/// Dynamic programs that tests in the guest use where they find them.
const PROGRAMS_IN_VM: &[&str] = &["apparmor_parser", "nft", "ip", "unshare", "nsenter", "setsid", "setpriv", "strace"];

impl Stage {
    /// In the order in which they run: the quick and telling first.
    pub const ALL: [Self; 6] = [Self::Format, Self::Clippy, Self::Unit, Self::Host, Self::Vm, Self::Demo];

    /// Reads `unit,vm`.
    pub fn parse_list(names: &str) -> Result<Vec<Self>, Failure> {
        names
            .split(',')
            .map(|name| {
                Self::ALL
                    .into_iter()
                    .find(|stage| stage.name() == name)
                    .ok_or_else(|| Failure::new(format!("no stage is called {name}")))
            })
            .collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Clippy => "clippy",
            Self::Unit => "unit",
            Self::Host => "host",
            Self::Vm => "vm",
            Self::Demo => "demo",
        }
    }

    fn limit(self) -> Duration {
        let minutes = match self {
            Self::Format => 2,
            Self::Clippy | Self::Unit | Self::Host => 25,
            Self::Vm | Self::Demo => 20,
        };
        Duration::from_secs(60 * minutes)
    }
}

struct Report {
    stage: Stage,
    is_success: bool,
    counts: Counts,
    took: Duration,
    /// What a failed stage said of its failure.
    said: String,
}

/// Installs what is needed, builds the programs, runs the stages, and prints what came of them.
pub fn run(workspace: &Workspace, wanted: &[Stage]) -> Result<ExitCode, Failure> {
    packages::install(packages::FOR_TESTS)?;
    let logs = workspace.cache("logs");
    fs::create_dir_all(&logs).map_err(Failure::because(format!("make {}", logs.display())))?;
    let mut programs = None;
    let mut reports = vec![];
    for stage in wanted {
        println!("== {}", stage.name());
        let started = Instant::now();
        if programs.is_none() && !matches!(stage, Stage::Format | Stage::Clippy) {
            programs = Some(build::build(workspace, Profile::Dev)?);
        }
        let (is_success, output) = match (stage, &programs) {
            (Stage::Vm, Some(programs)) => run_in_vm(workspace, programs)?,
            (Stage::Demo, Some(programs)) => run_command(&mut demo::command(workspace, programs, &[])?, *stage)?,
            (stage, programs) => run_cargo(*stage, programs.as_ref())?,
        };
        let log = logs.join(format!("{}.log", stage.name()));
        fs::write(&log, &output).map_err(Failure::because(format!("write {}", log.display())))?;
        let said = if is_success { String::new() } else { summary::failure_in(&output) };
        let report =
            Report { stage: *stage, is_success, counts: Counts::parse(&output), took: started.elapsed(), said };
        println!("== {}", line_of(&report));
        reports.push(report);
    }
    Ok(conclude(&reports))
}

fn run_cargo(stage: Stage, programs: Option<&Programs>) -> Result<(bool, String), Failure> {
    let mut command = cargo();
    match stage {
        Stage::Format => command.args(["fmt", "--all", "--check"]),
        Stage::Clippy => {
            command.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        }
        Stage::Unit => command
            .args(["test", "--workspace", "--exclude", "carrack-tests", "--exclude", "carrack-bench", "--no-fail-fast"])
            .args(["--", "--show-output"]),
        // Containers compete for two cores here: more at once would only make each wait longer.
        Stage::Host => command.args([
            "test",
            "--package",
            "carrack-tests",
            "--no-fail-fast",
            "--",
            "--show-output",
            "--test-threads",
            "4",
        ]),
        Stage::Vm | Stage::Demo => unreachable!("run() has its own arms for the machine and the demonstration"),
    };
    if let Some(programs) = programs {
        programs.name_to(&mut command);
    }
    run_command(&mut command, stage)
}

fn run_command(command: &mut Command, stage: Stage) -> Result<(bool, String), Failure> {
    let outcome = run_bounded(command, stage.limit(), Show::Live)?;
    Ok((outcome.ending.is_success(), outcome.output))
}

/// Runs every test called `root_*` of [`PACKAGES_IN_VM`] in a machine: those called `root_systemd_*` in one of their own, whose first process is systemd.
fn run_in_vm(workspace: &Workspace, programs: &Programs) -> Result<(bool, String), Failure> {
    let binaries = test_binaries()?;
    let (mut is_success, mut output) = (true, String::new());
    for init in [Init::Script, Init::Systemd] {
        let guest = guest(workspace, programs, &binaries, init)?;
        for outcome in vm::run(workspace, &guest, Show::Live)? {
            is_success &= outcome.code == Some(0);
            output.push_str(&format!("==== {} ended with {:?}\n{}", outcome.name, outcome.code, outcome.output));
        }
    }
    Ok((is_success, output))
}

/// The machine with this first process, and the tests that are for it.
fn guest(workspace: &Workspace, programs: &Programs, binaries: &[PathBuf], init: Init) -> Result<Guest, Failure> {
    let mut files = vec![
        (programs.carrack.clone(), PathBuf::from("/usr/bin/carrack")),
        (programs.carrack_oci.clone(), PathBuf::from("/usr/bin/carrack-oci")),
    ];
    // A crate's tests know the program of their own package by the path at which Cargo built it.
    for program in ["carrack-oci", "carrack-peer"] {
        let built = workspace.program(program, Profile::Dev);
        if built.exists() {
            files.push((built.clone(), built));
        }
    }
    let mut commands = vec![];
    for binary in binaries {
        let mut tests = root_tests(binary)?;
        tests.retain(|name| needs_systemd(name) == (init == Init::Systemd));
        if tests.is_empty() {
            continue;
        }
        let name = binary.file_name().expect("a test program is a file").to_string_lossy().into_owned();
        let inside = PathBuf::from("/vm").join(&name);
        commands.push(GuestCommand {
            argv: [inside.to_string_lossy().into_owned()]
                .into_iter()
                .chain(["--exact", "--show-output", "--test-threads", "2"].map(str::to_owned))
                .chain(tests)
                .collect(),
            environment: [
                ("CARRACK", "/usr/bin/carrack"),
                ("CARRACK_OCI", "/usr/bin/carrack-oci"),
                ("CARRACK_BUSYBOX", "/bin/busybox"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            limit: Duration::from_secs(480),
            name,
        });
        files.push((binary.clone(), inside));
    }
    // The host's programs would load their libraries beside systemd's own.
    let wanted = if init == Init::Script { PROGRAMS_IN_VM } else { &[] };
    Ok(Guest {
        init,
        memory_mib: 3072,
        files,
        programs: wanted.iter().filter_map(|program| find_program(program)).collect(),
        commands,
        limit: Stage::Vm.limit(),
    })
}

fn needs_systemd(test: &str) -> bool {
    test.rsplit("::").next().is_some_and(|name| name.starts_with("root_systemd_"))
}

/// Builds the test programs of [`PACKAGES_IN_VM`], and tells where they are.
fn test_binaries() -> Result<Vec<PathBuf>, Failure> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--message-format", "json"]);
    for package in PACKAGES_IN_VM {
        command.args(["--package", package]);
    }
    let messages = output_of(&mut command)?;
    Ok(messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == Value::Bool(true))
        .filter(|message| !message["target"]["name"].as_str().is_some_and(|name| TESTS_NOT_IN_VM.contains(&name)))
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect())
}

/// The full names of the tests in `binary` that are called `root_*`, in whatever module.
fn root_tests(binary: &Path) -> Result<Vec<String>, Failure> {
    let list = output_of(Command::new(binary).args(["root_", "--list"]))?;
    Ok(parse_root_tests(&list))
}

/// The filter of a test program also finds `root_` in the middle of a name, so that each name is looked at again.
fn parse_root_tests(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| name.rsplit("::").next().is_some_and(|last| last.starts_with("root_")))
        .map(str::to_owned)
        .collect()
}

fn line_of(report: &Report) -> String {
    let word = if report.is_success { "ok" } else { "FAILED" };
    format!("{:<7} {word:<7} {:>4} s   {}", report.stage.name(), report.took.as_secs(), report.counts)
}

/// Prints again what failed, then the table, the names of the failed and the skipped, and the sum: all that matters stands at the end.
fn conclude(reports: &[Report]) -> ExitCode {
    for report in reports.iter().filter(|report| !report.is_success) {
        println!("\n== {} said\n{}", report.stage.name(), report.said);
    }
    println!("\n== summary");
    let mut total = Counts::default();
    for report in reports {
        println!("{}", line_of(report));
        for name in &report.counts.failed {
            println!("          FAILED:  {name}");
        }
        for reason in &report.counts.skipped {
            println!("          SKIPPED: {reason}");
        }
        total.add(report.counts.clone());
    }
    println!("{total}");
    if reports.iter().all(|report| report.is_success) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_begin_so_are_tests_for_root() {
        let list = "root_a: test\nplan::tests::root_b: test\nplan::tests::the_root_directory: test\nroot_c: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(parse_root_tests(list), ["root_a", "plan::tests::root_b"]);
    }
}

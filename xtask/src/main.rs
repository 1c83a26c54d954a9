//! The command line of the build tool.

#![forbid(unsafe_code)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use xtask::failure::Failure;
use xtask::fuzz;
use xtask::process::Show;
use xtask::stages::{self, Stage};
use xtask::vm::{self, Guest, GuestCommand, Init};
use xtask::workspace::{Profile, Workspace};
use xtask::{bench, build, demo};

const HELP: &str = "\
cargo xtask VERB

  build                     build carrack and carrack-oci as they are shipped
  demo [--image REF]        run the main job: a pod through CRI, from an image to its logs, leaving nothing behind
  test [--only STAGE,...]   install what the tests need and run them all; stages: format clippy unit host vm demo
  bench [SUITE...]          measure against runc, crun, containerd and podman; suites: runtime engine cri pull
  fuzz TARGET [SECONDS]     search for inputs that do harm; targets: config process seccomp archive challenge
  vm run [--systemd] [--limit SECONDS] -- PROGRAM [ARGUMENT...]
                            run a program of this machine in a virtual machine with cgroup v2 and AppArmor; with
                            --systemd its first process is systemd

demo, test and bench need root, and install missing Debian packages by name.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("cargo xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        ["build"] => {
            let programs = build::build(&Workspace::load()?, Profile::Release)?;
            println!("{}\n{}", programs.carrack.display(), programs.carrack_oci.display());
            Ok(ExitCode::SUCCESS)
        }
        ["demo", rest @ ..] => demo::run(&Workspace::load()?, rest).map(|()| ExitCode::SUCCESS),
        ["test"] => stages::run(&Workspace::load()?, &Stage::ALL),
        ["test", "--only", names] => stages::run(&Workspace::load()?, &Stage::parse_list(names)?),
        ["bench", suites @ ..] => bench::run(&Workspace::load()?, suites).map(|()| ExitCode::SUCCESS),
        ["fuzz", target] => fuzz::run(&Workspace::load()?, target, 60).map(|()| ExitCode::SUCCESS),
        ["fuzz", target, seconds] => {
            let seconds = seconds.parse().map_err(|_| Failure::new(format!("{seconds}: not a number of seconds")))?;
            fuzz::run(&Workspace::load()?, target, seconds).map(|()| ExitCode::SUCCESS)
        }
        ["vm", "run", "--systemd", rest @ ..] => run_in_vm(rest, Init::Systemd),
        ["vm", "run", rest @ ..] => run_in_vm(rest, Init::Script),
        _ => Err(Failure::new(format!("unknown arguments: {}\n\n{HELP}", words.join(" ")))),
    }
}

/// A file of this machine is copied into the guest and run there; any other word is looked up among the guest's own programs.
fn run_in_vm(words: &[&str], init: Init) -> Result<ExitCode, Failure> {
    let (seconds, command) = match words {
        ["--limit", seconds, "--", command @ ..] => {
            (seconds.parse().map_err(|_| Failure::new(format!("--limit {seconds}: not a number of seconds")))?, command)
        }
        ["--", command @ ..] => (120, command),
        _ => return Err(Failure::new(format!("vm run: unknown arguments: {}", words.join(" ")))),
    };
    let limit = Duration::from_secs(seconds);
    let [program, arguments @ ..] = command else { return Err(Failure::new("vm run: no program given")) };
    let mut argv: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let mut files = vec![];
    if Path::new(program).is_file() {
        argv = vec!["/vm/program".to_owned()];
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        files.push((PathBuf::from(program), PathBuf::from("/vm/program")));
    }
    let command = GuestCommand { name: (*program).to_owned(), argv, environment: vec![], limit };
    let guest = Guest { init, files, ..Guest::new(vec![command]) };
    let outcomes = vm::run(&Workspace::load()?, &guest, Show::Nothing)?;
    let outcome = outcomes.first().expect("one command was given above");
    print!("{}", outcome.output);
    let code = outcome.code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

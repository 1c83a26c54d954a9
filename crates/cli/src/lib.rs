//! The command line for people.
//!
//! Translates flags to requests and views to tables; the engine decides everything.

#![forbid(unsafe_code)]

mod args;
mod attach;
mod containers;
mod failure;
mod grammar;
mod human;
mod images;
mod inspect;
mod log;
mod parse;
mod ports;
mod print;
mod progress;
mod pull;
mod refusal;
mod run;
mod session;
mod system;
mod terminal;
mod warning;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use carrack_engine::{Engine, EngineConfig};
use clap::error::ErrorKind;

use crate::args::{Command, CommandLine};
use crate::failure::Failure;
use crate::print::remark;

/// Runs the daemon with an engine, on a socket; `Ok` when it was told to end.
pub type Serve = fn(Arc<Engine>, PathBuf) -> io::Result<()>;

/// Does what the command line says and returns the exit code.
pub fn main(serve: Serve) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command_line = match grammar::parse(&arguments) {
        Ok(command_line) => command_line,
        Err(error) => return refuse(&error, &arguments),
    };
    let passes_code_on = match &command_line.command {
        Command::Run(_) | Command::Exec(_) | Command::Attach(_) => true,
        Command::Start(flags) => flags.attach || flags.interactive,
        _ => false,
    };
    match dispatch(command_line, serve) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure, passes_code_on),
    }
}

fn fail(failure: &Failure, passes_code_on: bool) -> ExitCode {
    if !failure.is_silent() {
        remark!("carrack: {}", failure.chain());
    }
    ExitCode::from(failure.exit_code(passes_code_on))
}

/// Answers a command line that asks for help, or makes no sense.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        // What was asked for.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            match print::text(format_args!("{}", grammar::help(error, arguments))) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => fail(&failure, false),
            }
        }
        // Nothing was: as docker does, all commands on standard error.
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            remark!("{}", grammar::overview());
            ExitCode::SUCCESS
        }
        _ => {
            let verb = grammar::verb(arguments);
            remark!("carrack: {}", refusal::explain(error, verb));
            match verb {
                Some("run" | "exec") => ExitCode::from(failure::FAILED),
                _ => ExitCode::from(1),
            }
        }
    }
}

/// Whether a command removes what a killed pull has left. Another pull does not: it uses what is whole, and removes the rest afterwards.
fn clears_up(command: &Command) -> bool {
    match command {
        Command::Ps(_) | Command::Rm(_) | Command::Images(_) | Command::Rmi(_) | Command::Info(_) => true,
        Command::Run(_) | Command::Pull(_) | Command::Load(_) => false,
        // They are to be quick, or clear up themselves.
        Command::Logs(_) | Command::Exec(_) | Command::Stop(_) | Command::Kill(_) | Command::Start(_) => false,
        Command::Attach(_) | Command::Wait(_) | Command::Inspect(_) | Command::Tag(_) | Command::Version(_) => false,
        Command::Serve(_) | Command::Cleanup { .. } | Command::Teardown => false,
    }
}

fn dispatch(command_line: CommandLine, serve: Serve) -> Result<u8, Failure> {
    if let Command::Version(flags) = &command_line.command {
        return system::version(flags);
    }
    if !carrack_sys::rustix::process::geteuid().is_root() {
        return Err(Failure::usage(
            "this needs root: it makes namespaces, mounts and network devices (running without root is not supported yet)",
        ));
    }
    let directory = |given: Option<PathBuf>, variable: &str, default: &str| {
        given
            .or_else(|| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from))
            .unwrap_or(default.into())
    };
    let root = directory(command_line.root, "CARRACK_ROOT", EngineConfig::DEFAULT_ROOT);
    let run = directory(command_line.run, "CARRACK_RUN", EngineConfig::DEFAULT_RUN);
    let absolute =
        |path: PathBuf| std::path::absolute(&path).map_err(Failure::io(format!("resolve {}", path.display())));
    let config = EngineConfig::new(absolute(root)?, absolute(run)?).map_err(Failure::io("find the own program"))?;
    let engine = Arc::new(Engine::open(config)?);
    if !matches!(command_line.command, Command::Serve(_)) {
        warning::show();
        for failure in engine.recover_after_reboot()?.failures {
            remark!("carrack: after the reboot: {failure}");
        }
    }
    if clears_up(&command_line.command)
        && let Err(error) = engine.store().gc_after_kill()
    {
        remark!("carrack: remove what a killed pull left: {}", failure::chain(&error));
    }
    match command_line.command {
        Command::Run(flags) => run::run(&engine, *flags),
        Command::Ps(flags) => containers::ps(&engine, &flags),
        Command::Logs(flags) => containers::logs(&engine, &flags),
        Command::Exec(flags) => containers::exec(&engine, flags),
        Command::Stop(flags) => containers::stop(&engine, &flags),
        Command::Kill(flags) => containers::kill(&engine, &flags),
        Command::Start(flags) => attach::start(&engine, &flags),
        Command::Attach(flags) => attach::attach(&engine, &flags),
        Command::Rm(flags) => containers::rm(&engine, &flags),
        Command::Wait(flags) => containers::wait(&engine, &flags),
        Command::Inspect(flags) => inspect::inspect(&engine, &flags),
        Command::Pull(flags) => pull::pull(&engine, &flags),
        Command::Images(flags) => images::list(&engine, &flags),
        Command::Tag(flags) => images::tag(&engine, &flags),
        Command::Rmi(flags) => images::remove(&engine, &flags),
        Command::Info(flags) => system::info(&engine, &flags),
        Command::Version(flags) => system::version(&flags),
        Command::Serve(flags) => {
            let socket = flags.socket.unwrap_or_else(|| engine.config().run.join("carrack.sock"));
            serve(engine, socket).map_err(Failure::io("serve"))?;
            Ok(0)
        }
        Command::Cleanup { pod } => system::cleanup(&engine, &pod),
        Command::Teardown => {
            engine.teardown()?;
            Ok(0)
        }
        Command::Load(flags) => images::load(&engine, &flags.directory, &flags.name),
    }
}

//! The verbs on containers but `run`.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use carrack_engine::request::{ContainerFilter, ExecRequest};
use carrack_engine::view::{ContainerView, Phase};
use carrack_engine::{Engine, EngineError, ExecStdio, Force, RemoveOptions};
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_words::{ContainerId, Timestamp};
use serde_json::json;

use crate::args::{Exec, Format, Kill, Logs, Names, Ps, Rm, Stop};
use crate::failure::{Failure, signalled, told};
use crate::log::{self, LogError, Show};
use crate::print::{remark, say};
use crate::session::ExecEnded;
use crate::{human, parse, ports, print, session};

/// More containers than this are not worked on at the same time.
const AT_ONCE: usize = 32;

/// Does something to each named container; goes on after a failure, which is told when it happens.
pub(crate) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<String, EngineError>) -> Result<u8, Failure> {
    let mut has_failed = false;
    for name in names {
        match act(name) {
            Ok(said) => say!("{said}")?,
            Err(error) => {
                remark!("carrack: {}", told(&error));
                has_failed = true;
            }
        }
    }
    if has_failed { Err(Failure::Several) } else { Ok(0) }
}

/// As [`each`], with several at once; told in the order of the names.
fn each_at_once(names: &[String], act: impl Fn(&str) -> Result<String, EngineError> + Sync) -> Result<u8, Failure> {
    let mut has_failed = false;
    for names in names.chunks(AT_ONCE) {
        let done: Vec<Result<String, EngineError>> = thread::scope(|scope| {
            let started: Vec<_> = names.iter().map(|name| scope.spawn(|| act(name))).collect();
            started.into_iter().map(|thread| thread.join().expect("the engine does not panic")).collect()
        });
        let mut done = done.into_iter();
        match each(names, |_| done.next().expect("there is an answer for each name")) {
            Err(Failure::Several) => has_failed = true,
            other => _ = other?,
        }
    }
    if has_failed { Err(Failure::Several) } else { Ok(0) }
}

/// `carrack ps`.
pub fn ps(engine: &Engine, flags: &Ps) -> Result<u8, Failure> {
    let filter = ContainerFilter { include_single: true, include_sandboxed: true, ..ContainerFilter::default() };
    let shown = |container: &ContainerView| flags.all || !matches!(container.phase, Phase::Created | Phase::Exited(_));
    let containers: Vec<ContainerView> = engine.containers(&filter)?.into_iter().filter(shown).collect();
    let id = |container: &ContainerView| {
        if flags.no_trunc { container.id.to_string() } else { container.id.short().to_owned() }
    };
    if flags.quiet {
        containers.iter().try_for_each(|container| say!("{}", id(container)))?;
        return Ok(0);
    }
    if flags.format == Format::Json {
        for container in &containers {
            say!(
                "{}",
                json!({
                    "ID": container.id, "Names": container.name, "Image": container.request.image_name, "Command": container.args,
                    "CreatedAt": container.created_at.to_string(), "State": container.phase.name(), "Status": status(&container.phase),
                    "Ports": published(container), "Pod": container.pod, "Labels": container.labels,
                })
            )?;
        }
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = containers
        .iter()
        .map(|container| {
            let age = human::span(Timestamp::now().since(container.created_at));
            vec![
                id(container),
                human::shorten(&container.request.image_name, 40),
                command(&container.args, if flags.no_trunc { usize::MAX } else { 20 }),
                format!("{age} ago"),
                status(&container.phase),
                published(container),
                container.name.clone(),
            ]
        })
        .collect();
    let header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    print::text(format_args!("{}", human::table(&header, &rows)))?;
    Ok(0)
}

fn command(args: &[String], width: usize) -> String {
    format!("\"{}\"", human::shorten(&args.join(" "), width))
}

fn status(phase: &Phase) -> String {
    let since = |time: Timestamp| human::span(Timestamp::now().since(time));
    match phase {
        Phase::Created => "Created".into(),
        Phase::Running { started_at, .. } => format!("Up {}", since(*started_at)),
        Phase::Restarting { last } => format!("Restarting ({}) {} ago", last.code, since(last.finished_at)),
        Phase::Exited(ended) => format!("Exited ({}) {} ago", ended.code, since(ended.finished_at)),
        Phase::Unknown => "Unknown (its monitor does not answer)".into(),
    }
}

/// The ports of a container that has not ended: its end frees them.
fn published(container: &ContainerView) -> String {
    match container.phase {
        Phase::Running { .. } | Phase::Restarting { .. } | Phase::Unknown => ports::list(&container.ports),
        Phase::Created | Phase::Exited(_) => String::new(),
    }
}

/// `carrack logs`.
pub fn logs(engine: &Arc<Engine>, flags: &Logs) -> Result<u8, Failure> {
    let id = engine.find_shown_container(&flags.container)?;
    let container = engine.container(&id)?;
    let Some(path) = container.log_path else {
        return Err(Failure::usage(format!("container {} keeps no log", container.name)));
    };
    let tail = match flags.tail.as_deref() {
        None | Some("all") => None,
        Some(text) => {
            Some(text.parse().map_err(|_| Failure::usage(format!("invalid --tail {text:?}: want a number or all")))?)
        }
    };
    let show = Show { tail, timestamps: flags.timestamps };
    let failed = |error: LogError| match error {
        LogError::Read { source } => Failure::io(format!("read the log {}", path.display()))(source),
        LogError::Write { source } => Failure::output(source),
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let printed = match log::print(&path, show, &mut out, &mut err) {
        // It has not written anything yet.
        Err(LogError::Read { source }) if source.kind() == io::ErrorKind::NotFound && !flags.follow => return Ok(0),
        other => other.map_err(failed)?,
    };
    if !flags.follow {
        return Ok(0);
    }
    let (end, ended) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Failure::io("make a pipe")(errno.into()))?;
    thread::spawn({
        let engine = Arc::clone(engine);
        move || {
            // Whatever the answer: there will be no more output.
            let _ = engine.wait_container(&id);
            drop(ended);
        }
    });
    let followed = log::follow(&path, printed, show, std::os::fd::AsFd::as_fd(&end), &mut out, &mut err);
    followed.map(|()| 0).map_err(failed)
}

/// `carrack exec`.
pub fn exec(engine: &Engine, flags: Exec) -> Result<u8, Failure> {
    if flags.tty && flags.interactive && !crate::terminal::is_terminal(io::stdin()) {
        return Err(Failure::usage("the input is not a terminal: leave -t away, or run this in a terminal"));
    }
    let id = engine.find_shown_container(&flags.container)?;
    let request = ExecRequest {
        args: flags.command,
        env: flags.env.iter().filter_map(|text| parse::env(text, |name| std::env::var(name).ok())).collect(),
        working_dir: flags.workdir,
        user: flags.user,
        terminal: flags.tty,
        privileged: flags.privileged,
    };
    let failed = || Failure::io("run the command");
    if flags.tty {
        let signals = session::queue_signals().map_err(failed())?;
        let mut running = engine.exec(&id, request, ExecStdio::Terminal).map_err(Failure::start)?;
        let console = running.take_console().ok_or_else(|| Failure::usage("the monitor gave no terminal"))?;
        let exec_id = running.id().clone();
        return match session::run_exec_terminal(running, console, signals, flags.interactive)? {
            ExecEnded::Exited(exit) => Ok(exit.code() as u8),
            ExecEnded::Signalled(signal) => Ok(signalled(signal as u8)),
            ExecEnded::Detached(console) => {
                engine.detach_exec(&id, &exec_id, Some(console.as_fd()))?;
                remark!("\ndetached: the command runs on in container {} ({})", flags.container, id.short());
                Ok(0)
            }
        };
    }
    let pipes = session::pipes().map_err(failed())?;
    let running = engine.exec(&id, request, ExecStdio::Files(pipes.theirs)).map_err(Failure::start)?;
    let exit = session::run_exec(running, pipes.ours, flags.interactive)?;
    Ok(exit.code() as u8)
}

/// `carrack stop`.
pub fn stop(engine: &Engine, flags: &Stop) -> Result<u8, Failure> {
    let timeout = flags.time.map(Duration::from_secs);
    each_at_once(&flags.containers, |name| {
        let id = engine.find_shown_container(name)?;
        done_or_gone(&id, engine.stop_container(&id, timeout))?;
        Ok(name.to_owned())
    })
}

/// A container that ended and was removed between being found and being worked on is as it was to be.
fn done_or_gone(id: &ContainerId, done: Result<(), EngineError>) -> Result<(), EngineError> {
    match done {
        Err(error) if error.is_no_container(id) => Ok(()),
        other => other,
    }
}

/// `carrack kill`.
pub fn kill(engine: &Engine, flags: &Kill) -> Result<u8, Failure> {
    let signal = parse::signal(&flags.signal)?;
    each_at_once(&flags.containers, |name| {
        engine.signal_container(&engine.find_shown_container(name)?, signal)?;
        Ok(name.to_owned())
    })
}

/// `carrack rm`.
pub fn rm(engine: &Engine, flags: &Rm) -> Result<u8, Failure> {
    let force = if flags.force { Force::Yes } else { Force::No };
    each_at_once(&flags.containers, |name| {
        let id = engine.find_shown_container(name)?;
        done_or_gone(&id, engine.remove_container_with(&id, RemoveOptions { force, volumes: flags.volumes }))?;
        Ok(name.to_owned())
    })
}

/// `carrack wait`.
pub fn wait(engine: &Engine, flags: &Names) -> Result<u8, Failure> {
    let ids: Vec<ContainerId> =
        flags.containers.iter().map(|name| engine.find_shown_container(name)).collect::<Result<_, _>>()?;
    for id in &ids {
        say!("{}", engine.wait_container(id)?.code)?;
    }
    Ok(0)
}

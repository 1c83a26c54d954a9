//! `carrack run`: pull if needed, create, attach, start, pass the exit code on.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use carrack_engine::request::{
    CapabilityRequest, ContainerRequest, PodRequest, ResourceRequest, SecurityRequest, UserRequest,
};
use carrack_engine::{AttachRequest, Engine, RestartPolicy};
use carrack_words::{ContainerId, Digest};

use crate::args::Run;
use crate::attach::Foreground;
use crate::failure::Failure;
use crate::print::say;
use crate::{attach, parse, pull, session};

/// Runs a container as the flags say and returns the exit code.
pub fn run(engine: &Arc<Engine>, flags: Run) -> Result<u8, Failure> {
    let (pod, mut container) = plan(&flags)?;
    check(&flags, container.restart)?;
    container.image = pull::find_or_pull(engine, &flags.image, flags.platform.as_deref())?;
    // After the pull, which Ctrl-C shall end; before any further thread is started, since threads inherit the signal mask.
    let signals =
        if flags.detach { None } else { Some(session::queue_signals().map_err(Failure::io("receive signals"))?) };
    let id = engine.create_single(pod, container)?;
    match signals {
        None => detached(engine, &id),
        Some(signals) => {
            let attach = AttachRequest { stdin: flags.interactive, stdout: true, stderr: true, lossless: true };
            let streams = started(engine, &id, engine.start_attached(&id, attach))?;
            let foreground = Foreground { terminal: flags.tty, stdin: flags.interactive, removes: flags.rm };
            attach::stay(engine, &id, streams, signals, foreground)
        }
    }
}

fn check(flags: &Run, restart: RestartPolicy) -> Result<(), Failure> {
    if flags.tty && flags.interactive && !flags.detach && !crate::terminal::is_terminal(io::stdin()) {
        return Err(Failure::usage("the input is not a terminal: leave -t away, or run this in a terminal"));
    }
    if flags.rm && restart != RestartPolicy::No {
        return Err(Failure::usage(
            "--rm and --restart exclude each other: a container that is removed cannot start again",
        ));
    }
    Ok(())
}

/// What the flags ask for; the image's id is not known yet.
fn plan(flags: &Run) -> Result<(PodRequest, ContainerRequest), Failure> {
    let directory = std::env::current_dir().map_err(Failure::io("find the working directory"))?;
    let caller = |name: &str| std::env::var(name).ok();
    let mut env = Vec::new();
    for path in &flags.env_file {
        let bytes =
            std::fs::read(path).map_err(Failure::io(format!("read the file of --env-file {}", path.display())))?;
        let variables = parse::env_file(&bytes, caller);
        env.extend(variables.map_err(|error| Failure::usage(format!("--env-file {}, {error}", path.display())))?);
    }
    env.extend(flags.env.iter().filter_map(|text| parse::env(text, caller)));
    let mut ports = Vec::new();
    for text in &flags.publish {
        ports.extend(parse::publish(text)?);
    }
    let cpu = flags.cpus.as_deref().map(parse::cpus).transpose()?.flatten();
    let mounts = flags.volume.iter().map(|text| parse::volume(text, &directory)).collect::<Result<Vec<_>, _>>()?;
    parse::check_targets(&mounts)?;
    let pod = PodRequest {
        hostname: flags.hostname.clone(),
        network: flags.network.as_deref().map(parse::network).transpose()?.unwrap_or_default(),
        pid: carrack_engine::request::NamespaceMode::Container,
        ports,
        privileged: flags.privileged,
        ..PodRequest::default()
    };
    let container = ContainerRequest {
        name: flags.name.clone(),
        entrypoint: flags.entrypoint.as_ref().map(|program| match program.as_str() {
            "" => Vec::new(),
            program => vec![program.to_owned()],
        }),
        args: (!flags.command.is_empty()).then(|| flags.command.clone()),
        env,
        working_dir: flags.workdir.clone(),
        user: UserRequest { user: flags.user.clone(), ..UserRequest::default() },
        mounts,
        terminal: flags.tty,
        stdin: flags.interactive,
        stdin_once: flags.interactive && !flags.detach,
        resources: ResourceRequest {
            memory_bytes: flags.memory.as_deref().map(parse::memory).transpose()?.flatten(),
            cpu_quota_usec: cpu.map(|(quota, _)| quota),
            cpu_period_usec: cpu.map(|(_, period)| period),
            pids: flags.pids_limit.filter(|limit| *limit != 0),
            ..ResourceRequest::default()
        },
        security: SecurityRequest {
            capabilities: CapabilityRequest {
                add: flags.cap_add.clone(),
                drop: flags.cap_drop.clone(),
                add_ambient: Vec::new(),
            },
            privileged: flags.privileged,
            readonly_rootfs: flags.read_only,
            ..SecurityRequest::default()
        },
        labels: BTreeMap::new(),
        restart: flags.restart.as_deref().map(parse::restart).transpose()?.unwrap_or(RestartPolicy::No),
        auto_remove: flags.rm,
        ..ContainerRequest::of_image(Digest::from_sha256([0; 32]), flags.image.clone())
    };
    Ok((pod, container))
}

fn detached(engine: &Engine, id: &ContainerId) -> Result<u8, Failure> {
    started(engine, id, engine.start_container(id))?;
    say!("{id}")?;
    Ok(0)
}

/// A container whose start failed stays, as docker leaves it, unless it was to be removed.
fn started<T>(engine: &Engine, id: &ContainerId, result: Result<T, carrack_engine::EngineError>) -> Result<T, Failure> {
    result.map_err(|error| {
        let removes = engine.container(id).is_ok_and(|container| container.request.auto_remove);
        if removes && let Err(error) = engine.remove_container(id, carrack_engine::Force::Yes) {
            return Failure::from(error);
        }
        Failure::start(error)
    })
}

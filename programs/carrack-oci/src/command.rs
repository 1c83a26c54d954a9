//! The verbs: from flags to one call of the runtime, from its answer to output and exit code.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use carrack_oci_config::Process;
use carrack_runtime::{
    ChildOf, CreateOptions, CreateRequest, ExecRequest, Force, KillScope, Leave, Notifier, Pending, Rootfs, Sealed,
    StartMode, StepError, TerminalUse, begin_create, begin_exec, describe, describe_io,
};
use carrack_sys::rustix::process::{getegid, geteuid};
use carrack_sys::task::set_child_subreaper;
use carrack_words::ContainerId;

use crate::arguments::{After, Flag, Parsed, UsageError, switch, value};
use crate::foreground::Foreground;
use crate::handover::{send_handle, write_pid_file};
use crate::log::{Format, Log};
use crate::streams::{Diverted, Flows};
use crate::{checkpoint, duration, events, print, process_flags, signal_name, update_flags};

const DEFAULT_ROOT: &str = "/run/carrack-oci";
/// What a failed exec returns; callers tell it from the program's own codes by this. A command line that makes no sense returns 1 here too.
const EXEC_FAILED: u8 = 255;

const LISTEN: &str = "listen to what the container says of its readiness";
const NOTIFY: &str = "tell NOTIFY_SOCKET that the container is ready";

const GLOBAL: &[Flag] = &[
    value("root", None),
    value("log", None),
    value("log-format", None),
    switch("debug", None),
    switch("systemd-cgroup", None),
    value("rootless", None),
    value("criu", None),
    switch("version", Some('v')),
    switch("help", Some('h')),
];
const CREATE: &[Flag] = &[
    value("bundle", Some('b')),
    value("console-socket", None),
    value("pidfd-socket", None),
    value("pid-file", None),
    switch("no-pivot", None),
    switch("no-new-keyring", None),
    value("preserve-fds", None),
];
const RUN: &[Flag] = &[
    value("bundle", Some('b')),
    value("console-socket", None),
    value("pidfd-socket", None),
    value("pid-file", None),
    switch("no-pivot", None),
    switch("no-new-keyring", None),
    value("preserve-fds", None),
    switch("detach", Some('d')),
    switch("keep", None),
    switch("no-subreaper", None),
];
const EXEC: &[Flag] = &[
    value("console-socket", None),
    value("pidfd-socket", None),
    value("cwd", None),
    value("env", Some('e')),
    switch("tty", Some('t')),
    value("user", Some('u')),
    value("additional-gids", Some('g')),
    value("process", Some('p')),
    switch("detach", Some('d')),
    value("pid-file", None),
    value("process-label", None),
    value("apparmor", None),
    switch("no-new-privs", None),
    value("cap", Some('c')),
    value("preserve-fds", None),
    value("cgroup", None),
    switch("ignore-paused", None),
];
const KILL: &[Flag] = &[switch("all", Some('a'))];
const DELETE: &[Flag] = &[switch("force", Some('f'))];
const LIST: &[Flag] = &[value("format", Some('f')), switch("quiet", Some('q'))];
const PS: &[Flag] = &[value("format", Some('f'))];
const EVENTS: &[Flag] = &[value("interval", None), switch("stats", None)];
const SPEC: &[Flag] = &[value("bundle", Some('b')), switch("rootless", None)];

const USAGE: &str =
    "usage: carrack-oci [--root DIR] [--log FILE] [--log-format text|json] [--debug] VERB [FLAGS] [ID] [ARGUMENTS]

verbs:
  create    create a container           run       create and start it
  start     run a created container      exec      run one more process in it
  state     print its state              list      list all containers
  kill      send it a signal             delete    remove it
  pause     freeze its processes         resume    let them go on
  ps        list its processes           update    change its limits
  events    follow what it uses          spec      write an example config.json
  features  print what this runtime has
";

/// Why a command fails.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
    is_usage: bool,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        failed(&error)
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self { message: error.0, code: 1, is_usage: true }
    }
}

fn failure(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), code: 1, is_usage: false }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    failure(describe(error))
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| failure(format!("{what}: {}", describe_io(&error)))
}

/// What holds for every verb.
struct Global {
    root: PathBuf,
    log: Log,
    /// Whether new containers get a scope of systemd's. Those that exist remember it.
    is_systemd_cgroup: bool,
}

/// Runs a command line; the answer is the exit code.
pub fn run(arguments: &[String]) -> u8 {
    let (flags, verb, rest) = match split(arguments) {
        Ok(split) => split,
        Err(error) => return report(&Log::default(), &error.into()),
    };
    let mut log =
        Log { file: flags.value("log").map(PathBuf::from), is_debug: flags.is_set("debug"), format: Format::Text };
    match flags.value("log-format") {
        None | Some("text") => {}
        Some("json") => log.format = Format::Json,
        Some(other) => return report(&log, &failure(format!("unknown log-format {other:?}"))),
    }
    let said = match verb.as_str() {
        _ if flags.is_set("version") => Some(print::version()),
        _ if flags.is_set("help") => Some(USAGE.to_owned()),
        "" | "help" => Some(USAGE.to_owned()),
        _ => None,
    };
    if let Some(text) = said {
        return write_out(&text).unwrap_or_else(|failure| report(&log, &failure));
    }
    let outcome = check_global(&flags).and_then(|root| {
        let global = Global { root, log: log.clone(), is_systemd_cgroup: flags.is_set("systemd-cgroup") };
        log.debug(&format!("{verb} {}", rest.join(" ")));
        run_verb(&global, &verb, &rest)
    });
    match outcome {
        Ok(code) => code,
        Err(failure) => report(&log, &failure),
    }
}

fn report(log: &Log, failure: &Failure) -> u8 {
    if failure.is_usage {
        // The message is what counts, and follows.
        let _ = write_out(USAGE);
    }
    log.error(&failure.message);
    failure.code
}

/// Global flags, the verb, and what follows it.
fn split(arguments: &[String]) -> Result<(Parsed, String, Vec<String>), UsageError> {
    let parsed = Parsed::parse(arguments, GLOBAL, After::Rest)?;
    let mut words = parsed.positionals.clone().into_iter();
    let verb = words.next().unwrap_or_default();
    Ok((parsed, verb, words.collect()))
}

fn check_global(flags: &Parsed) -> Result<PathBuf, Failure> {
    match flags.value("rootless") {
        None | Some("auto" | "false") => {}
        Some(other) => return Err(failure(format!("--rootless {other}: rootless containers are not supported here"))),
    }
    let root = Path::new(flags.value("root").unwrap_or(DEFAULT_ROOT));
    let root = std::path::absolute(root).map_err(system("make --root absolute"))?;
    if root == Path::new("/") {
        return Err(failure("--root must not be /"));
    }
    Ok(root)
}

fn run_verb(global: &Global, verb: &str, rest: &[String]) -> Result<u8, Failure> {
    match verb {
        "create" => create(global, &Parsed::parse(rest, CREATE, After::Flags)?),
        "run" => run_container(global, &Parsed::parse(rest, RUN, After::Flags)?),
        "start" => {
            let id = id_only(&Parsed::parse(rest, &[], After::Flags)?, "start")?;
            start(global, &id)
        }
        "exec" => exec(global, &Parsed::parse(rest, EXEC, After::Rest)?),
        "state" => state(global, &id_only(&Parsed::parse(rest, &[], After::Flags)?, "state")?),
        "kill" => kill(global, &Parsed::parse(rest, KILL, After::Flags)?),
        "delete" => delete(global, &Parsed::parse(rest, DELETE, After::Flags)?),
        "list" => list(global, &Parsed::parse(rest, LIST, After::Flags)?),
        "ps" => ps(global, &Parsed::parse(rest, PS, After::Rest)?),
        "pause" => {
            let id = id_only(&Parsed::parse(rest, &[], After::Flags)?, "pause")?;
            carrack_runtime::pause(&global.root, &id).map_err(|error| failed(&error)).map(|()| 0)
        }
        "resume" => {
            let id = id_only(&Parsed::parse(rest, &[], After::Flags)?, "resume")?;
            carrack_runtime::resume(&global.root, &id).map_err(|error| failed(&error)).map(|()| 0)
        }
        "features" => print_json(&print::features()),
        "spec" => spec(&Parsed::parse(rest, SPEC, After::Flags)?),
        "update" => update(global, &Parsed::parse(rest, update_flags::FLAGS, After::Flags)?),
        "events" => events(global, &Parsed::parse(rest, EVENTS, After::Flags)?),
        "checkpoint" => {
            let id = id_only(&Parsed::parse(rest, checkpoint::CHECKPOINT, After::Flags)?, "checkpoint")?;
            carrack_runtime::StateDir::open(&global.root, &id).map_err(|error| failed(&error))?;
            Err(failure(checkpoint::refusal(verb)))
        }
        "restore" => {
            id_only(&Parsed::parse(rest, checkpoint::RESTORE, After::Flags)?, "restore")?;
            Err(failure(checkpoint::refusal(verb)))
        }
        other => Err(UsageError(format!("unknown verb {other:?}")).into()),
    }
}

fn parse_id(text: &str) -> Result<ContainerId, Failure> {
    ContainerId::new(text).map_err(|_| failure(format!("invalid container ID format: {text:?}")))
}

fn id_only(parsed: &Parsed, verb: &str) -> Result<ContainerId, Failure> {
    match parsed.positionals.as_slice() {
        [id] => parse_id(id),
        _ => Err(UsageError(format!("{verb:?} requires exactly 1 argument")).into()),
    }
}

/// Before anything of a container is touched, this program runs from a copy that no container can write to.
fn seal() -> Result<Sealed, Failure> {
    Sealed::enter().map_err(|error| failed(&error))
}

fn create_request(global: &Global, flags: &Parsed, verb: &str) -> Result<CreateRequest, Failure> {
    let id = id_only(flags, verb)?;
    let bundle = std::path::absolute(flags.value("bundle").unwrap_or(".")).map_err(system("make --bundle absolute"))?;
    Ok(CreateRequest {
        id,
        bundle,
        state_root: global.root.clone(),
        rootfs: Rootfs::Config,
        join: Vec::new(),
        no_new_keyring: flags.is_set("no-new-keyring"),
        preserve_fds: preserve_fds(flags, listen_fds())?,
        listen_fds: listen_fds(),
        notify: supervisor().is_some(),
        systemd_cgroup: global.is_systemd_cgroup,
    })
}

/// How many sockets from 3 on are handed to us (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") == Some(std::process::id()) { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}

/// The socket of whoever wants to hear that the container is ready.
fn supervisor() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|socket| !socket.is_empty())
}

fn notifier(global: &Global, id: &ContainerId) -> Result<Option<Notifier>, Failure> {
    let Some(supervisor) = supervisor() else { return Ok(None) };
    let state = carrack_runtime::StateDir::open(&global.root, id).map_err(|error| failed(&error))?;
    Notifier::bind(&state, &supervisor).map_err(system(LISTEN))
}

fn start(global: &Global, id: &ContainerId) -> Result<u8, Failure> {
    let notifier = carrack_runtime::start_after(&global.root, id, |state| match supervisor() {
        Some(supervisor) => {
            Notifier::bind(state, &supervisor).map_err(|source| StepError::Failed { doing: LISTEN.into(), source })
        }
        None => Ok(None),
    });
    let Some(notifier) = notifier.map_err(|error| failed(&error))? else { return Ok(0) };
    let state = carrack_runtime::StateDir::open(&global.root, id).map_err(|error| failed(&error))?;
    match state.read().map_err(|error| failed(&error))?.and_then(|record| record.init) {
        Some(init) => notifier.wait(init).map_err(system(NOTIFY)).map(|()| 0),
        None => Ok(0),
    }
}

/// How many handles from 3 on the caller gives to the program, beside the first so many of them. Each must be open, or one of our own would take its
/// number, and go in its place.
fn preserve_fds(flags: &Parsed, first: u32) -> Result<u32, Failure> {
    let count: u32 = first.saturating_add(flags.number("preserve-fds")?.unwrap_or(0));
    match (3..).take(count as usize).find(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_err()) {
        None => Ok(count),
        Some(number) if number < 3 + first => Err(failure(format!("LISTEN_FDS={first}: handle {number} is not open"))),
        Some(number) => Err(failure(format!("--preserve-fds {}: handle {number} is not open", count - first))),
    }
}

fn leave(flags: &Parsed) -> Leave {
    if flags.is_set("no-pivot") { Leave::MoveAndChroot } else { Leave::Pivot }
}

fn terminal_use(flags: &Parsed, is_detached: bool) -> TerminalUse {
    match (flags.value("console-socket"), is_detached) {
        (Some(_), _) => TerminalUse::Required,
        (None, true) => TerminalUse::Impossible,
        (None, false) => TerminalUse::Either,
    }
}

/// Gives callers what they asked for, before the program runs.
fn hand_over(
    flags: &Parsed,
    pid: i32,
    pidfd: Option<&std::os::fd::OwnedFd>,
    console: Option<&std::os::fd::OwnedFd>,
) -> Result<(), Failure> {
    if let (Some(socket), Some(console)) = (flags.value("console-socket"), console) {
        send_handle(Path::new(socket), "/dev/ptmx", console)
            .map_err(system("send the terminal to --console-socket"))?;
    }
    if let (Some(socket), Some(pidfd)) = (flags.value("pidfd-socket"), pidfd) {
        send_handle(Path::new(socket), "pidfd", pidfd).map_err(system("send the pidfd to --pidfd-socket"))?;
    }
    if let Some(path) = flags.value("pid-file") {
        write_pid_file(Path::new(path), pid).map_err(system("write --pid-file"))?;
    }
    Ok(())
}

fn warn_all(global: &Global, warnings: &[String]) {
    warnings.iter().for_each(|warning| global.log.warning(warning));
}

fn create(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let request = create_request(global, flags, "create")?;
    let sealed = seal()?;
    let options = CreateOptions {
        child_of: ChildOf::Caller,
        start: StartMode::Wait,
        leave: leave(flags),
        terminal: terminal_use(flags, true),
    };
    let pending = begin_create(&request, options).map_err(|error| failed(&error))?;
    warn_all(global, &pending.warnings);
    hand_over(flags, pending.process.pid, pending.pidfd(), pending.console.as_ref())?;
    pending.finish(|| drop(sealed)).map_err(|error| failed(&error))?;
    Ok(0)
}

fn run_container(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let request = create_request(global, flags, "run")?;
    let is_detached = flags.is_set("detach");
    let sealed = seal()?;
    if !flags.is_set("no-subreaper") && !is_detached {
        set_child_subreaper(true).map_err(system("become a subreaper"))?;
    }
    let foreground = if is_detached { None } else { Some(Foreground::prepare().map_err(system("collect signals"))?) };
    let options = CreateOptions {
        child_of: ChildOf::Caller,
        start: StartMode::Now,
        leave: leave(flags),
        terminal: terminal_use(flags, is_detached),
    };
    // Whether there is a terminal is known only afterwards; then the pipes go unused.
    let diverted = divert(!is_detached)?;
    let pending = begin_create(&request, options).map_err(|error| failed(&error))?;
    let flows = restore(diverted)?;
    let flows = if pending.console.is_some() { Flows::default() } else { flows };
    warn_all(global, &pending.warnings);
    hand_over(flags, pending.process.pid, pending.pidfd(), pending.console.as_ref())?;
    let notifier = notifier(global, &request.id)?;
    match foreground {
        Some(mut foreground) => {
            foreground.notifier = notifier;
            stay(global, flags, pending, foreground, flows, sealed)
        }
        None => {
            let created = pending.finish(|| drop(sealed)).map_err(|error| failed(&error))?;
            carrack_runtime::run_poststart(&created.record).map_err(|error| failed(&error))?;
            if let Some(notifier) = notifier {
                notifier.wait(created.process).map_err(system(NOTIFY))?;
            }
            Ok(0)
        }
    }
}

fn divert(is_wanted: bool) -> Result<Option<Diverted>, Failure> {
    is_wanted.then(Diverted::divert).transpose().map_err(system("make pipes for the standard streams"))
}

fn restore(diverted: Option<Diverted>) -> Result<Flows, Failure> {
    let flows = diverted.map(Diverted::restore).transpose().map_err(system("take the standard streams back"))?;
    Ok(flows.unwrap_or_default())
}

/// The rest of a `run` in the foreground: until the program ends, and the container is gone.
fn stay(
    global: &Global,
    flags: &Parsed,
    mut pending: Pending,
    foreground: Foreground,
    flows: Flows,
    sealed: Sealed,
) -> Result<u8, Failure> {
    // A terminal that went to a socket is somebody else's to copy.
    let console = pending.console.take().filter(|_| flags.value("console-socket").is_none());
    let created = pending.finish(|| drop(sealed)).map_err(|error| failed(&error))?;
    let hooks = carrack_runtime::run_poststart(&created.record);
    let warn = |text: &str| global.log.warning(text);
    let exit = match foreground.wait(created.process.pid, &created.pidfd, console.as_ref(), flows, &warn) {
        Ok(exit) => exit,
        // Nobody would wait for it any more.
        Err(error) => {
            let _ = carrack_runtime::delete(&global.root, &created.record.id, Force::Yes);
            return Err(system("wait for the container")(error));
        }
    };
    if !flags.is_set("keep") {
        for failure in created.delete_ended().map_err(|error| failed(&error))? {
            global.log.warning(&describe(&failure));
        }
    }
    hooks.map_err(|error| failed(&error))?;
    Ok(exit.code() as u8)
}

fn exec(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let inner = || -> Result<u8, Failure> {
        let (id, command) = match flags.positionals.split_first() {
            Some((id, command)) => (parse_id(id)?, command),
            None => return Err(UsageError("\"exec\" requires a minimum of 1 argument".into()).into()),
        };
        preserve_fds(flags, 0)?;
        process_flags::additional_gids(flags)?;
        let sealed = seal()?;
        exec_sealed(global, flags, id, command, sealed)
    };
    inner().map_err(|failure| if failure.is_usage { failure } else { Failure { code: EXEC_FAILED, ..failure } })
}

fn exec_sealed(
    global: &Global,
    flags: &Parsed,
    id: ContainerId,
    command: &[String],
    sealed: Sealed,
) -> Result<u8, Failure> {
    let process = exec_process(global, flags, &id, command)?;
    let is_detached = flags.is_set("detach");
    let has_terminal = process.terminal;
    match (terminal_use(flags, is_detached), has_terminal) {
        (TerminalUse::Required, false) => {
            return Err(failure("cannot use console socket if runc will not detach or allocate tty"));
        }
        (TerminalUse::Impossible, true) => {
            return Err(failure("cannot allocate tty if runc will detach without setting console socket"));
        }
        _ => {}
    }
    if !is_detached {
        set_child_subreaper(true).map_err(system("become a subreaper"))?;
    }
    let foreground = if is_detached { None } else { Some(Foreground::prepare().map_err(system("collect signals"))?) };
    let request = ExecRequest {
        id,
        state_root: global.root.clone(),
        process,
        ignore_paused: flags.is_set("ignore-paused"),
        sub_groups: process_flags::sub_groups(&flags.all("cgroup")).map_err(failure)?,
        preserve_fds: preserve_fds(flags, 0)?,
    };
    let diverted = divert(!is_detached && !has_terminal)?;
    let mut pending = begin_exec(&request, ChildOf::Caller).map_err(|error| failed(&error))?;
    let flows = restore(diverted)?;
    warn_all(global, &pending.warnings);
    let pid = pending.process.pid;
    hand_over(flags, pid, pending.pidfd(), pending.console.as_ref())?;
    let console = pending.console.take().filter(|_| flags.value("console-socket").is_none());
    let pidfd = pending.finish(|| drop(sealed)).map_err(|error| failed(&error))?;
    match foreground {
        None => Ok(0),
        Some(foreground) => {
            let exit = foreground
                .wait(pid, &pidfd, console.as_ref(), flows, &|text| global.log.warning(text))
                .map_err(system("wait for the process"))?;
            Ok(exit.code() as u8)
        }
    }
}

fn exec_process(global: &Global, flags: &Parsed, id: &ContainerId, command: &[String]) -> Result<Process, Failure> {
    if let Some(file) = flags.value("process") {
        return parse_file(file);
    }
    let directory = carrack_runtime::StateDir::open(&global.root, id).map_err(|error| failed(&error))?;
    let record =
        directory.read().map_err(|error| failed(&error))?.ok_or_else(|| failure("container does not exist"))?;
    let process = carrack_runtime::process_of_bundle(&record).map_err(system("read the process of the bundle"))?;
    process_flags::apply(process, flags, command).map_err(failure)
}

fn state(global: &Global, id: &ContainerId) -> Result<u8, Failure> {
    let state = carrack_runtime::state(&global.root, id).map_err(|error| failed(&error))?;
    print_json(&state)
}

fn print_json<T: serde::Serialize>(value: &T) -> Result<u8, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| failure(error.to_string()))?;
    write_out(&(text + "\n"))
}

/// A reader that goes away early is no failure of ours to shout about, but one to return.
fn write_out(text: &str) -> Result<u8, Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(system("write the answer"))?;
    Ok(0)
}

fn kill(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let (id, signal) = match flags.positionals.as_slice() {
        [id] => (parse_id(id)?, "SIGTERM"),
        [id, signal] => (parse_id(id)?, signal.as_str()),
        _ => return Err(UsageError("\"kill\" requires 1 or 2 arguments".into()).into()),
    };
    let Some(number) = signal_name::parse(signal) else {
        // What is said of a container that does not exist goes before.
        carrack_runtime::StateDir::open(&global.root, &id).map_err(|error| failed(&error))?;
        return Err(failure(format!("unknown signal {signal:?}")));
    };
    let scope = if flags.is_set("all") { KillScope::All } else { KillScope::Init };
    carrack_runtime::kill(&global.root, &id, number, scope).map_err(|error| failed(&error)).map(|()| 0)
}

fn update(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let id = id_only(flags, "update")?;
    // What is said of a container that does not exist goes before what is wrong with the limits.
    carrack_runtime::StateDir::open(&global.root, &id).map_err(|error| failed(&error))?;
    let resources = match flags.value("resources") {
        Some(file) => parse_file(file)?,
        None => update_flags::resources(flags).map_err(failure)?,
    };
    if let Some(warning) = update_flags::ignored(&resources) {
        global.log.warning(warning);
    }
    update_flags::refuse_unoffered(flags).map_err(failure)?;
    carrack_runtime::update(&global.root, &id, resources).map_err(|error| failed(&error)).map(|()| 0)
}

fn events(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let id = id_only(flags, "events")?;
    let text = flags.value("interval").unwrap_or("5s");
    let interval = duration::parse(text)
        .ok_or_else(|| UsageError(format!("invalid value {text:?} for flag -interval: time: invalid duration")))?;
    if interval.is_zero() {
        return Err(failure("duration interval must be greater than 0"));
    }
    let living = carrack_runtime::living(&global.root, &id).map_err(|error| failed(&error))?;
    let Some((group, init)) = living else {
        return Err(failure(format!("container with id {id} is not running")));
    };
    if flags.is_set("stats") {
        return write_out(&events::stats(&id, &group));
    }
    let watch = events::Watch::open(&group, init).map_err(|error| failed(&error))?;
    watch.tell_all(&id, interval, |line| write_out(line).map(|_| ()))?;
    Ok(0)
}

/// A JSON file, or `-` for standard input.
fn parse_file<T: serde::de::DeserializeOwned>(file: &str) -> Result<T, Failure> {
    let mut text = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
    };
    read.map_err(|error| failure(format!("open {file}: {}", describe_io(&error))))?;
    serde_json::from_slice(&text).map_err(|error| failure(format!("parse {file}: {error}")))
}

fn delete(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let id = id_only(flags, "delete")?;
    let force = if flags.is_set("force") { Force::Yes } else { Force::No };
    let hooks = carrack_runtime::delete(&global.root, &id, force).map_err(|error| failed(&error))?;
    hooks.iter().for_each(|failure| global.log.warning(&describe(failure)));
    Ok(0)
}

fn list(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let carrack_runtime::Listing { mut states, failures } =
        carrack_runtime::list(&global.root).map_err(|error| failed(&error))?;
    for (id, failure) in &failures {
        global.log.warning(&format!("load container {id}: {}", describe(failure)));
    }
    if flags.is_set("quiet") {
        return write_out(&states.iter().map(|state| format!("{}\n", state.id)).collect::<String>());
    }
    for state in &mut states {
        state.owner = Some(owner_of(&global.root.join(&state.id)));
    }
    match flags.value("format").unwrap_or("table") {
        "table" => write_out(&print::list(&states)),
        // Go prints an empty list so, and callers written for it expect that.
        "json" if states.is_empty() => write_out("null\n"),
        "json" => write_out(&(serde_json::to_string(&states).map_err(|error| failure(error.to_string()))? + "\n")),
        other => Err(failure(format!("invalid format option {other:?}"))),
    }
}

/// The owner's name from the host's own passwd(5), or `#number`.
fn owner_of(directory: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(uid) = std::fs::metadata(directory).map(|metadata| metadata.uid()) else { return String::new() };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

fn ps(global: &Global, flags: &Parsed) -> Result<u8, Failure> {
    let Some((id, options)) = flags.positionals.split_first() else {
        return Err(UsageError("\"ps\" requires a minimum of 1 argument".into()).into());
    };
    let id = parse_id(id)?;
    let pids = carrack_runtime::processes(&global.root, &id).map_err(|error| failed(&error))?;
    match flags.value("format").unwrap_or("table") {
        // As for `list`.
        "json" if pids.is_empty() => write_out("null\n"),
        "json" => write_out(&format!("{}\n", serde_json::Value::from(pids))),
        "table" => write_out(&filter_ps(&run_ps(options)?, &pids)?),
        other => Err(failure(format!("invalid format option {other:?}"))),
    }
}

fn run_ps(options: &[String]) -> Result<String, Failure> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = std::process::Command::new("ps").args(options).output().map_err(system("run ps"))?;
    if !output.status.success() {
        return Err(failure(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header and the lines of the container's processes.
fn filter_ps(text: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| failure("couldn't find PID field in ps output"))?;
    let mut answer = format!("{header}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|text| text.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            answer += line;
            answer.push('\n');
        }
    }
    Ok(answer)
}

fn spec(flags: &Parsed) -> Result<u8, Failure> {
    if !flags.positionals.is_empty() {
        return Err(UsageError("\"spec\" requires exactly 0 arguments".into()).into());
    }
    let config = match flags.is_set("rootless") {
        false => print::EXAMPLE_CONFIG.to_owned(),
        true => print::rootless_config(geteuid().as_raw(), getegid().as_raw()),
    };
    let bundle = Path::new(flags.value("bundle").unwrap_or("."));
    let failed =
        |doing: &str, error: &std::io::Error| failure(format!("{doing} {}: {}", bundle.display(), describe_io(error)));
    match std::fs::File::create_new(bundle.join("config.json")) {
        // The words are runc's.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(failure("File config.json exists. Remove it first"))
        }
        Err(error) => Err(failed("create config.json in", &error)),
        Ok(mut file) => file.write_all(config.as_bytes()).map_err(|error| failed("write config.json in", &error)),
    }?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_flags_end_at_the_verb() {
        let words: Vec<_> = "--root /r --log-format=json exec -t c ls -l".split(' ').map(str::to_owned).collect();
        let (flags, verb, rest) = split(&words).unwrap();
        assert_eq!((flags.value("root"), verb.as_str()), (Some("/r"), "exec"));
        assert_eq!(rest, ["-t", "c", "ls", "-l"]);
    }

    #[test]
    fn processes_of_others_are_left_out() {
        let text = "UID PID CMD\nroot 1 init\nroot 22 sh\n";
        assert_eq!(filter_ps(text, &[22]).unwrap(), "UID PID CMD\nroot 22 sh\n");
        assert!(filter_ps("CMD\n", &[1]).is_err());
    }
}

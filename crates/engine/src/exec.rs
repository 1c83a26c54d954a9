//! Further programs in running containers.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use carrack_monitor::client::ClientError;
use carrack_monitor_proto::{ExecRequest as MonitorExec, Request, Response};
use carrack_oci_config::{LinuxCapabilities, Process, Spec, User};
use carrack_rooted::Root;
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use carrack_sys::rustix::pipe::{PipeFlags, pipe_with};
use carrack_words::{ContainerId, ExecId, ProcessId};

use crate::container::{not_running, start_time};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::link::ExecSession;
use crate::names;
use crate::request::{ExecRequest, UserRequest};
use crate::spec::plan_env;
use crate::user::Accounts;
use crate::view::{ExecOutput, Phase};

/// Where the standard streams of an exec lead.
#[derive(Debug)]
pub enum ExecStdio {
    /// Standard input, output and error of the program.
    Files([OwnedFd; 3]),
    /// A new terminal; [`ExecSession::take_console`] gives the controlling side.
    Terminal,
}

impl Engine {
    /// Runs a program in a running container, with the container's rights and limits. It is killed when the session is dropped before its end.
    pub fn exec(&self, id: &ContainerId, request: ExecRequest, stdio: ExecStdio) -> Result<ExecSession, EngineError> {
        let record = self.containers_table().get(id)?.record;
        let init = match self.observe(&record)? {
            Phase::Running { process, .. } => process,
            phase => return Err(not_running(id, &phase)),
        };
        let text = self.resolved_config(id)?.unwrap_or_default();
        let spec = Spec::from_json(text.as_bytes()).map_err(|source| EngineError::Damaged {
            what: "container",
            id: id.to_string(),
            source,
        })?;
        let process = self.plan_exec(spec.process.unwrap_or_default(), request, init)?;
        let exec_id = ExecId::new(names::random_hex()).expect("hexadecimal digits are legal in ids");
        let request =
            Request::Exec(Box::new(MonitorExec { id: id.clone(), exec_id, process, kill_on_disconnect: true }));
        let files = match stdio {
            ExecStdio::Files(files) => Vec::from(files),
            ExecStdio::Terminal => Vec::new(),
        };
        match ExecSession::begin(self.link(&record.pod)?, &request, &files) {
            Err(ClientError::Refused { kind, message }) => {
                Err(EngineError::Program { container: id.short().to_owned(), kind, message })
            }
            other => Ok(other?),
        }
    }

    /// Lets a program go on that [`Engine::exec`] runs, though its session ends. Its terminal's controlling side goes to the monitor, which throws
    /// away what comes from it.
    pub fn detach_exec(
        &self,
        id: &ContainerId,
        exec: &ExecId,
        console: Option<BorrowedFd<'_>>,
    ) -> Result<(), EngineError> {
        let record = self.containers_table().get(id)?.record;
        let request = Request::ExecDetach { exec_id: exec.clone() };
        match self.link(&record.pod)?.call_with_handles(&request, console.as_slice())? {
            Response::Done => Ok(()),
            other => Err(ClientError::other_answer(&other).into()),
        }
    }

    fn plan_exec(&self, base: Process, request: ExecRequest, init: ProcessId) -> Result<Process, EngineError> {
        if request.args.first().is_none_or(String::is_empty) {
            return Err(EngineError::Invalid { message: "no command to execute was given".into() });
        }
        let mut process = Process { terminal: request.terminal, args: request.args, console_size: None, ..base };
        let mut changes: Vec<String> = Vec::new();
        if request.terminal {
            changes.push("TERM=xterm".into());
        }
        if let Some(user) = request.user {
            let wanted = UserRequest { user: Some(user), ..UserRequest::default() };
            let resolved = accounts_of(init)?.resolve(&wanted, "")?;
            process.user = User {
                uid: resolved.ids.uid,
                gid: resolved.ids.gid,
                additional_gids: resolved.ids.groups,
                umask: process.user.umask,
                ..User::default()
            };
            changes.push(format!("HOME={}", resolved.home));
        }
        process.env = plan_env(&[&process.env, &changes, &request.env])?;
        if let Some(directory) = request.working_dir {
            process.cwd = directory;
        }
        if request.privileged {
            let all: Vec<String> = self.facts().capabilities.iter().map(|name| format!("CAP_{name}")).collect();
            process.capabilities = Some(LinuxCapabilities {
                bounding: all.clone(),
                effective: all.clone(),
                permitted: all,
                ..LinuxCapabilities::default()
            });
        }
        Ok(process)
    }

    /// Runs a program to its end and collects what it writes, each stream up to `cap_bytes`; the rest is read and thrown away. After the
    /// timeout it is killed with all that it started, and the error's kind is [`carrack_words::Kind::Deadline`].
    pub fn exec_sync(
        &self,
        id: &ContainerId,
        request: ExecRequest,
        timeout: Option<Duration>,
        cap_bytes: usize,
    ) -> Result<ExecOutput, EngineError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let command = request.args.join(" ");
        let pipe_failed = |errno: Errno| EngineError::io("make pipes for", id.as_str())(errno.into());
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(pipe_failed)?;
        let (err, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(pipe_failed)?;
        // The program could read its own output back: we must not wait for what is gone.
        for end in [&out, &err] {
            ioctl_fionbio(end, true).map_err(pipe_failed)?;
        }
        let null = File::open("/dev/null").map_err(EngineError::io("open", "/dev/null"))?;
        let session = self.exec(id, request, ExecStdio::Files([null.into(), stdout, stderr]))?;
        let mut streams = [Capture::new(out, cap_bytes), Capture::new(err, cap_bytes)];
        let failed = |source| EngineError::io("run a command in", id.as_str())(source);
        let has_ended = collect(&mut streams, &session, deadline).map_err(failed)?;
        if !has_ended {
            // The monitor kills what it runs for us when we hang up.
            drop(session);
            return Err(EngineError::TimedOut {
                container: id.short().to_owned(),
                command,
                seconds: timeout.unwrap_or_default().as_secs(),
            });
        }
        let exit = session.wait()?;
        let [stdout, stderr] = streams.map(|stream| stream.kept);
        Ok(ExecOutput { stdout, stderr, exit })
    }
}

/// The passwd and group files that a running container sees.
fn accounts_of(init: ProcessId) -> Result<Accounts, EngineError> {
    let path = format!("/proc/{}/root", init.pid);
    let root = Root::open_host(path.as_ref())
        .map_err(|error| EngineError::io("open", &path)(io::Error::new(error.io().kind(), error)))?;
    // The handle is of the right process if the process is still the same afterwards.
    match start_time(init.pid) == Some(init.start_time) {
        true => Ok(Accounts::load(&root)?),
        false => Err(EngineError::io("open", path)(io::ErrorKind::NotFound.into())),
    }
}

struct Capture {
    file: Option<File>,
    kept: Vec<u8>,
    cap_bytes: usize,
}

impl Capture {
    fn new(pipe: OwnedFd, cap_bytes: usize) -> Self {
        Self { file: Some(pipe.into()), kept: Vec::new(), cap_bytes }
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = [0; 16 << 10];
        match file.read(&mut bytes) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
            Ok(0) => self.file = None,
            Ok(count) => {
                let room = self.cap_bytes.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&bytes[..count.min(room)]);
            }
        }
        Ok(())
    }

    /// Reads what is waiting now, and no more.
    fn drain(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let waiting = ioctl_fionread(&file)?;
        let mut bytes = Vec::new();
        match file.take(waiting).read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        bytes.truncate(self.cap_bytes.saturating_sub(self.kept.len()));
        self.kept.append(&mut bytes);
        Ok(())
    }
}

/// Reads both streams until the program has ended, and then what is still waiting; false if the deadline came first. A process that was left
/// behind with the pipes open is not waited for.
fn collect(streams: &mut [Capture; 2], session: &ExecSession, deadline: Option<Instant>) -> io::Result<bool> {
    let was_over = session.has_ended();
    loop {
        let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            _ if was_over => Some(Duration::ZERO),
            Some(left) if left.is_zero() => return Ok(false),
            other => other,
        };
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) });
        let mut set = vec![PollFd::new(session, PollFlags::IN)];
        let open: Vec<usize> = (0..2).filter(|index| streams[*index].file.is_some()).collect();
        for &index in &open {
            if let Some(file) = &streams[index].file {
                set.push(PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN));
            }
        }
        match poll(&mut set, left.as_ref()) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = set.iter().map(|entry| !entry.revents().is_empty()).collect();
        drop(set);
        if was_over || ready[0] {
            // What is in the pipes now is the program's; whoever it left behind may write for ever.
            for stream in streams.iter_mut() {
                stream.drain()?;
            }
            return Ok(true);
        }
        for (&index, _) in open.iter().zip(&ready[1..]).filter(|(_, is_ready)| **is_ready) {
            streams[index].read()?;
        }
    }
}

//! Runs hooks: programs at points of a container's life (config.md, "POSIX-platform Hooks").
//!
//! A hook gets the state as JSON on its standard input, its own environment and nothing of the container's (CVE-2025-23266), and a
//! working directory that we choose. What it prints is shown if it fails.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carrack_oci_config::{Hook, State};
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::fs::{MemfdFlags, memfd_create};
use carrack_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use carrack_words::Kind;

/// Of what a failed hook printed, this much is shown.
const SHOWN_BYTES: usize = 2048;

/// A hook failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be started or watched.
    #[error("error running {point} hook #{index}: {path}")]
    Run {
        /// The point of life.
        point: &'static str,
        /// Its number, from 0.
        index: usize,
        /// The program.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It ended badly.
    #[error("error running {point} hook #{index}: {path}: {status}, output: {output}")]
    Failed {
        /// The point of life.
        point: &'static str,
        /// Its number, from 0.
        index: usize,
        /// The program.
        path: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
}

impl HookError {
    /// Its class.
    pub fn kind(&self) -> Kind {
        Kind::Precondition
    }
}

/// Runs the hooks of one point in order, and stops at the first that fails.
pub fn run_hooks(point: &'static str, hooks: &[Hook], state: &State, cwd: &Path) -> Result<(), HookError> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| run_hook(point, index, hook, state, cwd))
}

/// Runs all hooks of one point, also after one failed, and returns the failures.
pub fn run_all_hooks(point: &'static str, hooks: &[Hook], state: &State, cwd: &Path) -> Vec<HookError> {
    hooks.iter().enumerate().filter_map(|(index, hook)| run_hook(point, index, hook, state, cwd).err()).collect()
}

fn run_hook(point: &'static str, index: usize, hook: &Hook, state: &State, cwd: &Path) -> Result<(), HookError> {
    let outcome =
        run(hook, state, cwd).map_err(|source| HookError::Run { point, index, path: hook.path.clone(), source })?;
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Failure { status, output } => {
            Err(HookError::Failed { point, index, path: hook.path.clone(), status, output })
        }
    }
}

enum Outcome {
    Success,
    Failure { status: String, output: String },
}

fn run(hook: &Hook, state: &State, cwd: &Path) -> io::Result<Outcome> {
    // Memory files instead of pipes: nobody has to read or write while the hook runs, and it cannot block on us.
    let mut input = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    input.write_all(&serde_json::to_vec(state)?)?;
    input.seek(SeekFrom::Start(0))?;
    let mut output = File::from(memfd_create("output", MemfdFlags::CLOEXEC)?);
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    let environment = hook.env.iter().filter_map(|entry| entry.split_once('='));
    command.env_clear().envs(environment).current_dir(cwd);
    command.stdin(Stdio::from(input)).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let mut child = command.spawn()?;
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.max(0).unsigned_abs()));
    let is_late = match deadline {
        None => false,
        Some(deadline) => {
            let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
            !wait_until(&handle, deadline)?
        }
    };
    if is_late {
        child.kill()?;
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(Outcome::Success);
    }
    let status = if is_late { "killed after its timeout".to_owned() } else { status.to_string() };
    let mut text = Vec::new();
    let length = output.seek(SeekFrom::End(0))?;
    output.seek(SeekFrom::Start(length.saturating_sub(SHOWN_BYTES as u64)))?;
    output.take(SHOWN_BYTES as u64).read_to_end(&mut text)?;
    Ok(Outcome::Failure { status, output: String::from_utf8_lossy(&text).trim().to_owned() })
}

fn wait_until(handle: &std::os::fd::OwnedFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(carrack_sys::rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_oci_config::Status;

    fn state() -> State {
        State {
            oci_version: "1.3.0".into(),
            id: "c".into(),
            pid: 5,
            status: Status::Created,
            bundle: "/b".into(),
            rootfs: String::new(),
            created: String::new(),
            annotations: Default::default(),
            owner: None,
        }
    }

    fn shell(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["A=1".into()],
            timeout,
        }
    }

    #[test]
    fn a_hook_gets_the_state_and_only_its_own_environment() {
        let script = r#"read state; test "$state" = '{"ociVersion":"1.3.0","id":"c","pid":5,"status":"created","bundle":"/b"}' && test "$A$HOME" = 1 && test "$PWD" = /"#;
        run_hooks("prestart", &[shell(script, None)], &state(), Path::new("/")).unwrap();
    }

    #[test]
    fn a_failure_tells_the_end_of_the_output_and_stops_the_rest() {
        let hooks = [shell("echo out; echo err >&2; exit 3", None), shell("exit 4", None)];
        let error = run_hooks("prestart", &hooks, &state(), Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "error running prestart hook #0: /bin/sh: exit status: 3, output: out\nerr");
        assert_eq!(run_all_hooks("poststop", &hooks, &state(), Path::new("/")).len(), 2);
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let error = run_hooks("prestart", &[shell("exec sleep 100", Some(0))], &state(), Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("killed after its timeout"), "{error}");
    }
}

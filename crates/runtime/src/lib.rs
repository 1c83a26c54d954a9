//! Turns an OCI bundle into a container: plan, steps, state directory and runc's verbs.
//!
//! ```text
//!  config.json ──Plan::new──▶ Plan ──begin_create──▶ Pending ──finish──▶ created ──start──▶ running ──▶ stopped ──delete──▶ gone
//! ```
//!
//! [`plan`] decides and is pure; `create` and `exec` act outside, `inside` in the container's own process; `state_dir` says
//! what is kept on disk. [`spawn_stage`] does the same from a process that no container may look into. Sources: OCI runtime specification 1.3, and
//! what callers of runc rely on. Runs as root, in one thread.

#![forbid(unsafe_code)]

mod channel;
mod create;
mod delegate;
mod describe;
mod exec;
mod facts;
mod hook;
mod inside;
mod lifecycle;
mod listener;
mod mounting;
mod net_device;
mod notify;
mod origin;
mod overlay;
pub mod plan;
mod process_stat;
mod procfs;
mod resctrl;
mod scope;
mod seal;
mod selinux;
mod serve_stage;
mod stage;
mod state;
mod state_dir;
mod step;
mod user_namespace;

pub use carrack_sys::clone::ChildOf;
pub use create::{CreateError, CreateOptions, Created, Pending, StartMode, TerminalUse, begin_create};
pub use describe::{describe, describe_io};
pub use exec::{ExecError, PendingExec, begin_exec, grant, process_of_bundle};
pub use facts::HostFacts;
pub use hook::HookError;
pub use inside::root::Leave;
pub use lifecycle::{
    DeleteError, Force, KillScope, SignalError, StartError, delete, kill, oom_killed, pause, processes, resume,
    run_poststart, start, start_after, update,
};
pub use notify::Notifier;
pub use overlay::{Changes, OverlayError, open_overlay};
pub use process_stat::{ProcessStat, identify, is_alive};
pub use seal::{SealError, Sealed};
pub use serve_stage::serve_stage;
pub use stage::{
    CreateRequest, ExecRequest, NamespaceType, Rootfs, StageError, StageReply, StageRequest, StageStdio, Staged,
    spawn_stage,
};
pub use state::{Listing, StateError, list, living, state};
pub use state_dir::{Record, StateDir, StateDirError};
pub use step::StepError;

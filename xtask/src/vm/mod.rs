//! A virtual machine for what the build machine lacks: pure cgroup v2 with every controller, AppArmor, kernel modules.
//!
//! QEMU emulates it in software (`-accel tcg`), so it runs wherever the build does, inside other virtual machines too. The kernel
//! is Debian's cloud kernel, downloaded as a package and unpacked beside the build, never installed. An initial RAM disk that
//! we write ourselves loads the modules and moves to an ext4 disk (a container's `pivot_root` fails on the kernel's first
//! root), whose init runs the wanted programs one after the other. What they print arrives over a serial line of its own, so
//! that no message of the kernel gets between. Where systemd itself is what is tested, it is the first process, and runs them as a service.
//!
//! Rust's test programs are static here, so they are only copied in.

pub mod cpio;
pub mod disk;
pub mod kernel;
pub mod machine;
pub mod modules;
pub mod systemd;
pub mod transcript;

pub use machine::run;

use std::path::PathBuf;
use std::time::Duration;

/// What a virtual machine is started for.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its first process.
    pub init: Init,
    /// Main memory.
    pub memory_mib: u32,
    /// Host files that the guest finds under another name.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Dynamic programs of the host, copied with the libraries they load.
    pub programs: Vec<PathBuf>,
    /// What is run, in order.
    pub commands: Vec<GuestCommand>,
    /// A machine that has not ended by itself is killed after this.
    pub limit: Duration,
}

/// What a machine's first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// A script that prepares the machine, runs the commands, and switches it off.
    Script,
    /// Systemd, which runs that script as a service.
    Systemd,
}

/// One program for the guest to run.
#[derive(Debug, Clone)]
pub struct GuestCommand {
    /// How the report calls it.
    pub name: String,
    /// The program, a path in the guest, and its arguments.
    pub argv: Vec<String>,
    /// Set before it runs.
    pub environment: Vec<(String, String)>,
    /// After this the guest kills it, and goes on with the next.
    pub limit: Duration,
}

/// What became of a [`GuestCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestOutcome {
    /// The name it was given.
    pub name: String,
    /// Its exit code; `None` when the machine ended before the program did.
    pub code: Option<i32>,
    /// Standard output and error.
    pub output: String,
}

impl Guest {
    /// A machine with nothing in it but busybox, that has the time of all its commands and a minute for the boot.
    pub fn new(commands: Vec<GuestCommand>) -> Self {
        let limit = commands.iter().map(|command| command.limit).sum::<Duration>() + Duration::from_secs(60);
        Self { init: Init::Script, memory_mib: 2048, files: vec![], programs: vec![], commands, limit }
    }
}

//! `cargo xtask build`: both programs, as they are shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::Failure;
use crate::process::{Show, find_program, run_bounded, run_here};
use crate::workspace::{Profile, Workspace, cargo};

/// How long a download may take.
const ADD_LIMIT: Duration = Duration::from_secs(180);

/// The programs that a test, a demonstration or a benchmark drives.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The engine: command line and daemon.
    pub carrack: PathBuf,
    /// The low-level runtime.
    pub carrack_oci: PathBuf,
}

impl Programs {
    /// Tells a program that we start where Carrack's programs are.
    pub fn name_to(&self, command: &mut Command) {
        command.env("CARRACK", &self.carrack).env("CARRACK_OCI", &self.carrack_oci);
        if let Some(busybox) = find_program("busybox") {
            command.env("CARRACK_BUSYBOX", busybox);
        }
    }
}

/// Builds both, and puts them side by side, as they are installed on a node.
///
/// `carrack-oci` is always built as shipped: its size, its system calls and its memory are what tests measure.
pub fn build(workspace: &Workspace, carrack: Profile) -> Result<Programs, Failure> {
    install_small_target(workspace)?;
    run_here(&mut build_command(workspace, "carrack-oci", Profile::Oci))?;
    run_here(&mut build_command(workspace, "carrack", carrack))?;
    let place = workspace.cache(&format!("programs-{}", carrack.name()));
    fs::create_dir_all(&place).map_err(Failure::because(format!("make {}", place.display())))?;
    Ok(Programs {
        carrack: install(&workspace.program("carrack", carrack), &place)?,
        carrack_oci: install(&workspace.program("carrack-oci", Profile::Oci), &place)?,
    })
}

/// The command that builds one package.
pub fn build_command(workspace: &Workspace, package: &str, profile: Profile) -> Command {
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", package, "--profile", profile.name()]);
    command.args(["--target", &workspace.target_of(profile)]);
    command
}

/// Adds the standard library of the small target to the toolchain. Where that cannot be done, because the toolchain is not rustup's or there is no
/// network, `carrack-oci` is built for the host's target, as good but larger, and that is said.
fn install_small_target(workspace: &Workspace) -> Result<(), Failure> {
    let target = workspace.small_target();
    if workspace.target_of(Profile::Oci) == target {
        return Ok(());
    }
    println!("adding target {target}");
    let outcome = match find_program("rustup") {
        Some(rustup) => {
            run_bounded(Command::new(rustup).args(["target", "add", &target]), ADD_LIMIT, Show::Nothing)?.output
        }
        None => "there is no rustup".to_owned(),
    };
    if workspace.target_of(Profile::Oci) != target {
        println!("target {target} cannot be added; carrack-oci is built for {}: {}", workspace.triple, outcome.trim());
    }
    Ok(())
}

/// Copies `program` into the directory `place`, by renaming: a running copy of an older build is not disturbed.
fn install(program: &Path, place: &Path) -> Result<PathBuf, Failure> {
    let name = program.file_name().expect("a program is a file");
    let new = place.join(format!(".{}", name.to_string_lossy()));
    let installed = place.join(name);
    fs::copy(program, &new).and_then(|_| fs::rename(&new, &installed)).map_err(Failure::because(format!(
        "copy {} to {}",
        program.display(),
        installed.display()
    )))?;
    Ok(installed)
}

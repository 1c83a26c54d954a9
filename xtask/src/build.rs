//! `cargo xtask build`: both programs, as they are shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::process::run_here;
use crate::workspace::{Profile, Workspace, cargo};

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
        if let Some(busybox) = crate::process::find_program("busybox") {
            command.env("CARRACK_BUSYBOX", busybox);
        }
    }
}

/// Builds both, and puts them side by side, as they are installed on a node.
///
/// `carrack-oci` is always built as shipped: its size, its system calls and its memory are what tests measure.
pub fn build(workspace: &Workspace, carrack: Profile) -> Result<Programs, Failure> {
    run_here(cargo().args(["build", "--quiet", "--package", "carrack-oci", "--profile", Profile::Oci.name()]))?;
    run_here(cargo().args(["build", "--quiet", "--package", "carrack", "--profile", carrack.name()]))?;
    let place = workspace.cache(&format!("programs-{}", carrack.name()));
    fs::create_dir_all(&place).map_err(Failure::because(format!("make {}", place.display())))?;
    Ok(Programs {
        carrack: install(&workspace.program("carrack", carrack), &place)?,
        carrack_oci: install(&workspace.program("carrack-oci", Profile::Oci), &place)?,
    })
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

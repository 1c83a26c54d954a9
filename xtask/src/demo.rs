//! `cargo xtask demo`: the main job, shown.
//!
//! The job itself is the program `carrack-demo` of the package `carrack-tests`, since it needs a CRI client; here it is only
//! built and started.

use std::process::Command;

use crate::build::{self, Programs};
use crate::failure::Failure;
use crate::packages;
use crate::process::run_here;
use crate::workspace::{Profile, Workspace, cargo};

/// Installs what is missing, builds everything, and runs the job with `arguments` (`--image REF`).
pub fn run(workspace: &Workspace, arguments: &[&str]) -> Result<(), Failure> {
    packages::install(packages::FOR_DEMO)?;
    println!("building both programs");
    let programs = build::build(workspace, Profile::Release)?;
    run_here(&mut command(workspace, &programs, arguments)?)
}

/// The program which runs the job, built.
pub fn command(workspace: &Workspace, programs: &Programs, arguments: &[&str]) -> Result<Command, Failure> {
    run_here(cargo().args(["build", "--quiet", "--package", "carrack-tests", "--bin", "carrack-demo"]))?;
    let mut command = Command::new(workspace.program("carrack-demo", Profile::Dev));
    command.args(arguments);
    programs.name_to(&mut command);
    Ok(command)
}

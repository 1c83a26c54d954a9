//! `cargo xtask bench`: builds everything as it is shipped, the floor program included, and starts the measuring program.
//!
//! The measuring itself is the package `carrack-bench`.

use std::path::PathBuf;
use std::process::Command;

use crate::build;
use crate::failure::Failure;
use crate::packages;
use crate::process::run_here;
use crate::workspace::{Profile, Workspace, cargo};

/// Runs the named suites, or all.
pub fn run(workspace: &Workspace, suites: &[&str]) -> Result<(), Failure> {
    packages::install(packages::FOR_TESTS)?;
    packages::install(packages::FOR_BENCHMARKS)?;
    let programs = build::build(workspace, Profile::Release)?;
    let [floor, peak] = [build_c(workspace, "floor")?, build_c(workspace, "peak")?];
    run_here(cargo().args(["build", "--quiet", "--release", "--package", "carrack-bench"]))?;
    let mut command = Command::new(workspace.program("carrack-bench", Profile::Release));
    command.args(suites).env("CARRACK_FLOOR", floor).env("CARRACK_PEAK", peak);
    programs.name_to(&mut command);
    run_here(&mut command)
}

/// What is measured against and with is C, so that what it costs is the kernel's work and nothing else.
fn build_c(workspace: &Workspace, name: &str) -> Result<PathBuf, Failure> {
    let place = workspace.cache("floor");
    std::fs::create_dir_all(&place).map_err(Failure::because(format!("make {}", place.display())))?;
    let program = place.join(name);
    let source = workspace.root.join(format!("bench/floor/{name}.c"));
    run_here(
        Command::new("cc").args(["-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source),
    )?;
    Ok(program)
}

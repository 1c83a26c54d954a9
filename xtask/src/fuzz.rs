//! `cargo xtask fuzz`: searches for inputs that do harm, led by coverage.

use std::fs;

use crate::failure::Failure;
use crate::process::{find_program, run_here};
use crate::workspace::{Workspace, cargo};

/// Searches one target for a number of seconds, beginning with its seeds. Installs cargo-fuzz if it is missing.
pub fn run(workspace: &Workspace, target: &str, seconds: u64) -> Result<(), Failure> {
    let package = workspace.root.join("fuzz/coverage");
    if !package.join("fuzz_targets").join(target).with_extension("rs").is_file() {
        return Err(Failure::new(format!(
            "no target is called {target}; they are the files of fuzz/coverage/fuzz_targets"
        )));
    }
    let cargo_fuzz = match find_program("cargo-fuzz") {
        Some(program) => program,
        None => {
            let root = workspace.cache("cargo-fuzz");
            let program = root.join("bin/cargo-fuzz");
            if !program.is_file() {
                println!("installing cargo-fuzz");
                run_here(cargo().args(["install", "cargo-fuzz", "--locked", "--quiet", "--root"]).arg(&root))?;
            }
            program
        }
    };
    let corpus = workspace.cache("fuzz").join(target);
    fs::create_dir_all(&corpus).map_err(Failure::because(format!("make {}", corpus.display())))?;
    let mut command = std::process::Command::new(cargo_fuzz);
    command
        .current_dir(&package)
        // The instrumentation is a flag of the compiler that counts as unstable.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["run", "--fuzz-dir", ".", "--target-dir"])
        .arg(workspace.cache("fuzz-target"))
        .args(["--target", &workspace.triple, "--sanitizer", "none", target])
        .arg(corpus)
        .arg(workspace.root.join("fuzz/seeds").join(target))
        .args(["--", &format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=1024"]);
    run_here(&mut command)
}

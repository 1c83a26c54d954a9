//! What the built programs are like: size, and what must not be in them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use xtask::build::build_command;
use xtask::process::output_of;
use xtask::workspace::{Profile, Workspace};

/// Below this a person can still survey what `carrack-oci` is made of.
const CARRACK_OCI_LIMIT_BYTES: u64 = 2_000_000;

/// They load modules named by the host's `nsswitch.conf` into a program that shall load nothing.
const FORBIDDEN_SYMBOLS: &[&str] = &["getaddrinfo", "getpwnam", "getpwuid", "getpwent", "getgrnam", "getgrgid"];

fn built(package: &str, profile: Profile) -> PathBuf {
    let workspace = Workspace::load().expect("the workspace can be read");
    output_of(&mut build_command(&workspace, package, profile)).expect("the program builds");
    workspace.program(package, profile)
}

/// The symbols of a program, by binutils' nm, which comes with the linker.
fn symbols(program: &PathBuf) -> Vec<String> {
    let listed = output_of(Command::new("nm").arg(program)).expect("nm reads the program");
    listed.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

#[test]
fn carrack_oci_is_under_two_megabytes() {
    let workspace = Workspace::load().expect("the workspace can be read");
    if workspace.target_of(Profile::Oci) != workspace.small_target() {
        // The limit is for what is shipped.
        eprintln!(
            "SKIPPED: carrack_oci_is_under_two_megabytes: the toolchain has no target {}, for which it is shipped",
            workspace.small_target()
        );
        return;
    }
    let program = built("carrack-oci", Profile::Oci);
    let size = fs::metadata(&program).expect("it was just built").len();
    assert!(size < CARRACK_OCI_LIMIT_BYTES, "{} has {size} bytes", program.display());
}

#[test]
fn carrack_oci_never_loads_the_hosts_name_service_modules() {
    // The shipped program has no symbols. The unoptimised one is built of the same sources and keeps all that the other drops.
    let symbols = symbols(&built("carrack-oci", Profile::Dev));
    assert!(symbols.len() > 100, "nm listed only {} symbols: the check would prove nothing", symbols.len());
    let found: Vec<_> = symbols
        .iter()
        .filter(|symbol| FORBIDDEN_SYMBOLS.iter().any(|word| symbol.trim_start_matches('_').starts_with(word)))
        .collect();
    assert!(found.is_empty(), "carrack-oci contains {found:?}");
}

#[test]
fn both_programs_are_static() {
    for (package, profile) in [("carrack-oci", Profile::Oci), ("carrack", Profile::Dev)] {
        let program = built(package, profile);
        let headers = output_of(Command::new("readelf").arg("--program-headers").arg(&program))
            .expect("readelf reads the program");
        assert!(!headers.contains("INTERP"), "{package} asks for a dynamic loader");
    }
}

//! Where the programs under test are.

use std::env;
use std::path::PathBuf;

/// The engine's command line: `$CARRACK`, which `cargo xtask test` sets.
pub fn carrack() -> PathBuf {
    named("CARRACK")
}

/// The low-level runtime: `$CARRACK_OCI`.
pub fn carrack_oci() -> PathBuf {
    named("CARRACK_OCI")
}

/// The static busybox: `$CARRACK_BUSYBOX`, else where Debian has it.
pub fn busybox() -> PathBuf {
    env::var_os("CARRACK_BUSYBOX").map_or_else(|| "/bin/busybox".into(), PathBuf::from)
}

/// Whether a program is on the search path.
pub fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(extra).any(|directory| directory.join(program).is_file())
}

fn named(variable: &str) -> PathBuf {
    let path =
        env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test --only host`"));
    let path = PathBuf::from(path);
    assert!(path.is_file(), "{variable}={} is not there", path.display());
    path
}

//! Arguments for the linker when the program is built for use: it is to be small.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwind-tables.ld");
    // The profile `oci` counts as a release here; others keep what debuggers and backtraces need.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // Cargo tells build scripts the profile's name by the directory alone.
    let directory = env::var("OUT_DIR").unwrap_or_default();
    let panics_abort = Path::new(&directory).components().any(|part| part.as_os_str() == "oci");
    // The index of the unwind tables serves nobody: a panic aborts, and without symbols a backtrace would tell nothing.
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    if panics_abort {
        // A function of carrack-sys stands in for one of the compiler's library, whose others come along.
        println!("cargo::rustc-link-arg-bins=-Wl,--allow-multiple-definition");
    }
    // The two that follow want Rust's own linker, which is the usual one for this target only.
    if env::var("TARGET").as_deref() != Ok("x86_64-unknown-linux-gnu") {
        return;
    }
    // Functions of equal code become one.
    println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    if panics_abort {
        let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/no-unwind-tables.ld");
    }
}

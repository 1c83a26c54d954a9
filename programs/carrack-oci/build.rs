//! Arguments for the linker when the program is built for use: it is to be small.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The profile `oci` counts as a release here; others keep what debuggers and backtraces need.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // The index of the unwind tables serves nobody: a panic aborts, and without symbols a backtrace would tell nothing.
    println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    // Functions of equal code become one. Rust's linker can do that, which is the usual one for this target only.
    if env::var("TARGET").as_deref() == Ok("x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}

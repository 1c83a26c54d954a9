//! Compiles `proto/api.proto` into messages, clients and servers.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/api.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Connecting is the caller's affair: this crate brings no transport.
        .build_transport(false)
        .btree_map(".")
        // Derived, it would print passwords; see `src/secret.rs`.
        .skip_debug([".runtime.v1.AuthConfig"])
        .compile_fds(files)?;
    Ok(())
}

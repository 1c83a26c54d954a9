//! Where the workspace, its target directory and its built programs are, from `cargo metadata`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::Failure;
use crate::process::output_of;

/// The workspace as Cargo sees it.
#[derive(Debug)]
pub struct Workspace {
    /// The directory of the root manifest.
    pub root: PathBuf,
    /// Where Cargo puts what it builds; honours `CARGO_TARGET_DIR`.
    pub target: PathBuf,
    /// The host's target triple, for which everything is built but [`Profile::Oci`].
    pub triple: String,
    /// Where the compiler keeps the standard library of each target.
    pub libraries: PathBuf,
    /// The whole answer of `cargo metadata`, dependencies included.
    pub metadata: Value,
}

/// One of the ways in which Carrack's programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Unoptimised, for tests.
    Dev,
    /// `carrack` as it is shipped.
    Release,
    /// `carrack-oci` as it is shipped.
    Oci,
}

impl Profile {
    /// The name for `cargo build --profile`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Oci => "oci",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
            Self::Oci => "oci",
        }
    }
}

impl Workspace {
    /// Asks Cargo. Fails where the manifest of some crate cannot be read.
    pub fn load() -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace");
        let text = output_of(cargo().current_dir(root).args(["metadata", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&text)
            .map_err(|why| Failure::new(format!("read the answer of cargo metadata: {why}")))?;
        let target = metadata["target_directory"]
            .as_str()
            .ok_or_else(|| Failure::new("cargo metadata names no target directory"))?;
        let triple = output_of(Command::new("rustc").args(["--print", "host-tuple"]))?;
        let sysroot = output_of(Command::new("rustc").args(["--print", "sysroot"]))?;
        Ok(Self {
            root: root.to_owned(),
            target: target.into(),
            triple: triple.trim().to_owned(),
            libraries: Path::new(sysroot.trim()).join("lib/rustlib"),
            metadata,
        })
    }

    /// The target for which programs of `profile` are built.
    pub fn target_of(&self, profile: Profile) -> String {
        let small = self.small_target();
        if profile == Profile::Oci && self.libraries.join(&small).is_dir() { small } else { self.triple.clone() }
    }

    /// The host's machine with a C library made for static programs; `carrack-oci` is a third smaller with it and starts sooner.
    pub fn small_target(&self) -> String {
        self.triple.replace("-gnu", "-musl")
    }

    /// Where a program built with `profile` is.
    pub fn program(&self, name: &str, profile: Profile) -> PathBuf {
        self.target.join(self.target_of(profile)).join(profile.directory()).join(name)
    }

    /// A directory for what the build tool keeps between runs: kernels, trees of Debian, logs.
    pub fn cache(&self, name: &str) -> PathBuf {
        self.target.join("xtask").join(name)
    }
}

/// The Cargo that runs us, at the workspace root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What Cargo tells the programs it runs about *this* package would mislead the builds that we start.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace"));
    command
}

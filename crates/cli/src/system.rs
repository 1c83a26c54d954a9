//! `info`, `version` and what monitors call.

use std::fs;

use carrack_engine::Engine;
use carrack_engine::request::ContainerFilter;
use carrack_engine::view::Phase;
use carrack_sys::rustix::system::uname;
use carrack_words::PodId;
use serde_json::json;

use crate::args::{Format, Formatted};
use crate::failure::Failure;
use crate::human;
use crate::print::say;

/// `carrack version`.
pub fn version(flags: &Formatted) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match flags.format {
        Format::Json => say!(
            "{}",
            json!({ "Version": version, "CriVersion": "v1", "OciRuntimeSpec": "1.3.0", "Arch": std::env::consts::ARCH })
        )?,
        Format::Table => {
            say!("carrack {version}\nCRI v1, OCI runtime specification 1.3.0, {}", std::env::consts::ARCH)?
        }
    }
    Ok(0)
}

/// `carrack info`.
pub fn info(engine: &Engine, flags: &Formatted) -> Result<u8, Failure> {
    let filter = ContainerFilter { include_single: true, include_sandboxed: true, ..ContainerFilter::default() };
    let containers = engine.containers(&filter)?;
    let running = containers.iter().filter(|container| matches!(container.phase, Phase::Running { .. })).count();
    let images = engine.images().list().map_err(|error| Failure::Engine(error.into()))?.len();
    let usage = engine.disk_usage()?;
    let config = engine.config();
    let system = uname();
    let kernel = system.release().to_string_lossy().into_owned();
    let cgroups = if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) { "v2" } else { "v1 or hybrid" };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    match flags.format {
        Format::Json => say!(
            "{}",
            json!({
                "Version": env!("CARGO_PKG_VERSION"), "Containers": containers.len(), "ContainersRunning": running, "Images": images,
                "Root": config.root, "Run": config.run, "Runtime": config.oci_program, "KernelVersion": kernel, "CgroupVersion": cgroups,
                "NCPU": processors, "Arch": std::env::consts::ARCH, "ImagesBytes": usage.images_bytes,
                "ContainersBytes": usage.containers_bytes,
            })
        )?,
        Format::Table => {
            say!("Version:     {}", env!("CARGO_PKG_VERSION"))?;
            say!("Containers:  {} ({running} running), {}", containers.len(), human::bytes(usage.containers_bytes))?;
            say!("Images:      {images}, {}", human::bytes(usage.images_bytes))?;
            say!("Root:        {}", config.root.display())?;
            say!("Run:         {}", config.run.display())?;
            say!("Runtime:     {}", config.oci_program.display())?;
            say!("Kernel:      {kernel} ({}, {processors} CPUs)", std::env::consts::ARCH)?;
            say!("Cgroups:     {cgroups}")?;
        }
    }
    Ok(0)
}

/// `carrack cleanup`.
pub fn cleanup(engine: &Engine, pod: &str) -> Result<u8, Failure> {
    let pod = PodId::new(pod).map_err(|error| Failure::usage(error.to_string()))?;
    engine.cleanup(&pod)?;
    Ok(0)
}

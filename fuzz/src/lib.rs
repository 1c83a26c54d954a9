//! Entry points for fuzzers: each takes any bytes and must neither panic nor take long, and what it accepts must hold together.
//!
//! `tests/seeds.rs` feeds every kept input and thousands of variants of each in the ordinary tests. `cargo xtask fuzz TARGET` searches further, led by
//! coverage (`coverage/`); an input that it finds is put under `seeds/TARGET`.

#![forbid(unsafe_code)]

use std::path::Path;

use carrack_layer::Limits;
use carrack_layer::tar::Reader;
use carrack_oci_config::{LinuxSeccomp, Process, Spec};
use carrack_runtime::plan::process::{ProcessPlan, Shared};
use carrack_runtime::plan::{Plan, PlanRequest, capability};
use carrack_runtime::{HostFacts, Rootfs};
use carrack_seccomp::{Arch, KernelSupport, compile};
use carrack_words::ContainerId;

/// Something to feed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of the directory of its seeds.
    pub name: &'static str,
    /// Takes an input.
    pub feed: fn(&[u8]),
    /// Whether inputs are JSON, so that variants of their values are worth trying.
    pub is_json: bool,
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "config", feed: config, is_json: true },
    Target { name: "process", feed: process, is_json: true },
    Target { name: "seccomp", feed: seccomp, is_json: true },
    Target { name: "archive", feed: archive, is_json: false },
    Target { name: "challenge", feed: challenge, is_json: false },
];

/// `config.json` of a bundle: what is planned has as many mounts as were asked for, and rights that the runtime has.
pub fn config(input: &[u8]) {
    let Ok(spec) = Spec::from_json(input) else { return };
    let mounts = spec.mounts.len();
    let id = ContainerId::new("fuzz").expect("it is a valid id");
    let request = PlanRequest { id: &id, bundle: Path::new("/bundle"), rootfs: &Rootfs::Config, join: &[] };
    let facts = HostFacts { capabilities: 0xff, bounding: 0xff, ..HostFacts::default() };
    if let Ok(plan) = Plan::new(spec, request, &facts) {
        assert_eq!(plan.mounts.len(), mounts);
        assert!(plan.namespaces.has_user() || plan.process.capabilities.permitted & !0xff == 0);
    }
}

/// `process.json` of an exec.
pub fn process(input: &[u8]) {
    let Ok(process) = serde_json::from_slice::<Process>(input) else { return };
    if let Ok(plan) = ProcessPlan::new(&process, Shared::default(), capability::KNOWN) {
        assert_eq!(plan.arguments.len(), process.args.len());
    }
}

/// A seccomp profile: what is compiled can be loaded.
pub fn seccomp(input: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(input) else { return };
    for arch in [Arch::X86_64, Arch::Aarch64] {
        if let Ok(program) = compile(&profile, arch, &KernelSupport::FULL) {
            let length = program.filter.len();
            assert!((1..=4096).contains(&length));
            // BPF_JMP is class 5; its conditional jumps must land inside the program.
            for (at, one) in
                program.filter.iter().enumerate().filter(|(_, one)| one.code & 7 == 5 && one.code & 0xf0 != 0)
            {
                assert!(at + 1 + usize::from(one.jt.max(one.jf)) < length);
            }
        }
    }
}

/// A layer's archive, read to its end or its first fault: no more comes out of it than can be in it.
pub fn archive(input: &[u8]) {
    let mut reader = Reader::new(input, &Limits::default());
    let mut bytes = 0;
    while let Ok(Some(_)) = reader.next_entry() {
        let passed = reader.pass_data(|piece| {
            bytes += piece.len();
            Ok(())
        });
        if passed.is_err() {
            break;
        }
    }
    assert!(bytes <= input.len());
}

/// The `WWW-Authenticate` header of a registry.
pub fn challenge(input: &[u8]) {
    if let Ok(header) = std::str::from_utf8(input) {
        let _ = carrack_registry::parse_challenges(header);
    }
}

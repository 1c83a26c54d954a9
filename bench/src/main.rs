//! Measures Carrack side by side with the field's other engines, in one run, on one machine.
//!
//! `cargo xtask bench` builds and starts it; the programs are named by the environment. Medians are compared: figures of other
//! machines or other days say little. Every suite says at which cadence it starts its containers, since that changes the result.

#![forbid(unsafe_code)]

mod carrack;
mod containerd;
mod cri;
mod engine;
mod host;
mod measure;
mod pull;
mod runtime;
mod table;

use std::process::ExitCode;

type Suite = (&'static str, fn());

const SUITES: &[Suite] = &[
    ("runtime", runtime::run_suite),
    ("engine", engine::run_suite),
    ("cri", cri::run_suite),
    ("pull", pull::run_suite),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| !SUITES.iter().any(|(known, _)| known == name)) {
        eprintln!("no suite is called {unknown}; there are: runtime engine cri pull");
        return ExitCode::FAILURE;
    }
    host::prepare();
    for (name, run) in SUITES {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            run();
        }
    }
    ExitCode::SUCCESS
}

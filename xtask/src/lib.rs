//! Builds, tests, benchmarks and demonstrates Carrack.
//!
//! `cargo xtask help` lists the verbs. The program is compiled before anything else can happen, so it has the standard library
//! and a JSON parser and no more.

#![forbid(unsafe_code)]

pub mod bench;
pub mod build;
pub mod demo;
pub mod failure;
pub mod fuzz;
pub mod packages;
pub mod process;
pub mod stages;
pub mod summary;
pub mod vm;
pub mod workspace;

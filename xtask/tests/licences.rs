//! Every crate that is linked into Carrack has a licence that allows it, and is there once.
//!
//! What cargo-deny would check, over `cargo metadata`, with nothing to install.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use xtask::workspace::Workspace;

/// Licences that ask for no more than their text and the authors' names.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
    "BSL-1.0",
];

/// Crates that are there in more than one version, each with the reason why that is borne.
const DUPLICATES: &[(&str, &str)] = &[("getrandom", "ring keeps to 0.2; what is newer asks for 0.4")];

/// What the condition of a dependency holds that is for other systems than Linux.
const ELSEWHERE: &[&str] = &["windows", "wasm", "macos", "apple"];

/// The packages from outside that end up in one of the programs.
fn linked(metadata: &Value) -> Vec<&Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().expect("cargo metadata resolves dependencies");
    let packages = metadata["packages"].as_array().expect("cargo metadata lists the packages");
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let programs = packages
        .iter()
        .filter(|package| ["carrack", "carrack-oci"].contains(&package["name"].as_str().unwrap_or_default()));
    // A procedural macro runs in the compiler, with all that it is made of.
    let is_macro = |id: &str| {
        let package = packages.iter().find(|package| package["id"] == id).expect("each node is a package");
        package["targets"].as_array().into_iter().flatten().any(|target| target["kind"][0] == "proc-macro")
    };
    let mut next: Vec<&str> = programs.filter_map(|package| package["id"].as_str()).collect();
    let mut seen: BTreeSet<&str> = next.iter().copied().collect();
    while let Some(id) = next.pop() {
        let node = nodes.iter().find(|node| node["id"] == id).expect("each dependency is a node");
        for dependency in node["deps"].as_array().into_iter().flatten() {
            // Neither what only builds nor what only tests ends up in a program; nor what is for other systems.
            let is_linked = dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| {
                kind["kind"].is_null()
                    && !kind["target"]
                        .as_str()
                        .is_some_and(|target| ELSEWHERE.iter().any(|system| target.contains(system)))
            });
            let id = dependency["pkg"].as_str().expect("a dependency has an id");
            if is_linked && !is_macro(id) && seen.insert(id) {
                next.push(id);
            }
        }
    }
    packages
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| seen.contains(id) && !members.contains(id)))
        .collect()
}

/// Whether an SPDX expression can be satisfied with [`ALLOWED`]. `/` is the old way to write `OR`.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // Without the parentheses, `A OR B AND C` reads as every `AND` part having an allowed alternative: stricter, never laxer.
    plain.split(" AND ").all(|part| {
        part.split(" OR ").any(|licence| {
            let licence = licence.split_whitespace().collect::<Vec<_>>().join(" ");
            ALLOWED.contains(&licence.as_str())
        })
    })
}

#[test]
fn every_linked_crate_has_an_allowed_licence() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let wrong: Vec<String> = linked(&workspace.metadata)
        .into_iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none")))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(wrong.is_empty(), "licences that are not on the list:\n{}", wrong.join("\n"));
}

#[test]
fn no_crate_is_linked_in_two_versions_without_a_reason() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in linked(&workspace.metadata) {
        let name = package["name"].as_str().expect("a package has a name");
        versions.entry(name).or_default().push(package["version"].as_str().expect("a package has a version"));
    }
    let doubled: Vec<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    let unexplained: Vec<_> =
        doubled.iter().filter(|(name, _)| !DUPLICATES.iter().any(|(known, _)| known == *name)).collect();
    assert!(unexplained.is_empty(), "linked in several versions: {unexplained:?}");
    let outdated: Vec<_> =
        DUPLICATES.iter().filter(|(known, _)| !doubled.iter().any(|(name, _)| *name == known)).collect();
    assert!(outdated.is_empty(), "no longer doubled: {outdated:?}");
}

#[test]
fn an_expression_is_allowed_only_if_each_of_its_parts_can_be() {
    assert!(is_allowed("MIT OR GPL-3.0"));
    assert!(is_allowed("MIT/Apache-2.0"));
    assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_allowed("MIT AND GPL-3.0"));
    assert!(!is_allowed("none"));
}

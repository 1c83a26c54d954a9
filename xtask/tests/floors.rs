//! Crates stand on floors and arrows point downwards only (docs/architecture.md, "Floors").

use std::collections::BTreeMap;

use serde_json::Value;
use xtask::workspace::Workspace;

/// The floor of every crate of the engine. A new crate is entered here, deliberately.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["carrack-words", "carrack-oci-config", "carrack-cri-proto"]),
    (1, &["carrack-sys"]),
    (2, &["carrack-rooted"]),
    (
        3,
        &[
            "carrack-cgroup",
            "carrack-systemd",
            "carrack-seccomp",
            "carrack-layer",
            "carrack-netlink",
            "carrack-monitor-proto",
        ],
    ),
    (4, &["carrack-runtime", "carrack-store", "carrack-registry"]),
    (5, &["carrack-monitor"]),
    (6, &["carrack-image", "carrack-network", "carrack-volume"]),
    (7, &["carrack-engine"]),
    (8, &["carrack-cli", "carrack-cri"]),
    (9, &["carrack", "carrack-oci"]),
];

/// What drives the engine from outside; nothing of the engine may use it.
const OUTSIDE: &[&str] = &["carrack-tests", "carrack-bench", "carrack-fuzz", "xtask"];

/// What `carrack-oci` must not contain: it has no asynchronous runtime, and stays small enough to be read.
const NOT_IN_CARRACK_OCI: &[&str] =
    &["tokio", "clap", "hyper", "rustls", "tracing", "regex", "rusqlite", "libsqlite3-sys", "prost"];

fn floor_of(package: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, packages)| packages.contains(&package)).map(|(floor, _)| *floor)
}

/// The workspace's packages with the names of their dependencies, those of tests left out.
fn packages(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let members = metadata["workspace_members"].as_array().expect("cargo metadata lists the members");
    let all = metadata["packages"].as_array().expect("cargo metadata lists the packages");
    all.iter()
        .filter(|package| members.contains(&package["id"]))
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let names = dependencies.filter(|one| one["kind"] != "dev").map(|one| text(&one["name"])).collect();
            (text(&package["name"]), names)
        })
        .collect()
}

#[test]
fn every_crate_stands_on_a_floor_and_uses_only_floors_below() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let packages = packages(&workspace.metadata);
    let mut wrong = vec![];
    for (package, dependencies) in &packages {
        if OUTSIDE.contains(&package.as_str()) {
            continue;
        }
        let Some(floor) = floor_of(package) else {
            wrong.push(format!("{package} has no floor"));
            continue;
        };
        for dependency in dependencies.iter().filter(|name| packages.contains_key(*name)) {
            match floor_of(dependency) {
                Some(below) if below < floor => {}
                Some(other) => wrong.push(format!("{package} (floor {floor}) uses {dependency} (floor {other})")),
                None => wrong.push(format!("{package} uses {dependency}, which is outside the engine")),
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not point downwards:\n{}", wrong.join("\n"));
}

#[test]
fn every_floor_names_crates_that_exist() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let packages = packages(&workspace.metadata);
    let gone: Vec<_> =
        FLOORS.iter().flat_map(|(_, names)| *names).filter(|name| !packages.contains_key(**name)).collect();
    assert!(gone.is_empty(), "the table of floors names crates that are gone: {gone:?}");
}

#[test]
fn carrack_oci_contains_nothing_large_or_asynchronous() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let nodes = workspace.metadata["resolve"]["nodes"].as_array().expect("cargo metadata resolves dependencies");
    let name_of = |id: &Value| -> String {
        let packages = workspace.metadata["packages"].as_array().into_iter().flatten();
        packages.filter(|package| package["id"] == *id).filter_map(|package| package["name"].as_str()).collect()
    };
    let start =
        nodes.iter().map(|node| &node["id"]).find(|id| name_of(id) == "carrack-oci").expect("carrack-oci is a member");
    let mut seen = vec![start];
    let mut next = vec![start];
    while let Some(id) = next.pop() {
        let node = nodes.iter().find(|node| node["id"] == *id).expect("each dependency is a node");
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let is_linked = dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
            if is_linked && !seen.contains(&&dependency["pkg"]) {
                seen.push(&dependency["pkg"]);
                next.push(&dependency["pkg"]);
            }
        }
    }
    let found: Vec<String> =
        seen.into_iter().map(name_of).filter(|name| NOT_IN_CARRACK_OCI.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "carrack-oci links {found:?}");
}

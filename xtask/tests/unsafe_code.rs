//! Only `carrack-sys` contains unsafe code; every other crate forbids it to itself.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::workspace::Workspace;

/// The one crate that may.
const HOME_OF_UNSAFE: &str = "crates/sys";

/// The files from which Cargo builds a crate: the library, the programs, and each file of tests.
fn roots(workspace: &Workspace) -> Vec<PathBuf> {
    let members = workspace.metadata["workspace_members"].as_array().expect("cargo metadata lists the members");
    workspace.metadata["packages"]
        .as_array()
        .expect("cargo metadata lists the packages")
        .iter()
        .filter(|package| members.contains(&package["id"]))
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"].as_array().into_iter().flatten().any(|kind| kind == "lib" || kind == "bin"))
        .filter_map(|target| target["src_path"].as_str().map(PathBuf::from))
        .collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a source directory can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_crate_but_sys_forbids_unsafe_code() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let home = workspace.root.join(HOME_OF_UNSAFE);
    let lax: Vec<PathBuf> = roots(&workspace)
        .into_iter()
        .filter(|root| !root.starts_with(&home))
        .filter(|root| {
            !fs::read_to_string(root).expect("a source file can be read").contains("#![forbid(unsafe_code)]")
        })
        .collect();
    assert!(lax.is_empty(), "without #![forbid(unsafe_code)]: {lax:?}");
}

#[test]
fn no_source_outside_sys_writes_an_unsafe_block() {
    let workspace = Workspace::load().expect("the workspace can be read");
    let home = workspace.root.join(HOME_OF_UNSAFE);
    let mut files = vec![];
    for directory in ["crates", "programs", "tests", "xtask", "bench"] {
        sources(&workspace.root.join(directory), &mut files);
    }
    // Test programs are crates of their own and do not inherit the attribute of the library beside them.
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    let found: Vec<String> = files
        .into_iter()
        .filter(|file| !file.starts_with(&home) && !file.ends_with("xtask/tests/unsafe_code.rs"))
        .filter(|file| {
            let text = fs::read_to_string(file).expect("a source file can be read");
            words.iter().any(|word| text.contains(word))
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(found.is_empty(), "unsafe code outside {HOME_OF_UNSAFE}: {found:?}");
}

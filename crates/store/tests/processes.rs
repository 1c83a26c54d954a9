//! Several processes and one store; processes that die.

mod scratch;

use carrack_store::{Store, StoreError};
use carrack_words::Kind;
use scratch::{Scratch, add_layer, diff, digest, expected, in_child, open};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Waits until the child says the word, so that nobody sleeps.
fn wait_for(child: &mut Child, word: &str) {
    let output = child.stdout.take().expect("its output is a pipe");
    for line in BufReader::new(output).lines() {
        if line.expect("its output is text").contains(word) {
            return;
        }
    }
    panic!("the child ended without saying {word:?}");
}

#[test]
fn child_dies_in_the_middle() {
    let Some(directory) = in_child() else { return };
    let store = open(&directory);
    let lease = store.leases().create("pull", None).unwrap();
    store.blobs().put(&lease, b"finished", &expected(b"finished")).unwrap();
    add_layer(&store, &lease, diff("finished")).unwrap();
    let mut ingest = store.blobs().ingest(&lease).unwrap();
    ingest.write_all(&[7; 1 << 20]).unwrap();
    let active = store.layers().prepare(&lease).unwrap();
    std::fs::write(active.path().join("half"), "").unwrap();
    let _lock = store.locks().acquire("pod", "p", Instant::now() + Duration::from_secs(5)).unwrap();
    println!("in the middle");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_process_leaves_nothing_that_a_collection_does_not_remove() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut child = scratch.child("child_dies_in_the_middle").stdout(Stdio::piped()).spawn().unwrap();
    wait_for(&mut child, "in the middle");
    let collected = store.gc().unwrap();
    assert_eq!((collected.blobs, collected.layers, collected.leftovers), (0, 0, 0), "it lives: everything stays");
    assert!(store.locks().try_acquire("pod", "p").unwrap().is_none());
    let error = store.locks().acquire("pod", "p", Instant::now()).unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.locks().try_acquire("pod", "p").unwrap().is_some());
    let again = scratch.open();
    let collected = again.gc().unwrap();
    assert_eq!((collected.blobs, collected.layers, collected.leftovers), (1, 1, 2));
    assert_eq!(
        (scratch.list("ingest"), scratch.list("layers/active"), scratch.list("blobs/sha256")),
        (vec![], vec![], vec![])
    );
    let lease = again.leases().create("pull", None).unwrap();
    assert_eq!(again.blobs().put(&lease, b"finished", &expected(b"finished")).unwrap().size_bytes, 8);
}

const ROUNDS: u64 = 25;

#[test]
fn child_works_beside_others() {
    let Some(directory) = in_child() else { return };
    let me = std::process::id();
    for round in 0..ROUNDS {
        // A store of its own each time, as a short command would have.
        let store = open(&directory);
        count_up(&store);
        store.events().append("test", &me.to_string(), "round", "{}").unwrap();
        let lease = store.leases().create("pull", None).unwrap();
        let shared = format!("blob {}", round % 5);
        if store.blobs().claim(&lease, &digest(shared.as_bytes())).unwrap().is_none() {
            store.blobs().put(&lease, shared.as_bytes(), &expected(shared.as_bytes())).unwrap();
        }
        // Held by the lease, it is there whatever the others collect.
        assert_eq!(store.blobs().read(&digest(shared.as_bytes()), 100).unwrap(), shared.as_bytes());
        let key = diff(&format!("layer {}", round % 3));
        let layer = match store.layers().claim(&lease, &key).unwrap() {
            Some(layer) => layer,
            None => add_layer(&store, &lease, key).unwrap(),
        };
        assert_eq!(std::fs::read_to_string(layer.path.join("file")).unwrap(), key.to_string());
        lease.release().unwrap();
        if round % 4 == 0 {
            store.gc().unwrap();
        }
    }
}

/// Adds one to a record, however many try at once.
fn count_up(store: &Store) {
    loop {
        let record = store.records().get("counter", "c").unwrap().expect("the parent made it");
        let next = record.json.parse::<u64>().unwrap() + 1;
        match store.records().update("counter", "c", record.revision, &next.to_string()) {
            Ok(_) => return,
            Err(StoreError::Stale { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn eight_processes_at_once_agree() {
    let scratch = Scratch::new();
    // Nobody has opened the store before them: they also race for making it.
    let mut first: Vec<Child> =
        (0..8).map(|_| scratch.child("child_only_opens").stdout(Stdio::null()).spawn().unwrap()).collect();
    for child in &mut first {
        assert!(child.wait().unwrap().success());
    }
    let store = scratch.open();
    store.records().insert("counter", "c", None, "0").unwrap();
    let mut children: Vec<Child> =
        (0..8).map(|_| scratch.child("child_works_beside_others").stdout(Stdio::null()).spawn().unwrap()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(store.records().get("counter", "c").unwrap().unwrap().json, (8 * ROUNDS).to_string());
    assert_eq!(store.events().since(0, 1000).unwrap().len() as u64, 8 * ROUNDS);
    assert!(store.check().unwrap().is_clean());
    store.gc().unwrap();
    assert_eq!(scratch.list("layers"), ["active", "trash"]);
    assert_eq!(
        (scratch.list("blobs/sha256"), scratch.list("ingest"), scratch.list("layers/trash")),
        (vec![], vec![], vec![])
    );
}

#[test]
fn child_only_opens() {
    let Some(directory) = in_child() else { return };
    open(&directory);
}

#[test]
fn child_writes_records() {
    let Some(directory) = in_child() else { return };
    let store = open(&directory);
    for number in 0..20 {
        let id = format!("c{number}");
        store.records().insert("container", &id, Some(&id), "{}").unwrap();
        store.records().update("container", &id, 1, "{\"state\":\"running\"}").unwrap();
        store.events().append("container", &id, "start", "{}").unwrap();
        store.holds().set(&format!("container:{id}"), &[]).unwrap();
    }
}

#[test]
fn child_syncs() {
    let Some(directory) = in_child() else { return };
    open(&directory).sync().unwrap();
}

/// Starting a pod and a container costs at most two syncs, so records must cost none.
#[test]
fn root_records_are_written_without_a_sync() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let Some(syncs) = syncs_of(&scratch, "child_writes_records") else { return };
    assert_eq!(store.records().list("container").unwrap().len(), 20);
    assert!(syncs.is_empty(), "{syncs:#?}");
    // And the way we count does see those of a durable commit: the log, and for the first time its directory.
    assert_eq!(syncs_of(&scratch, "child_syncs").map(|syncs| syncs.len()), Some(2));
}

/// The syncs of a child, one a line; `None` if they cannot be counted here.
fn syncs_of(scratch: &Scratch, test: &str) -> Option<Vec<String>> {
    let trace = scratch.0.join("trace");
    let child = scratch.child(test);
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync,msync,sync_file_range", "-o"]).arg(&trace);
    strace.arg(child.get_program()).args(child.get_args()).stdout(Stdio::null());
    for (name, value) in child.get_envs() {
        strace.env(name, value.expect("variables are only added"));
    }
    match strace.status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: root_records_are_written_without_a_sync: strace is not installed");
            return None;
        }
        status => assert!(status.unwrap().success()),
    }
    let calls = std::fs::read_to_string(&trace).unwrap();
    Some(calls.lines().filter(|line| line.contains("sync")).map(str::to_owned).collect())
}

#[test]
fn root_a_full_disk_is_named_and_leaves_a_working_store() {
    use carrack_sys::rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let scratch = Scratch::new();
    let root = scratch.0.join("root");
    std::fs::create_dir(&root).unwrap();
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=4m")).unwrap();
    {
        let store = scratch.open();
        let lease = store.leases().create("pull", None).unwrap();
        let mut ingest = store.blobs().ingest(&lease).unwrap();
        let error = ingest.write_all(&vec![1; 8 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let named = format!("write {}/ingest/", store.root().display());
        assert!(error.to_string().starts_with(&named), "{error}");
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>()).expect("a StoreError");
        assert_eq!(cause.kind(), Kind::Exhausted);
        drop(ingest);
        // A program that another test is just starting has a copy of the handle until it is executed.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = store.blobs().put(&lease, b"small", &expected(b"small")) {
            assert!(error.kind() == Kind::Exhausted && Instant::now() < deadline, "{error:?}");
        }
        // And with the database itself: whatever it says, it works again afterwards.
        let mut filler = store.blobs().ingest(&lease).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        let big = "x".repeat(1 << 20);
        let error = store.records().insert("container", "big", None, &big).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted, "{error:?}");
        drop(filler);
        store.records().insert("container", "small", None, "{}").unwrap();
        assert!(store.check().unwrap().is_clean());
    }
    unmount(&root, UnmountFlags::DETACH).unwrap();
}

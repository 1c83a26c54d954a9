//! One process and its store.

mod scratch;

use carrack_store::{CheckReport, Collected, Expected, ImageRecord, Record, Resource, Stack, Store, StoreError, Usage};
use carrack_words::{Kind, Timestamp};
use scratch::{FACTS, Scratch, add_layer, chain, diff, digest, expected};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

fn image(name: &str, config: &[u8]) -> ImageRecord {
    ImageRecord {
        name: name.to_owned(),
        manifest: digest(b"manifest"),
        manifest_size_bytes: 8,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        config: digest(config),
        record: "{}".to_owned(),
        created: Timestamp::from_nanoseconds(5),
    }
}

// ---- blobs

#[test]
fn a_blob_is_written_checked_and_found_again() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let mut ingest = store.blobs().ingest(&lease).unwrap();
    ingest.write_all(b"hello ").unwrap();
    ingest.write_all(b"world").unwrap();
    assert_eq!(ingest.written_bytes(), 11);
    let stat = ingest.finish(&expected(b"hello world")).unwrap().commit().unwrap();
    assert_eq!((stat.digest, stat.size_bytes), (digest(b"hello world"), 11));
    assert_eq!(store.blobs().stat(&stat.digest).unwrap(), Some(stat.clone()));
    assert_eq!(store.blobs().read(&stat.digest, 11).unwrap(), b"hello world");
    assert_eq!(store.blobs().list().unwrap(), std::slice::from_ref(&stat));
    assert_eq!(scratch.list("blobs/sha256"), [stat.digest.hex()]);
    assert_eq!(scratch.list("ingest"), [""; 0]);
    // Once more is no failure.
    assert_eq!(store.blobs().put(&lease, b"hello world", &expected(b"hello world")).unwrap().digest, stat.digest);
}

#[test]
fn a_wrong_blob_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let long = Expected { digest: digest(b"abc"), size_bytes: Some(4) };
    let error = store.blobs().put(&lease, b"abc", &long).unwrap_err();
    assert_eq!(error.to_string(), format!("blob {}: got 3 bytes, 4 were announced", long.digest));
    let other = Expected { digest: digest(b"abd"), size_bytes: Some(3) };
    let error = store.blobs().put(&lease, b"abc", &other).unwrap_err();
    assert_eq!(error.to_string(), format!("blob {}: the content's digest is {}", other.digest, digest(b"abc")));
    assert_eq!(error.kind(), Kind::DataLoss);
    let mut ingest = store.blobs().ingest(&lease).unwrap();
    ingest.limit(4);
    let error = ingest.write_all(b"12345").unwrap_err();
    assert_eq!(error.to_string(), "the blob exceeds its limit of 4 bytes");
    drop(ingest);
    assert_eq!((scratch.list("ingest"), scratch.list("blobs/sha256")), (vec![], vec![]));
    assert_eq!(store.blobs().claim(&lease, &digest(b"abc")).unwrap(), None);
    assert_eq!(store.blobs().open(&digest(b"abc")).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_blob_that_was_changed_on_disk_is_not_believed() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let good = store.blobs().put(&lease, b"good", &expected(b"good")).unwrap().digest;
    let gone = store.blobs().put(&lease, b"gone", &expected(b"gone")).unwrap().digest;
    assert!(store.check().unwrap().is_clean());
    std::fs::write(store.blobs().path(&good), b"evil").unwrap();
    std::fs::remove_file(store.blobs().path(&gone)).unwrap();
    assert!(matches!(store.blobs().read(&good, 100), Err(StoreError::WrongDigest { .. })));
    assert!(matches!(
        store.blobs().read(&good, 3),
        Err(StoreError::BlobTooLarge { size_bytes: 4, limit_bytes: 3, .. })
    ));
    assert_eq!(store.blobs().claim(&lease, &gone).unwrap(), None);
    let want = CheckReport { blobs: 2, damaged: vec![good], missing: vec![gone], missing_layers: vec![] };
    assert_eq!(store.check().unwrap(), want);
    // Fetching it again mends it.
    store.blobs().put(&lease, b"good", &expected(b"good")).unwrap();
    assert_eq!(store.blobs().read(&good, 100).unwrap(), b"good");
}

// ---- layers

#[test]
fn a_layer_is_prepared_committed_and_stacked() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let mut active = store.layers().prepare(&lease).unwrap();
    assert_eq!(std::fs::metadata(active.path()).unwrap().permissions().mode() & 0o7777, 0o755);
    std::fs::write(active.path().join("first"), "").unwrap();
    active.reset().unwrap();
    std::fs::write(active.path().join("second"), "").unwrap();
    let layer = active.commit(diff("a"), FACTS).unwrap();
    assert_eq!(store.layers().get(&diff("a")).unwrap(), Some(layer.clone()));
    assert_eq!(store.layers().get(&chain("a")).unwrap(), None, "the two keys of one digest differ");
    assert!(layer.path.join("second").exists() && !layer.path.join("first").exists());
    assert_eq!(scratch.list("layers/active"), [""; 0]);

    let mut middle = add_layer(&store, &lease, chain("b")).unwrap();
    let mut top = add_layer(&store, &lease, diff("c")).unwrap();
    let stack = store.layers().stack(&[layer.clone(), middle.clone(), top.clone()]);
    let lowers = vec![top.path.clone(), middle.path.clone(), layer.path.clone()];
    assert_eq!(stack, Stack { lowers, root_attributes: None });
    middle.facts.totals.root_opaque = true;
    top.facts.totals.root_listed = true;
    let stack = store.layers().stack(&[layer, middle.clone(), top.clone()]);
    assert_eq!(stack, Stack { lowers: vec![top.path.clone(), middle.path], root_attributes: Some(top.path) });
    assert_eq!(store.layers().stack(&[]), Stack { lowers: vec![], root_attributes: None });
}

#[test]
fn the_second_to_commit_a_layer_gets_the_first_ones() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let one = add_layer(&store, &lease, diff("a")).unwrap();
    let two = add_layer(&store, &lease, diff("a")).unwrap();
    assert_eq!(one, two);
    assert_eq!(scratch.list("layers").len(), 3, "the layer, active and trash");
    drop(store.layers().prepare(&lease).unwrap());
    assert_eq!((scratch.list("layers/active"), scratch.list("layers/trash")), (vec![], vec![]));
}

#[test]
fn the_upper_directory_gets_the_attributes_of_the_root() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let mut layer = add_layer(&store, &lease, diff("a")).unwrap();
    layer.facts.totals.root_listed = true;
    std::fs::set_permissions(&layer.path, std::fs::Permissions::from_mode(0o711)).unwrap();
    std::os::unix::fs::chown(&layer.path, Some(12), Some(34)).unwrap();
    let upper = scratch.0.join("upper");
    std::fs::create_dir(&upper).unwrap();
    store.layers().stack(&[layer]).give_root_attributes(&upper).unwrap();
    let stat = std::fs::metadata(&upper).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o711, 12, 34));
}

// ---- who needs what

#[test]
fn what_is_held_stays_and_the_rest_is_collected() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("pull", None).unwrap();
    let blob = |text: &str| store.blobs().put(&lease, text.as_bytes(), &expected(text.as_bytes())).unwrap().digest;
    let (config, other) = (blob("config"), blob("other"));
    let (kept, used, lost) = (diff("kept"), chain("used"), diff("lost"));
    for key in [kept, used, lost] {
        add_layer(&store, &lease, key).unwrap();
    }
    assert_eq!(store.gc().unwrap(), Collected::default(), "the lease holds everything");
    store.images().put(&image("a:1", b"config"), &[Resource::Blob(config), Resource::Layer(kept)]).unwrap();
    store.holds().set("container:c", &[Resource::Layer(used)]).unwrap();
    let error = store.blobs().delete(&config).unwrap_err();
    assert_eq!(error.kind(), Kind::Precondition);
    lease.release().unwrap();
    assert_eq!(store.gc().unwrap(), Collected { blobs: 1, layers: 1, bytes: 5 + 4, leftovers: 0 });
    assert_eq!(store.blobs().stat(&other).unwrap(), None);
    assert_eq!(store.usage().unwrap(), Usage { blobs: 1, blob_bytes: 6, layers: 2, layer_bytes: 8, layer_inodes: 6 });
    assert_eq!(store.holds().holders(&Resource::Layer(used)).unwrap(), ["container:c"]);
    assert_eq!(store.images().resources("a:1").unwrap(), [Resource::Blob(config), Resource::Layer(kept)]);
    store.holds().release("container:c").unwrap();
    assert!(store.images().remove("a:1").unwrap() && !store.images().remove("a:1").unwrap());
    store.gc().unwrap();
    assert_eq!(store.usage().unwrap(), Usage::default());
    assert_eq!(
        (scratch.list("blobs/sha256"), scratch.list("layers")),
        (vec![], vec!["active".to_owned(), "trash".to_owned()])
    );
}

#[test]
fn a_lease_ends_with_its_time_and_a_dropped_one_at_once() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let short = store.leases().create("short", Some(Duration::ZERO)).unwrap();
    let long = store.leases().create("long", Some(Duration::from_secs(3600))).unwrap();
    store.blobs().put(&short, b"1", &expected(b"1")).unwrap();
    store.blobs().put(&long, b"2", &expected(b"2")).unwrap();
    assert_eq!(store.gc().unwrap().blobs, 1);
    assert!(store.blobs().stat(&digest(b"2")).unwrap().is_some());
    // What is committed in the name of a lease that has ended is not held by anybody.
    store.blobs().put(&short, b"1", &expected(b"1")).unwrap();
    assert_eq!(store.gc().unwrap().blobs, 1);
    long.renew(Duration::ZERO).unwrap();
    assert_eq!(store.gc().unwrap().blobs, 1);
}

#[test]
fn leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let lease = store.leases().create("test", None).unwrap();
    let root = store.root().to_owned();
    let living = (store.blobs().ingest(&lease).unwrap(), store.layers().prepare(&lease).unwrap());
    std::fs::write(root.join("ingest/dead"), "half").unwrap();
    std::fs::create_dir_all(root.join("layers/active/dead/fs/etc")).unwrap();
    std::fs::create_dir_all(root.join("layers/deadbeef/fs")).unwrap();
    std::fs::create_dir_all(root.join("layers/trash/dead/fs")).unwrap();
    let orphan = digest(b"renamed but not recorded");
    std::fs::write(store.blobs().path(&orphan), "x").unwrap();
    assert_eq!(store.gc().unwrap().leftovers, 5);
    assert_eq!((scratch.list("ingest").len(), scratch.list("layers/active").len()), (1, 1));
    assert_eq!(scratch.list("layers"), ["active", "trash"]);
    assert_eq!((scratch.list("layers/trash"), scratch.list("blobs/sha256")), (vec![], vec![]));
    drop(living);
}

// ---- after a crash of the machine

#[test]
fn what_was_not_promoted_is_verified_or_dropped_after_a_reboot() {
    let scratch = Scratch::new();
    let store = scratch.open_in_boot("one");
    let lease = store.leases().create("pull", Some(Duration::from_secs(3600))).unwrap();
    store.blobs().put(&lease, b"old", &expected(b"old")).unwrap();
    add_layer(&store, &lease, diff("old")).unwrap();
    let promoted = store.promote().unwrap();
    assert_eq!((promoted.blobs, promoted.layers), (1, 1));
    assert_eq!(store.promote().unwrap(), Default::default());
    for text in ["whole", "torn"] {
        store.blobs().put(&lease, text.as_bytes(), &expected(text.as_bytes())).unwrap();
    }
    let lost = add_layer(&store, &lease, diff("new")).unwrap();
    // The power cut: one blob's bytes never arrived.
    std::fs::write(store.blobs().path(&digest(b"torn")), [0; 4]).unwrap();
    let reopened = scratch.open_in_boot("one");
    assert!(reopened.layers().get(&diff("new")).unwrap().is_some(), "the same boot still has it");
    drop((store, reopened));

    let store = scratch.open_in_boot("two");
    let there = |text: &str| store.blobs().stat(&digest(text.as_bytes())).unwrap().is_some();
    assert_eq!((there("old"), there("whole"), there("torn")), (true, true, false));
    assert!(store.layers().get(&diff("old")).unwrap().is_some());
    assert_eq!(store.layers().get(&diff("new")).unwrap(), None);
    assert!(!lost.path.exists());
    let promoted = store.promote().unwrap();
    assert_eq!((promoted.blobs, promoted.layers), (1, 0));
    // Made anew under the same key, it is held as before.
    let lease_of_two = store.leases().create("again", None).unwrap();
    add_layer(&store, &lease_of_two, diff("new")).unwrap();
    drop(lease_of_two);
    assert_eq!(store.gc().unwrap().layers, 0);
    drop(lease);
}

#[test]
fn a_lease_of_a_process_of_another_boot_is_dead() {
    let scratch = Scratch::new();
    let store = scratch.open_in_boot("one");
    let lease = store.leases().create("pull", None).unwrap();
    store.blobs().put(&lease, b"1", &expected(b"1")).unwrap();
    let after = scratch.open_in_boot("two");
    assert_eq!(after.gc().unwrap().blobs, 1);
}

// ---- images

#[test]
fn images_are_found_by_name_id_and_prefix_and_listed_in_the_layout() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (one, two) = (image("a:1", b"one"), image("b:1", b"two"));
    let alias = ImageRecord { name: "c:1".to_owned(), ..one.clone() };
    for image in [&one, &two, &alias] {
        store.images().put(image, &[]).unwrap();
    }
    assert_eq!(store.images().get("a:1").unwrap(), Some(one.clone()));
    assert_eq!(store.images().get("a:2").unwrap(), None);
    assert_eq!(store.images().by_config(&one.config).unwrap(), [one.clone(), alias.clone()]);
    assert_eq!(store.images().by_config_prefix(&two.config.hex()[..8]).unwrap(), std::slice::from_ref(&two));
    assert_eq!(store.images().list().unwrap(), [one, two.clone(), alias]);
    let moved = ImageRecord { config: two.config, ..image("a:1", b"one") };
    store.images().put(&moved, &[]).unwrap();
    assert_eq!(store.images().get("a:1").unwrap(), Some(moved));
    store.images().remove("c:1").unwrap();

    let read = |name: &str| std::fs::read_to_string(store.root().join(name)).unwrap();
    assert_eq!(read("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value = serde_json::from_str(&read("index.json")).unwrap();
    let names: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["annotations"]["org.opencontainers.image.ref.name"].clone())
        .collect();
    assert_eq!(names, ["a:1", "b:1"]);
    assert_eq!(index["manifests"][0]["digest"], digest(b"manifest").to_string());
}

// ---- records and events

#[test]
fn records_have_unique_ids_and_names_and_notice_each_others_changes() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let records = store.records();
    assert_eq!(records.insert("container", "abc", Some("web"), "{}").unwrap(), 1);
    records.insert("container", "abd", None, "{}").unwrap();
    records.insert("container", "x", None, "{}").unwrap();
    records.insert("pod", "abc", Some("web"), "{}").unwrap();
    let taken = records.insert("container", "abc", None, "{}").unwrap_err();
    assert_eq!((taken.kind(), taken.to_string()), (Kind::AlreadyExists, "the container abc exists already".to_owned()));
    let named = records.insert("container", "y", Some("web"), "{}").unwrap_err();
    assert_eq!(named.to_string(), "the container name \"web\" is in use by abc");
    assert_eq!(records.update("container", "abc", 1, "{\"a\":1}").unwrap(), 2);
    assert_eq!(records.update("container", "abc", 1, "{}").unwrap_err().kind(), Kind::Busy);
    assert_eq!(records.update("container", "none", 1, "{}").unwrap_err().kind(), Kind::NotFound);
    let want = Record {
        kind: "container".to_owned(),
        id: "abc".to_owned(),
        name: Some("web".to_owned()),
        revision: 2,
        json: "{\"a\":1}".to_owned(),
    };
    assert_eq!(records.get("container", "abc").unwrap(), Some(want.clone()));
    assert_eq!(records.by_name("container", "web").unwrap(), Some(want));
    let ids = |records: Vec<Record>| records.into_iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(records.by_prefix("container", "ab").unwrap()), ["abc", "abd"]);
    assert_eq!(ids(records.list("container").unwrap()), ["abc", "abd", "x"]);
    records.rename("container", "abc", None).unwrap();
    records.rename("container", "x", Some("web")).unwrap();
    assert_eq!(records.rename("container", "abd", Some("web")).unwrap_err().kind(), Kind::AlreadyExists);
    assert_eq!(records.rename("container", "none", None).unwrap_err().kind(), Kind::NotFound);
    assert!(records.delete("container", "abc").unwrap() && !records.delete("container", "abc").unwrap());
}

#[test]
fn events_keep_their_order_and_are_bounded() {
    let scratch = Scratch::new();
    let store = scratch.open();
    assert_eq!(store.events().last().unwrap(), 0);
    let first = store.events().append("container", "a", "start", "{}").unwrap();
    let second = store.events().append("container", "a", "die", "{\"exit\":0}").unwrap();
    let actions = |from, limit| {
        let events = store.events().since(from, limit).unwrap();
        events.into_iter().map(|event| event.action).collect::<Vec<_>>()
    };
    assert_eq!(actions(0, 10), ["start", "die"]);
    assert_eq!(actions(0, 1), ["start"]);
    assert_eq!(actions(first, 10), ["die"]);
    assert_eq!(store.events().last().unwrap(), second);
    for _ in 0..300 {
        store.events().append("x", "y", "z", "").unwrap();
    }
    store.events().trim(5).unwrap();
    assert_eq!(actions(0, 100).len(), 5);
}

#[test]
fn a_watch_tells_whether_anything_was_committed() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let watch = store.watch().unwrap();
    assert!(!watch.changed().unwrap());
    store.records().insert("container", "a", None, "{}").unwrap();
    assert!(watch.changed().unwrap() && !watch.changed().unwrap());
    scratch.open().events().append("x", "y", "z", "").unwrap();
    assert!(watch.changed().unwrap());
}

// ---- opening

#[test]
fn nothing_in_the_store_is_for_others() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for path in [store.root(), store.run(), &store.root().join("layers"), &store.root().join("blobs")] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_newer_database_and_a_damaged_one_are_refused_by_name() {
    let scratch = Scratch::new();
    let path = scratch.open().root().join("carrack.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let open = || Store::open(&scratch.0.join("root"), &scratch.0.join("run")).unwrap_err();
    assert_eq!(open().kind(), Kind::Unsupported);
    assert!(open().to_string().contains("carrack.db has version 99, this program knows up to 1"), "{}", open());
    for file in ["carrack.db-wal", "carrack.db-shm"] {
        let _ = std::fs::remove_file(path.with_file_name(file));
    }
    std::fs::write(&path, b"this is no database at all".repeat(100)).unwrap();
    assert_eq!(open().kind(), Kind::DataLoss, "{}", open());
}

#[test]
fn a_sync_changes_nothing_that_can_be_seen() {
    let scratch = Scratch::new();
    let store = scratch.open();
    store.records().insert("volume", "data", None, "{}").unwrap();
    store.sync().unwrap();
    store.sync().unwrap();
    assert_eq!(scratch.open().records().list("volume").unwrap().len(), 1);
}

//! Pulls from a registry that does as the tests say. They unpack, so they need root.

#[path = "../../registry/tests/server/mod.rs"]
mod server;

mod fake;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use carrack_image::{Force, ImageError, Names, Progress, PullEvent};
use carrack_words::{Digest, ImageQuery, Kind};
use fake::{
    CONFIG, Entry, FakeImage, FakeRegistry, INDEX, LAYER, MANIFEST, TempDir, anonymous, chain, descriptor, digest,
    images, leftovers, open, tar,
};
use server::Reply;

fn base() -> Vec<u8> {
    tar(&[
        Entry::Dir("bin"),
        Entry::File("bin/sh", b"#!shell"),
        Entry::Dir("usr"),
        Entry::Dir("usr/lib"),
        Entry::Symlink("lib", "usr/lib"),
    ])
}

fn app() -> Vec<u8> {
    tar(&[Entry::Dir("app"), Entry::File("app/data", &[7; 100_000])])
}

fn two_layers() -> FakeImage {
    FakeImage::new("amd64", &[base(), app()])
}

fn query(text: &str) -> ImageQuery {
    text.parse().unwrap()
}

#[derive(Default)]
struct Heard(Mutex<Vec<PullEvent>>);

impl Progress for Heard {
    fn event(&self, event: &PullEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// Waits until `condition` holds; a minute is far more than it takes.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_image_is_pulled_found_and_ready_to_be_mounted() {
    let (image, home) = (two_layers(), TempDir::new());
    let registry = FakeRegistry::with("1", &image);
    let (store, heard) = (open(&home.0), Arc::new(Heard::default()));
    let images = images(&store);
    let name = registry.name("1");
    let got = images.pull(&name, anonymous(), heard.clone()).await.unwrap();

    assert_eq!((got.id, got.manifest_digest), (image.id(), digest(&image.manifest)));
    assert_eq!(
        (&got.repo_tags, &got.repo_digests),
        (&vec![name.clone()], &vec![name.with_digest(digest(&image.manifest))])
    );
    assert_eq!(got.platform.to_string(), "linux/amd64");
    assert_eq!(got.run_defaults().cmd, ["/bin/sh"]);
    assert_eq!((got.compressed_bytes, got.unpacked_bytes), ((base().len() + app().len()) as u64, 100_007));
    let stack = images.rootfs(&got).unwrap();
    assert_eq!(stack.lowers.len(), 2);
    assert_eq!(std::fs::read(stack.lowers[0].join("app/data")).unwrap(), [7; 100_000]);
    assert_eq!(std::fs::read(stack.lowers[1].join("bin/sh")).unwrap(), b"#!shell");

    let hex = got.id.hex();
    for text in
        [name.to_string(), got.id.to_string(), hex.clone(), hex[..6].to_owned(), got.repo_digests[0].to_string()]
    {
        assert_eq!(images.find(&query(&text)).unwrap(), got, "{text}");
    }
    assert_eq!(images.list().unwrap(), std::slice::from_ref(&got));
    assert!(matches!(images.find(&query("nothing")), Err(ImageError::NotFound { .. })));

    let heard = heard.0.lock().unwrap();
    assert_eq!(heard.first(), Some(&PullEvent::Resolved { digest: digest(&image.manifest) }));
    assert_eq!(heard.last(), Some(&PullEvent::Done { id: got.id }));
    for layer in [base(), app()] {
        let (digest, size_bytes) = (digest(&layer), layer.len() as u64);
        for event in [
            PullEvent::LayerQueued { digest, size_bytes },
            PullEvent::LayerProgress { digest, bytes: size_bytes },
            PullEvent::LayerDownloaded { digest },
            PullEvent::LayerUnpacked { digest },
        ] {
            assert_eq!(heard.iter().filter(|heard| **heard == event).count(), 1, "{event:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_is_here_is_not_fetched_again() {
    let (image, home) = (two_layers(), TempDir::new());
    let registry = FakeRegistry::with("1", &image);
    let store = open(&home.0);
    images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    let before = registry.server.asked().len();
    images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    let after = &registry.server.asked()[before..];
    assert_eq!(after.iter().map(|asked| asked.method.as_str()).collect::<Vec<_>>(), ["HEAD"]);

    // Another image with one layer more fetches that one, its configuration and its manifest.
    let more = tar(&[Entry::File("more", b"x")]);
    registry.content.lock().unwrap().add("2", &FakeImage::new("amd64", &[base(), app(), more]));
    let before = registry.blob_gets();
    images(&store).pull(&registry.name("2"), anonymous(), Arc::new(())).await.unwrap();
    assert_eq!(registry.blob_gets() - before, 2);

    // By digest nothing at all is asked.
    let pinned = registry.name("1").with_digest(digest(&image.manifest));
    let before = registry.server.asked().len();
    images(&store).pull(&pinned, anonymous(), Arc::new(())).await.unwrap();
    assert_eq!(registry.server.asked().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_index_gives_the_wanted_platform_also_when_nested() {
    let (amd, arm, home) = (FakeImage::new("amd64", &[base()]), FakeImage::new("arm64", &[app()]), TempDir::new());
    let registry = FakeRegistry::start();
    let entry = |image: &FakeImage, architecture: &str| {
        let platform = format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}}}"#);
        descriptor(MANIFEST, &image.manifest).trim_end_matches('}').to_owned() + &platform
    };
    let index = |entries: &[String]| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","))
    };
    let inner = index(&[entry(&amd, "amd64"), entry(&arm, "arm64")]).into_bytes();
    let outer = index(&[descriptor(INDEX, &inner)]).into_bytes();
    {
        let mut content = registry.content.lock().unwrap();
        content.add("amd", &amd);
        content.add("arm", &arm);
        content.add_manifest("inner", INDEX, &inner);
        content.add_manifest("outer", INDEX, &outer);
    }
    let store = open(&home.0);
    let images = images(&store);
    let with = |text: &str| {
        let platform = Some(text.parse().unwrap());
        carrack_image::PullOptions { platform, ..anonymous() }
    };
    for (tag, top) in [("inner", &inner), ("outer", &outer)] {
        let got = images.pull(&registry.name(tag), with("linux/arm64"), Arc::new(())).await.unwrap();
        assert_eq!((got.id, got.manifest_digest), (arm.id(), digest(&arm.manifest)));
        assert!(got.repo_digests.contains(&registry.name(tag).with_digest(digest(top))));
        let got = images.pull(&registry.name(tag), with("linux/amd64"), Arc::new(())).await.unwrap();
        assert_eq!(got.id, amd.id());
    }
    let error = images.pull(&registry.name("inner"), with("linux/s390x"), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let want = format!(
        "pull {}: there is no image for linux/s390x, only for linux/amd64, linux/arm64",
        registry.name("inner")
    );
    assert_eq!(chain(&error), want);
    let error = images.pull(&registry.name("amd"), with("linux/arm64"), Arc::new(())).await.unwrap_err();
    assert!(
        chain(&error).ends_with("the image is for linux/amd64, and linux/arm64 was asked for"),
        "{}",
        chain(&error)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn root_wrong_bytes_leave_nothing_and_a_second_attempt_works() {
    let image = two_layers();
    let layer = app();
    let mut flipped = layer.clone();
    flipped[600] ^= 1;
    // The header's checksum breaks: the unpacker is the first to notice, and the digest is what is told.
    let mut broken = layer.clone();
    broken[3] ^= 1;
    let id = digest(&layer);
    let wrong_digest = |bytes: &[u8]| format!("blob {id}: the content's digest is {}", digest(bytes));
    for (reply, kind, want) in [
        (Reply::ok(flipped.clone()), Kind::DataLoss, wrong_digest(&flipped)),
        (Reply::ok(broken.clone()), Kind::DataLoss, wrong_digest(&broken)),
        (
            Reply::ok(layer[..5000].to_vec()),
            Kind::DataLoss,
            format!("has 5000 bytes, and the manifest says {}", layer.len()),
        ),
        (
            Reply { unannounced: true, ..Reply::ok([&layer[..], b"x"].concat()) },
            Kind::DataLoss,
            format!("has more bytes, and the manifest says {}", layer.len()),
        ),
        (
            Reply { unannounced: true, ..Reply::ok(layer[..5000].to_vec()) },
            Kind::DataLoss,
            format!("breaks off after 5000 of {} bytes", layer.len()),
        ),
        (Reply::status(404), Kind::NotFound, format!("has no blob {id} of app")),
    ] {
        let (registry, home) = (FakeRegistry::with("1", &image), TempDir::new());
        let store = open(&home.0);
        registry.set_blob(&layer, reply);
        let error = images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert!(chain(&error).contains(&want), "{} does not say {want}", chain(&error));
        assert_eq!(leftovers(&home.0), Vec::<std::path::PathBuf>::new(), "after {}", chain(&error));
        assert_eq!(images(&store).list().unwrap(), []);

        registry.set_blob(&layer, Reply::ok(layer.clone()));
        images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_documents_that_lie_are_refused_and_leave_nothing() {
    let image = two_layers();
    let lying = |config: &str| FakeImage::with_config(config.as_bytes().to_vec(), &[app()]);
    let other = digest(b"other");
    let wrong_diff_id = lying(&format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{other}"]}}}}"#
    ));
    let too_few = lying(r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}"#);
    let text = |image: &FakeImage| String::from_utf8(image.manifest.clone()).unwrap();
    let path_digest = text(&image).replace(&digest(&app()).to_string(), "sha256:../../../../etc/passwd");
    let artifact = text(&image).replace(CONFIG, "application/vnd.cncf.helm.config.v1+json");
    let strange_layer = text(&image).replace(LAYER, "application/vnd.wasm.content.layer.v1+wasm");
    let escaping = FakeImage::new("amd64", &[tar(&[Entry::File("../evil", b"x")])]);
    for (image, manifest, media_type, kind, want) in [
        (
            &wrong_diff_id,
            text(&wrong_diff_id),
            MANIFEST,
            Kind::DataLoss,
            format!("layer {0} unpacks to {0}, and the configuration says {other}", digest(&app())),
        ),
        (
            &too_few,
            text(&too_few),
            MANIFEST,
            Kind::Invalid,
            "the manifest lists layers: 1, and the configuration: 0".into(),
        ),
        (&image, path_digest, MANIFEST, Kind::Invalid, "a digest in it is invalid".into()),
        (&image, artifact, MANIFEST, Kind::Unsupported, "not a container image".into()),
        (&image, strange_layer, MANIFEST, Kind::Unsupported, "which cannot be unpacked".into()),
        (
            &image,
            r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"x"}]}"#.into(),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            Kind::Unsupported,
            "Docker's manifest format version 2, schema 1".into(),
        ),
        (&image, " ".repeat(5 << 20), MANIFEST, Kind::Invalid, "is larger than 4194304 bytes".into()),
        (&image, text(&image), INDEX, Kind::Invalid, "was announced as".into()),
        (&escaping, text(&escaping), MANIFEST, Kind::Invalid, "the name contains \"..\"".into()),
    ] {
        let (registry, home) = (FakeRegistry::with("1", image), TempDir::new());
        registry.content.lock().unwrap().add_manifest("1", media_type, manifest.as_bytes());
        let store = open(&home.0);
        let error = images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap_err();
        assert!(chain(&error).contains(&want), "{} does not say {want}", chain(&error));
        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert_eq!(leftovers(&home.0), Vec::<std::path::PathBuf>::new(), "after {}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_many_callers_share_one_pull_in_one_process_and_over_processes() {
    let (image, home) = (two_layers(), TempDir::new());
    let registry = FakeRegistry::with("1", &image);
    // Two stores opened on one directory share nothing in memory, as two processes do.
    let (here, there) = (images(&open(&home.0)), images(&open(&home.0)));
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..10 {
        let images = if number % 2 == 0 { here.clone() } else { there.clone() };
        let name = registry.name("1");
        callers.spawn(async move { images.pull(&name, anonymous(), Arc::new(())).await.map(|image| image.id) });
    }
    while let Some(ended) = callers.join_next().await {
        assert_eq!(ended.unwrap().unwrap(), image.id());
    }
    for layer in &image.layers {
        assert_eq!(registry.server.count("GET", &digest(layer).to_string()), 1);
    }
    // A pull for each of the two "processes", and not one for each caller.
    assert!(registry.server.count("HEAD", "/manifests/") <= 2, "{:?}", registry.server.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_after_a_fault_of_the_registry_whole_layers_are_not_fetched_again() {
    let (image, home) = (two_layers(), TempDir::new());
    let registry = FakeRegistry::with("1", &image);
    let store = open(&home.0);
    registry.set_blob(&app(), Reply::status(503));
    let error = images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let base_digest = digest(&base()).to_string();
    assert_eq!(registry.server.count("GET", &base_digest), 1);
    registry.set_blob(&app(), Reply::ok(app()));
    images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    assert_eq!(registry.server.count("GET", &base_digest), 1);
}

/// A registry whose last layer stops half-way until it is told to go on.
fn stalling() -> (FakeImage, FakeRegistry) {
    let image = two_layers();
    let registry = FakeRegistry::with("1", &image);
    registry.set_blob(&app(), Reply { stall_after: Some(50_000), ..Reply::ok(app()) });
    (image, registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_pull_that_is_dropped_stops_and_cleans_up() {
    let ((_, registry), home) = (stalling(), TempDir::new());
    let store = open(&home.0);
    let images = images(&store);
    let heard = Arc::new(Heard::default());
    let (name, listener) = (registry.name("1"), heard.clone());
    let there = images.clone();
    let pull = tokio::spawn(async move { there.pull(&name, anonymous(), listener).await.map(|_| ()) });
    let layer = digest(&app());
    let is_half_way = |event: &PullEvent| matches!(event, PullEvent::LayerProgress { digest, .. } if *digest == layer);
    until("half a layer", || heard.0.lock().unwrap().iter().any(is_half_way)).await;
    // A collection in the middle takes nothing that the pull needs.
    store.gc().unwrap();
    assert!(!leftovers(&home.0).is_empty());
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    until("an end of the work", || {
        store.gc().unwrap();
        leftovers(&home.0).is_empty()
    })
    .await;
    registry.set_blob(&app(), Reply::ok(app()));
    images.pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_one_of_two_callers_may_leave() {
    let ((image, registry), home) = (stalling(), TempDir::new());
    let images = images(&open(&home.0));
    let (first, second) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
    let start = |heard: &Arc<Heard>| {
        let (images, name, heard) = (images.clone(), registry.name("1"), heard.clone());
        tokio::spawn(async move { images.pull(&name, anonymous(), heard).await.map(|image| image.id) })
    };
    let layer = digest(&app());
    let is_half_way = |event: &PullEvent| matches!(event, PullEvent::LayerProgress { digest, .. } if *digest == layer);
    let leaver = start(&first);
    until("the first's half layer", || first.0.lock().unwrap().iter().any(is_half_way)).await;
    let stayer = start(&second);
    // Joined late, and told how things stand.
    until("the second's half layer", || second.0.lock().unwrap().iter().any(is_half_way)).await;
    leaver.abort();
    // The connection that stalls is closed when the registry forgets it; the stayer resumes on a new one.
    registry.set_blob(&app(), Reply::ok(app()));
    drop(leaver.await);
    registry.server.cut();
    assert_eq!(stayer.await.unwrap().unwrap(), image.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_layers_that_depend_on_others_are_fitted_in() {
    let home = TempDir::new();
    // lib/new.so without its parent, which below is a link; a whiteout that hides something and one that hides nothing; an empty layer, twice.
    let through_link = tar(&[Entry::File("lib/new.so", b"so")]);
    let removing = tar(&[Entry::Dir("bin"), Entry::Whiteout("bin/.wh.sh"), Entry::Whiteout("bin/.wh.nothing")]);
    let empty = tar(&[]);
    let image = FakeImage::new("amd64", &[base(), through_link, empty.clone(), removing, empty]);
    let registry = FakeRegistry::with("1", &image);
    let images = images(&open(&home.0));
    let got = images.pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    let stack = images.rootfs(&got).unwrap();
    let listing = |at: usize, below: &str| {
        let mut names: Vec<String> = std::fs::read_dir(stack.lowers[at].join(below))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    assert_eq!(stack.lowers.len(), 5);
    assert_eq!((listing(3, ""), listing(3, "usr/lib")), (vec!["usr".to_owned()], vec!["new.so".to_owned()]));
    assert_eq!(listing(1, "bin"), ["sh"]);
    assert_eq!(stack.lowers[0], stack.lowers[2]);
    assert_eq!(registry.blob_gets(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_names_come_and_go_and_the_last_takes_the_image_along() {
    let (image, home) = (two_layers(), TempDir::new());
    let registry = FakeRegistry::with("1", &image);
    let store = open(&home.0);
    let images = images(&store);
    let name = registry.name("1");
    let got = images.pull(&name, anonymous(), Arc::new(())).await.unwrap();
    images.tag(&query(&got.id.hex()[..8]), &"other:2".parse().unwrap()).unwrap();
    let nobody = |_: &Digest| Vec::new();
    let somebody = |_: &Digest| vec!["web".to_owned()];

    let error = images.tag(&query("other:2"), &got.repo_digests[0]).unwrap_err();
    assert!(matches!(error, ImageError::NameWithDigest { .. }));
    let error = images.remove(&query(&got.id.hex()), Names::This, Force::No, nobody).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("image {} has several names: {name}, other:2: name one of them, or force its removal", got.id)
    );
    // A name goes though a container uses the image, since another name stays.
    let removed = images.remove(&query(&name.to_string()), Names::This, Force::No, somebody).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (2, None));
    let error = images.remove(&query("other:2"), Names::This, Force::No, somebody).unwrap_err();
    assert_eq!(error.to_string(), "image other:2 is in use by web");
    assert_eq!(error.kind(), Kind::Precondition);

    // By force the name goes, and what the container holds stays.
    store.holds().set("container:web", &got.resources()).unwrap();
    let removed = images.remove(&query("other:2"), Names::This, Force::Yes, nobody).unwrap();
    assert_eq!(removed.deleted, Some(got.id));
    assert_eq!(images.list().unwrap(), []);
    assert_eq!(images.rootfs(&got).unwrap().lowers.len(), 2);
    store.holds().release("container:web").unwrap();
    store.gc().unwrap();
    assert_eq!(leftovers(&home.0), Vec::<std::path::PathBuf>::new());

    images.pull(&name, anonymous(), Arc::new(())).await.unwrap();
    images.tag(&query(&name.to_string()), &"other:2".parse().unwrap()).unwrap();
    let removed = images.remove(&query("other:2"), Names::All, Force::No, nobody).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (3, Some(got.id)));
    assert_eq!(leftovers(&home.0), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_layer_that_was_lost_is_made_anew() {
    let home = TempDir::new();
    let removing = tar(&[Entry::Dir("bin"), Entry::Whiteout("bin/.wh.sh")]);
    let registry = FakeRegistry::with("1", &FakeImage::new("amd64", &[base(), removing]));
    let store = open(&home.0);
    let images = images(&store);
    let got = images.pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    for path in images.rootfs(&got).unwrap().lowers {
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
    let stack = images.rootfs(&got).unwrap();
    assert_eq!(std::fs::read(stack.lowers[1].join("bin/sh")).unwrap(), b"#!shell");
    store.gc().unwrap();
    assert_eq!(images.rootfs(&got).unwrap(), stack);

    // Without the blob there is nothing to make it from; a pull mends it.
    let lost = got.layers[0].blob.digest;
    std::fs::remove_dir_all(stack.lowers[1].parent().unwrap()).unwrap();
    std::fs::remove_file(store.blobs().path(&lost)).unwrap();
    let error = images.rootfs(&got).unwrap_err();
    assert_eq!(error.to_string(), format!("image {} lost its layer {lost}: pull it again", got.id));
    images.pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    images.rootfs(&got).unwrap();
}

/// A tmpfs of a given size, unmounted with it.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Self {
        let home = TempDir::new();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"])
            .arg(&home.0)
            .status();
        assert!(status.unwrap().success());
        Self(home)
    }

    fn resize(&self, size: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_full_disk_is_told_leaves_nothing_and_a_second_attempt_works() {
    let disk = Tmpfs::mount("6m");
    let root: &Path = &disk.0.0;
    let big = vec![9; 2_500_000];
    // The blob of the second layer fits, and unpacking it does not.
    let layers = [base(), tar(&[Entry::File("big", &big)]), tar(&[Entry::File("bigger", &big)])];
    let image = FakeImage::new("amd64", &layers);
    let registry = FakeRegistry::with("1", &image);
    let store = open(root);
    let error = images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{}", chain(&error));
    assert!(chain(&error).contains("No space left on device"), "{}", chain(&error));
    assert_eq!(leftovers(root), Vec::<std::path::PathBuf>::new());
    disk.resize("40m");
    let got = images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    assert_eq!(got.id, image.id());
}

/// Not a test of its own: what the next one kills.
#[tokio::test(flavor = "multi_thread")]
async fn root_child_that_pulls() {
    let (Ok(home), Ok(name)) = (std::env::var("CARRACK_TEST_HOME"), std::env::var("CARRACK_TEST_IMAGE")) else {
        return;
    };
    let pulled = images(&open(Path::new(&home))).pull(&name.parse().unwrap(), anonymous(), Arc::new(())).await;
    panic!("the registry stalls, so this cannot end: {pulled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_pull_that_was_killed_leaves_nothing_that_stays_and_a_second_attempt_works() {
    let ((image, registry), home) = (stalling(), TempDir::new());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "root_child_that_pulls"])
        .env("CARRACK_TEST_HOME", &home.0)
        .env("CARRACK_TEST_IMAGE", registry.name("1").to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let half_way = || {
        let ingest = std::fs::read_dir(home.0.join("root/ingest"));
        ingest
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.metadata().is_ok_and(|file| file.len() >= 49_000)))
    };
    until("half a layer", half_way).await;
    child.kill().unwrap();
    child.wait().unwrap();

    let store = open(&home.0);
    assert!(!leftovers(&home.0).is_empty());
    store.gc().unwrap();
    assert_eq!(leftovers(&home.0), Vec::<std::path::PathBuf>::new());
    registry.set_blob(&app(), Reply::ok(app()));
    let got = images(&store).pull(&registry.name("1"), anonymous(), Arc::new(())).await.unwrap();
    assert_eq!(got.id, image.id());
}

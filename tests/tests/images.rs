//! Pulling and unpacking: real registries, real archives, and everything that can be wrong with them.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use carrack_tests::command::{DEADLINE, run};
use carrack_tests::cri::{container_config, pod_config};
use carrack_tests::image::tarball::Entry;
use carrack_tests::image::{self, Builder, Family, Packing, Tarball, index_of, peers};
use carrack_tests::node::{Node, with_busybox};
use carrack_tests::place::Place;
use carrack_tests::registry::certificate::Certificate;
use carrack_tests::registry::debian::{PASSWORD, USER};
use carrack_tests::registry::{DebianRegistry, Fault, TokenServer};
use carrack_tests::{programs, skip, tree};

/// Runs `work` with the root filesystem of a running container of `image`, as the host sees it.
fn with_rootfs(node: &Node, image: &str, helper: &str, work: impl FnOnce(&Path)) {
    // The image itself may have no program: a static one is brought in from outside.
    let busybox = programs::busybox();
    let mount = format!("{}:{helper}:ro", busybox.display());
    node.ok(&["run", "-d", "--name", "look", "-v", &mount, "--entrypoint", helper, image, "sleep", "1000"]);
    let root = PathBuf::from(format!("/proc/{}/root", node.process_of("look")));
    work(&root);
    node.ok(&["rm", "-f", "look"]);
}

/// Every difference between what a container of an image sees and what umoci unpacks of it.
fn compare_with_umoci(node: &Node, reference: &str, layout: &Path, tag: &str) -> Vec<String> {
    let theirs = peers::umoci_unpack(layout, tag, &node.place().join("umoci-bundle"));
    let mut differences = vec![];
    with_rootfs(node, reference, "/busybox-helper", |root| {
        differences = tree::compare(root, &theirs, &OF_A_CONTAINER);
    });
    differences
}

/// What is a container's own and not its image's: three files and mounts. So `/etc` may have been written to.
const OF_A_CONTAINER: tree::Except<'_> = tree::Except {
    paths: &["proc", "sys", "dev", "run", "busybox-helper", "etc/hosts", "etc/hostname", "etc/resolv.conf"],
    times: &["etc"],
};

/// Ten layers with every kind of whiteout, link and implied parent.
fn ten_layers() -> image::Image {
    let layer = |fill: &dyn Fn(&mut Tarball)| {
        let mut tar = Tarball::default();
        fill(&mut tar);
        tar.finish()
    };
    let long = format!("long/{}/{}", "n".repeat(120), "m".repeat(200));
    let layers: Vec<Vec<u8>> = vec![
        layer(&|tar| {
            tar.directory("usr", 0o755);
            tar.directory("usr/lib", 0o755);
            tar.symlink("lib", "usr/lib");
            tar.file("usr/lib/old.so", 0o644, b"old");
            tar.directory("emptied", 0o700);
            tar.file("emptied/a", 0o644, b"a");
            tar.file("emptied/b", 0o644, b"b");
            tar.directory("dir-to-file", 0o755);
            tar.file("dir-to-file/inside", 0o644, b"");
            tar.file("file-to-dir", 0o644, b"");
            tar.file("removed", 0o644, b"");
            tar.file("removed-and-back", 0o644, b"first");
            tar.file("linked-later", 0o644, b"shared");
            tar.directory("spool", 0o1777);
        }),
        // A parent that only a lower layer knows, through a link.
        layer(&|tar| tar.file("lib/new.so", 0o755, b"new")),
        layer(&|tar| {
            tar.whiteout("", "removed");
            tar.whiteout("", "removed-and-back");
            tar.whiteout("", "never-was-there");
        }),
        layer(&|tar| {
            tar.directory("emptied", 0o750);
            tar.opaque("emptied");
            tar.file("emptied/c", 0o644, b"c");
        }),
        layer(&|tar| {
            tar.whiteout("", "dir-to-file");
            tar.file("dir-to-file", 0o644, b"now a file");
            tar.directory("file-to-dir", 0o755);
            tar.file("file-to-dir/inside", 0o644, b"now a directory");
        }),
        layer(&|tar| tar.file("removed-and-back", 0o600, b"second")),
        // A hard link to a file of a lower layer, and one inside the layer.
        layer(&|tar| {
            tar.hard_link("link-to-lower", "linked-later");
            tar.file("twin", 0o644, b"twins");
            tar.hard_link("twin-too", "twin");
        }),
        layer(&|tar| {
            tar.entry(&Entry { kind: b'3', mode: 0o666, device: (1, 3), ..Entry::at("null") });
            tar.entry(&Entry { kind: b'4', mode: 0o660, device: (7, 0), gid: 6, ..Entry::at("loop") });
            tar.entry(&Entry { kind: b'6', mode: 0o622, ..Entry::at("fifo") });
            tar.entry(&Entry { mode: 0o4755, uid: 0, ..Entry::at("setuid") });
            tar.entry(&Entry { uid: 3_000_000, gid: 70_000, ..Entry::at("far-owner") });
            // VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective.
            let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            tar.entry(&Entry {
                mode: 0o755,
                content: b"ping",
                xattrs: &[("security.capability", &capability)],
                ..Entry::at("ping")
            });
            tar.entry(&Entry { xattrs: &[("user.note", b"kept")], ..Entry::at("noted") });
        }),
        // Parents that no layer lists.
        layer(&|tar| {
            tar.file("implied/by/the/path", 0o644, b"deep");
            tar.file(&long, 0o644, b"long");
            tar.symlink("dangling", "/nowhere/at/all");
            tar.symlink("absolute", "/usr/lib");
        }),
        layer(&|tar| {
            tar.whiteout("usr/lib", "old.so");
            tar.directory("late", 0o711);
            tar.entry(&Entry { mtime: 1_234_567_890, ..Entry::at("late/file") });
        }),
    ];
    let packings = [Packing::Gzip, Packing::Zstd, Packing::Plain];
    let builder = layers
        .into_iter()
        .enumerate()
        .fold(Builder::default(), |builder, (index, tar)| builder.layer(packings[index % 3], tar));
    builder.build()
}

#[test]
fn root_ten_layers_with_every_kind_of_entry_give_the_tree_of_serial_unpacking() {
    let (node, registry, _) = with_busybox("ten-layers");
    let reference = registry.publish("odd/ten", "1", &ten_layers());
    node.ok(&["pull", &reference]);
    with_rootfs(&node, &reference, "/busybox-helper", |root| {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| format!("{error}"));
        assert_eq!(text("usr/lib/new.so"), "new");
        assert_eq!(tree::names(&root.join("usr/lib")), ["new.so"]);
        assert_eq!(fs::read_link(root.join("lib")).unwrap(), Path::new("usr/lib"));
        assert_eq!(tree::names(&root.join("emptied")), ["c"]);
        assert!(!root.join("removed").exists());
        assert_eq!(text("removed-and-back"), "second");
        assert_eq!(text("dir-to-file"), "now a file");
        assert_eq!(text("file-to-dir/inside"), "now a directory");
        assert_eq!(text("link-to-lower"), "shared");
        assert_eq!(text("implied/by/the/path"), "deep");
        use std::os::unix::fs::MetadataExt;
        let inode = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().ino();
        assert_eq!(inode("twin"), inode("twin-too"));
        assert_eq!(fs::symlink_metadata(root.join("far-owner")).unwrap().uid(), 3_000_000);
        assert_eq!(fs::symlink_metadata(root.join("late/file")).unwrap().mtime(), 1_234_567_890);
        let leftover = tree::names(root).into_iter().find(|name| name.to_string_lossy().starts_with(".wh."));
        assert_eq!(leftover, None);
    });
    node.finish();
}

#[test]
fn root_ten_layers_are_as_umoci_unpacks_them() {
    if !programs::is_installed("umoci") {
        return skip("root_ten_layers_are_as_umoci_unpacks_them", "umoci is not installed");
    }
    let (node, registry, _) = with_busybox("ten-layers-umoci");
    // umoci 0.4 knows no zstd and refuses a whiteout of what is not there.
    let mut image = Builder::default();
    let mut lower = Tarball::default();
    lower.directory("etc", 0o755);
    lower.directory("d", 0o755);
    lower.file("d/gone", 0o644, b"");
    lower.file("d/kept", 0o640, b"kept");
    lower.directory("o", 0o700);
    lower.file("o/gone", 0o644, b"");
    image = image.layer(Packing::Gzip, lower.finish());
    let mut upper = Tarball::default();
    upper.directory("d", 0o755);
    upper.whiteout("d", "gone");
    upper.file("d/new", 0o600, b"new");
    upper.hard_link("d/twin", "d/new");
    upper.symlink("d/link", "kept");
    upper.directory("o", 0o711);
    upper.opaque("o");
    upper.entry(&Entry { uid: 70_000, gid: 3_000_000, mode: 0o4755, content: b"x", ..Entry::at("o/setuid") });
    upper.entry(&Entry { kind: b'6', mode: 0o622, ..Entry::at("o/fifo") });
    upper.entry(&Entry { xattrs: &[("user.note", b"kept")], ..Entry::at("o/noted") });
    image = image.layer(Packing::Plain, upper.finish());
    let image = image.build();
    let layout = node.place().directory("layout");
    image.write_layout(&layout, "v1");
    let reference = registry.publish("odd/compared", "1", &image);
    node.ok(&["pull", &reference]);
    let differences = compare_with_umoci(&node, &reference, &layout, "v1");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    node.finish();
}

#[test]
fn root_a_whole_debian_is_as_umoci_unpacks_it() {
    let test = "root_a_whole_debian_is_as_umoci_unpacks_it";
    if !["umoci", "debootstrap", "docker-registry", "skopeo"].iter().all(|program| programs::is_installed(program)) {
        return skip(test, "umoci, debootstrap, docker-registry or skopeo is not installed");
    }
    let layout = match peers::debian_layout() {
        Ok(layout) => layout,
        Err(reason) => return skip(test, &reason),
    };
    let node = Node::new("debian");
    let registry = DebianRegistry::plain(&node);
    let reference = registry.push(&node, &layout, "latest", "distros/debian:bookworm");
    node.ok(&["pull", &reference]);
    let differences = compare_with_umoci(&node, &reference, &layout, "latest");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let files = node.ok(&["run", "--rm", &reference, "sh", "-c", "find / -xdev | wc -l"]);
    assert!(files.parse::<usize>().unwrap() > 10_000, "{files} files");
    assert!(
        node.ok(&["run", "--rm", &reference, "bash", "-c", "cat /etc/debian_version; perl -e 'print 6*7'"])
            .starts_with("12.")
    );
    node.ok(&["rmi", &reference]);
    node.finish();
}

#[test]
fn root_images_of_both_families_and_for_several_processors_run() {
    let (node, registry, _) = with_busybox("families");
    let docker = Builder::default().family(Family::Docker).layer(Packing::Gzip, image::busybox_layer()).build();
    let reference = registry.publish("families/docker", "1", &docker);
    assert_eq!(node.ok(&["run", "--rm", &reference, "echo", "docker"]), "docker");
    let oci = Builder::default()
        .set("Cmd", serde_json::json!(["echo", "right"]))
        .layer(Packing::Zstd, image::busybox_layer())
        .build();
    let other = Builder::default().architecture("s390x").layer(Packing::Plain, Tarball::default().finish()).build();
    let index = index_of(&[("s390x", &other), ("amd64", &oci)]);
    let reference = registry.publish("families/index", "1", &index);
    assert_eq!(node.ok(&["run", "--rm", &reference]), "right");
    assert_eq!(registry.blob_requests(&other.layers[0]), 0);
    node.run(&["pull", "--platform", "linux/riscv64", &reference]).fails(1, "linux/riscv64");
    // The same by digest.
    let by_digest = format!("{}@{}", reference.trim_end_matches(":1"), index.manifest);
    assert_eq!(node.ok(&["run", "--rm", &by_digest]), "right");
    node.finish();
}

#[test]
fn root_debians_registry_plain_with_a_password_and_with_tokens() {
    let test = "root_debians_registry_plain_with_a_password_and_with_tokens";
    if !programs::is_installed("docker-registry") || !programs::is_installed("skopeo") {
        return skip(test, "docker-registry or skopeo is not installed");
    }
    let node = Node::new("registries");
    let layout = node.place().directory("layout");
    image::busybox().write_layout(&layout, "v1");
    let tokens = TokenServer::start(&node);
    let plain = DebianRegistry::plain(&node);
    let password = DebianRegistry::with_password(&node);
    let token = DebianRegistry::with_tokens(&node, &tokens);
    let push = |registry: &DebianRegistry| registry.push(&node, &layout, "v1", "boxes/busybox:v1");
    let (plain, by_password, by_token) = (push(&plain), push(&password), push(&token));

    node.ok(&["pull", &plain]);
    let authority = password.certificate.clone().unwrap().authority;
    let pull = |reference: &str| {
        let mut command = node.carrack(&["pull", reference]);
        command.env("SSL_CERT_FILE", &authority);
        run(&mut command)
    };
    for reference in [&by_password, &by_token] {
        let refused = pull(reference);
        assert_ne!(refused.code, 0, "{refused}");
    }
    // An authority that nobody named is not trusted, password or not.
    log_in(&node, &[&password.host(), &token.host()], PASSWORD);
    assert_ne!(node.run(&["pull", &by_password]).code, 0);
    for reference in [&by_password, &by_token] {
        pull(reference).ok();
    }
    log_in(&node, &[&password.host(), &token.host()], "sea-shanty");
    pull(&by_password).fails(1, "refuses the user name or password");
    for reference in [&by_password, &by_token] {
        let refused = pull(reference);
        assert_ne!(refused.code, 0, "{refused}");
        assert!(!refused.stderr.contains("sea-shanty"), "a password is shown: {refused}");
    }
    node.finish();
}

#[test]
fn root_a_registry_s_self_signed_certificate_is_accepted_if_it_is_the_one_that_is_trusted() {
    let test = "root_a_registry_s_self_signed_certificate_is_accepted_if_it_is_the_one_that_is_trusted";
    if !programs::is_installed("docker-registry") || !programs::is_installed("skopeo") {
        return skip(test, "docker-registry or skopeo is not installed");
    }
    let node = Node::new("self-signed");
    let layout = node.place().directory("layout");
    image::busybox().write_layout(&layout, "v1");
    let registry = DebianRegistry::with_self_signed(&node);
    let reference = registry.push(&node, &layout, "v1", "boxes/busybox:v1");
    let own = registry.certificate.clone().unwrap().authority;
    let other = Certificate::self_signed(&node.place().directory("other")).authority;
    let pull = |trusted: &Path, reference: &str| {
        let mut command = node.carrack(&["pull", reference]);
        command.env("SSL_CERT_FILE", trusted);
        run(&mut command)
    };
    node.run(&["pull", &reference]).fails(1, "UnknownIssuer");
    pull(&other, &reference).fails(1, "UnknownIssuer");
    // It is for 127.0.0.1, and not for this name of it.
    pull(&own, &reference.replace("127.0.0.1", "localhost")).fails(1, "not valid for name");
    pull(&own, &reference).ok();
    node.finish();
}

/// Writes Docker's `config.json` as `docker login` does.
fn log_in(node: &Node, hosts: &[&str], password: &str) {
    use base64::Engine;
    let auth = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{password}"));
    let auths: serde_json::Map<String, serde_json::Value> =
        hosts.iter().map(|host| ((*host).to_owned(), serde_json::json!({ "auth": auth }))).collect();
    let directory = node.place().directory("home/.docker");
    fs::write(directory.join("config.json"), serde_json::json!({ "auths": auths }).to_string()).unwrap();
}

#[test]
fn root_what_a_registry_can_do_wrong_is_told_and_a_second_attempt_works() {
    let (node, registry, reference) = with_busybox("faults");
    let image = image::busybox();
    let blob = image.layers[0].clone();
    let name = reference.trim_end_matches(":latest");

    node.run(&["pull", &format!("{name}:no-such-tag")]).fails(1, "no-such-tag");
    node.run(&["pull", &format!("{}/no/such-image:1", registry.host())]).fails(1, "no/such-image");
    node.run(&["pull", &format!("{name}@sha256:{}", "0".repeat(64))]).fails(1, "000000");
    node.run(&["pull", "not a reference"]).fails(1, "not a reference");

    registry.fault(Fault::Corrupt { digest: blob.clone() });
    node.run(&["pull", &reference]).fails(1, &blob[7..19]);
    registry.release();
    registry.fault(Fault::Truncate { digest: blob.clone(), after: 10_000 });
    node.run(&["pull", &reference]).fails(1, &blob[7..19]);
    registry.release();
    registry.fault(Fault::Status { status: 404 });
    assert_ne!(node.run(&["pull", &reference]).code, 0);
    registry.release();
    // A connection that breaks once is taken up where it broke.
    registry.fault(Fault::BreakOnce { digest: blob.clone(), after: 10_000 });
    node.ok(&["pull", &reference]);
    assert_eq!(node.ok(&["run", "--rm", &reference, "echo", "works"]), "works");
    node.finish();
}

#[test]
fn root_a_wrong_digest_of_an_unpacked_layer_is_refused() {
    let (node, registry, _) = with_busybox("diff-id");
    let mut image = image::busybox();
    // The configuration names another diff_id, and the manifest is made to fit it.
    let config = String::from_utf8(image.blobs.remove(&image.config).unwrap()).unwrap();
    let right = config.split("\"diff_ids\":[\"").nth(1).unwrap()[..71].to_owned();
    let config = config.replace(&right, &format!("sha256:{}", "1".repeat(64))).into_bytes();
    let manifest = String::from_utf8(image.blobs.remove(&image.manifest).unwrap()).unwrap();
    let manifest = manifest.replace(&image.config, &image::digest(&config)).into_bytes();
    image.config = image::digest(&config);
    image.manifest = image::digest(&manifest);
    image.blobs.insert(image.config.clone(), config);
    image.blobs.insert(image.manifest.clone(), manifest);
    let reference = registry.publish("wrong/diff-id", "1", &image);
    node.run(&["pull", &reference]).fails(1, "11111");
    assert!(!node.ok(&["images"]).contains("wrong/diff-id"));
    node.finish();
}

#[test]
fn root_a_registry_that_is_down_is_named() {
    let node = Node::new("down");
    let (listener, address) = node.listen("127.0.0.1:0");
    drop(listener);
    node.run(&["pull", &format!("{address}/boxes/busybox:1")]).fails(1, &address.to_string());
    node.finish();
}

/// Puts one hostile entry into an archive.
type Fill = Box<dyn Fn(&mut Tarball)>;

#[test]
fn root_hostile_archives_are_refused_and_touch_nothing() {
    let (node, registry, _) = with_busybox("hostile");
    let outside = node.place().file("outside", "untouched");
    let target = outside.to_string_lossy();
    let escape: Vec<(&str, Fill)> = vec![
        ("dotdot", Box::new(|tar| tar.file("../../../../../../tmp/carrack-escape", 0o644, b"escaped"))),
        ("absolute", Box::new(|tar| tar.file("/../../../../../../tmp/carrack-escape", 0o644, b"escaped"))),
        ("whiteout", Box::new(|tar| tar.file(".wh...", 0o644, b""))),
        ("link", Box::new(|tar| tar.hard_link("h", "../../../../../../../../etc/passwd"))),
        ("loop", Box::new(|tar| tar.hard_link("self", "self"))),
    ];
    for (name, fill) in &escape {
        let mut tar = Tarball::default();
        fill(&mut tar);
        let image = Builder::default().layer(Packing::Gzip, tar.finish()).build();
        let reference = registry.publish("hostile/archive", name, &image);
        let ran = node.run(&["pull", &reference]);
        assert!(!Path::new("/tmp/carrack-escape").exists(), "{name} escaped");
        assert_ne!(ran.code, 0, "{name} was taken: {ran}");
    }
    // A link out of the root is a legal entry; what comes after it through the link stays inside.
    let mut tar = Tarball::default();
    tar.symlink("way-out", node.place().path().to_str().unwrap());
    tar.file("way-out/outside", 0o644, b"overwritten");
    let image = Builder::default().layer(Packing::Gzip, tar.finish()).build();
    let reference = registry.publish("hostile/archive", "link-out", &image);
    let _ = node.run(&["pull", &reference]);
    assert_eq!(fs::read_to_string(&*target).unwrap(), "untouched");
    node.finish();
}

#[test]
fn root_a_full_disk_is_told_and_nothing_stays() {
    let (node, registry, small) = with_busybox("full-disk");
    let mut tar = Tarball::default();
    let noise: Vec<u8> = (0..8_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    tar.file("noise", 0o644, &noise);
    let big =
        Builder::default().layer(Packing::Gzip, image::busybox_layer()).layer(Packing::Plain, tar.finish()).build();
    let big = registry.publish("big/noise", "1", &big);
    let disk = node.place().directory("disk");
    let mounted = disk.to_string_lossy();
    run(node.inside("mount").args(["-t", "tmpfs", "-o", "size=10m", "tmpfs", &mounted])).ok();
    let run_in = |arguments: &[&str]| {
        let mut command = node.inside(programs::carrack());
        command.args(["--root", &format!("{mounted}/root"), "--run"]).arg(node.run_directory()).args(arguments);
        run(&mut command)
    };
    let used = || {
        let df = run(node.fixture(programs::busybox()).args(["df", "-k", &mounted])).ok();
        df.lines().last().unwrap().split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()
    };
    run_in(&["images"]).ok();
    let before = used();
    let failed = run_in(&["pull", &big]);
    assert_ne!(failed.code, 0);
    assert!(failed.stderr.contains("No space left on device") || failed.stderr.contains("disk is full"), "{failed}");
    assert!(used() < before + 1000, "a failed pull left {} KiB", used() - before);
    run_in(&["pull", &small]).ok();
    run(node.inside("umount").arg(&*mounted)).ok();
    node.finish();
}

#[test]
fn root_a_killed_pull_leaves_nothing_in_the_way() {
    let (node, registry, reference) = with_busybox("killed-pull");
    let blob = image::busybox().layers[0].clone();
    registry.fault(Fault::Hold { digest: blob.clone(), after: 100_000 });
    let pulling = node.start(&["pull", &reference]);
    carrack_tests::wait::wait_until("the layer is asked for", DEADLINE, || registry.blob_requests(&blob) == 1);
    let files = || fs::read_dir(node.root().join("ingest")).unwrap().count();
    carrack_tests::wait::wait_until("some of it is here", DEADLINE, || files() > 0);
    node.kill_inside(pulling);
    registry.release();
    // The next command removes what is of no use.
    assert!(!node.ok(&["images"]).contains("boxes/busybox"));
    assert_eq!(files(), 0);
    node.ok(&["pull", &reference]);
    assert_eq!(node.ok(&["run", "--rm", &reference, "echo", "works"]), "works");
    node.finish();
}

#[test]
fn root_callers_of_one_image_share_one_pull() {
    let (node, registry, reference) = with_busybox("shared-pull");
    let image = image::busybox();
    let pulls: Vec<_> = (0..5).map(|_| node.start(&["pull", &reference])).collect();
    for pull in pulls {
        pull.finish(DEADLINE).ok();
    }
    let requests = registry.requests();
    let count = |method: &str, part: &str| {
        requests.iter().filter(|request| request.starts_with(method) && request.contains(part)).count()
    };
    assert_eq!(registry.blob_requests(&image.layers[0]), 1, "{requests:#?}");
    assert_eq!(registry.blob_requests(&image.config), 1, "{requests:#?}");
    // Each asks by itself what the name means now.
    assert_eq!((count("GET", "/manifests/"), count("HEAD", "/manifests/")), (1, 5), "{requests:#?}");
    node.finish();
}

#[test]
fn root_a_removed_image_frees_its_disk_unless_something_needs_it() {
    let (node, registry, busybox) = with_busybox("remove");
    let mut tar = Tarball::default();
    tar.file("ballast", 0o644, &vec![7; 5_000_000]);
    let image =
        Builder::default().layer(Packing::Gzip, image::busybox_layer()).layer(Packing::Plain, tar.finish()).build();
    let reference = registry.publish("heavy/ship", "1", &image);
    node.ok(&["pull", &busybox]);
    let size = || {
        run(std::process::Command::new("du").args(["-sk"]).arg(node.root()))
            .ok()
            .split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = size();
    node.ok(&["pull", &reference]);
    assert!(size() > before + 9_000, "a layer of 5 MB is there as a blob and unpacked");
    node.ok(&["tag", &reference, "localhost/also:1"]);
    node.ok(&["run", "-d", "--name", "ship", &reference, "sleep", "1000"]);
    node.run(&["rmi", "localhost/also:1"]).ok();
    node.run(&["rmi", &reference]).fails(1, "ship");
    node.ok(&["rm", "-f", "ship"]);
    node.ok(&["rmi", &reference]);
    assert!(size() < before + 500, "{} KiB are left of an image that is gone", size() - before);
    // The layer that both have is still there for the other.
    assert_eq!(node.ok(&["run", "--rm", &busybox, "echo", "works"]), "works");
    node.finish();
}

/// Its layers stayed until something else was removed or the daemon started.
#[test]
fn root_a_removed_image_frees_its_disk_with_the_last_container_of_it() {
    let (node, _registry, busybox) = with_busybox("remove-late");
    let layers = || {
        let listed = fs::read_dir(node.root().join("layers")).unwrap().flatten();
        listed.filter(|entry| entry.file_name() != "active" && entry.file_name() != "trash").count()
    };
    let run_to_end = |name: &str| {
        node.ok(&["run", "-d", "--name", name, &busybox, "true"]);
        node.wait_for_state(name, "exited");
    };
    run_to_end("one");
    run_to_end("two");
    node.ok(&["rmi", "-f", &busybox]);
    node.ok(&["rm", "one"]);
    assert!(layers() > 0, "the other one still needs them");
    node.ok(&["start", "two"]);
    node.wait_for_state("two", "exited");
    node.ok(&["rm", "two"]);
    assert_eq!(layers(), 0);

    // So with CRI, where the kubelet may remove an image that is in use.
    let daemon = node.serve();
    let pod_config = pod_config("late", &node.place().directory("logs"));
    daemon.cri.pull(&busybox).unwrap();
    let pod = daemon.cri.run_pod(&pod_config).unwrap();
    let made = |name: &str| {
        daemon.cri.create(&pod, container_config(name, &busybox, &["sleep", "1000"]), &pod_config).unwrap()
    };
    let (first, second) = (made("first"), made("second"));
    daemon.cri.start(&first).unwrap();
    daemon.cri.start(&second).unwrap();
    daemon.cri.remove_image(&busybox).unwrap();
    daemon.cri.remove(&first).unwrap();
    assert!(layers() > 0, "the other one still needs them");
    daemon.cri.remove_pod(&pod).unwrap();
    assert_eq!(layers(), 0);
    daemon.stop();
    node.finish();
}

#[test]
fn root_images_made_by_buildah_run() {
    if !programs::is_installed("buildah") || !programs::is_installed("skopeo") {
        return skip("root_images_made_by_buildah_run", "buildah or skopeo is not installed");
    }
    let node = Node::new("buildah");
    let place = Place::new("buildah-store");
    let storage = [
        "--root".to_owned(),
        place.join("root").display().to_string(),
        "--runroot".to_owned(),
        place.join("run").display().to_string(),
    ];
    let buildah = |arguments: &[&str]| {
        run(node.fixture("buildah").args(&storage).args(["--storage-driver", "vfs"]).args(arguments))
            .ok()
            .trim()
            .to_owned()
    };
    let container = buildah(&["from", "scratch"]);
    buildah(&["copy", &container, &programs::busybox().to_string_lossy(), "/bin/busybox"]);
    buildah(&["config", "--entrypoint", r#"["/bin/busybox"]"#, "--cmd", "echo built", "--user", "7", &container]);
    let layout = node.place().join("layout");
    buildah(&["commit", &container, &format!("oci:{}:v1", layout.display())]);
    node.ok(&["load", &layout.to_string_lossy(), "localhost/built:1"]);
    assert_eq!(node.ok(&["run", "--rm", "localhost/built:1"]), "built");
    assert_eq!(node.ok(&["run", "--rm", "localhost/built:1", "id", "-u"]), "7");
    node.finish();
}

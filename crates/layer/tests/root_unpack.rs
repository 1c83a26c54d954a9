//! What is in a layer's directory after unpacking, and what is refused.

mod archive;

use archive::{Item, Scratch, archive as print, closed, gzip, record};
use carrack_layer::{
    Compression, Devices, EntryProblem, Limits, Lowers, Reason, SelfContained, Settled, Shown, UnpackError,
    UnpackOptions, Unpacked, copy_attributes, settle, unpack,
};
use carrack_sys::rustix;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

fn unpack_into(scratch: &Scratch, name: &str, bytes: &[u8]) -> Result<(File, Unpacked), UnpackError> {
    let directory = scratch.layer(name);
    let unpacked = unpack(bytes, directory.as_fd(), Lowers::Unknown, &UnpackOptions::default())?;
    Ok((directory, unpacked))
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0u8; 256];
    rustix::fs::lgetxattr(path, name, &mut value[..]).ok().map(|length| value[..length].to_vec())
}

/// A file capability: version 2, cap_net_raw permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An access ACL: owner rwx, user 1000 r-x, group r-x, mask r-x, others ---.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    [
        2u32.to_le_bytes().to_vec(),
        entry(1, 7, none),
        entry(2, 5, 1000),
        entry(4, 5, none),
        entry(0x10, 5, none),
        entry(0x20, 0, none),
    ]
    .concat()
}

#[test]
fn root_everything_an_entry_says_reaches_the_disk() {
    let scratch = Scratch::new();
    let bytes = print(&[
        Item::directory("./").mode(0o711).mtime(11, 0),
        Item::directory("dir").mode(0o2770).owner(70_000, 80_000).mtime(12, 123_456_789).xattr("user.d", b"v"),
        Item::file("dir/file", "content")
            .mode(0o4755)
            .owner(1, 2)
            .mtime(-5, 500_000_000)
            .xattr("security.capability", CAPABILITY),
        Item::file("dir/plain", ""),
        Item::symlink("dir/link", "../outside/it/points").owner(3, 4).mtime(13, 0),
        Item::hard_link("dir/second", "dir/file"),
        Item::new(b'6', "dir/pipe").mode(0o1620).owner(5, 0),
        Item::device(b'3', "dir/null", 1, 3).mode(0o666),
        Item::device(b'4', "dir/disk", 8, 300).mode(0o660).owner(0, 6),
        Item::file("dir/.wh..wh.aufs", ""),
        Item::directory("acl")
            .mode(0o750)
            .xattr("system.posix_acl_access", acl())
            .xattr("system.posix_acl_default", acl()),
        Item::file("acl/inside", "").mode(0o666),
    ]);
    let (_, unpacked) = unpack_into(&scratch, "l", &gzip(&bytes)).unwrap();
    let root = scratch.0.join("l");
    assert_eq!((unpacked.self_contained, unpacked.compression), (SelfContained::Yes, Compression::Gzip));
    assert_eq!(
        (unpacked.tar_bytes, unpacked.totals.entries, unpacked.totals.root_listed),
        (bytes.len() as u64, 12, true)
    );
    assert_eq!((unpacked.totals.inodes, unpacked.totals.file_bytes, unpacked.totals.xattrs_dropped), (9, 7, 0));

    let stat = |name: &str| {
        let stat = std::fs::symlink_metadata(root.join(name)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec())
    };
    let now = archive::MTIME.seconds;
    assert_eq!(stat(""), (0o711, 0, 0, 11, 0));
    assert_eq!(stat("dir"), (0o2770, 70_000, 80_000, 12, 123_456_789));
    assert_eq!(stat("dir/file"), (0o4755, 1, 2, -5, 500_000_000));
    assert_eq!(stat("dir/plain"), (0o644, 0, 0, now, 0), "a set-gid directory must not pass its group on");
    assert_eq!(stat("dir/link"), (0o777, 3, 4, 13, 0));
    assert_eq!(stat("dir/pipe"), (0o1620, 5, 0, now, 0));
    assert_eq!(stat("dir/null"), (0o666, 0, 0, now, 0));
    assert_eq!(stat("dir/disk"), (0o660, 0, 6, now, 0));
    assert_eq!(stat("acl/inside"), (0o666, 0, 0, now, 0), "a default ACL must not be passed on");
    assert_eq!(xattr(&root.join("acl/inside"), "system.posix_acl_access"), None);
    assert_eq!(xattr(&root.join("acl"), "system.posix_acl_access"), Some(acl()));
    assert_eq!(xattr(&root.join("acl"), "system.posix_acl_default"), Some(acl()));
    assert_eq!(xattr(&root.join("dir"), "user.d"), Some(b"v".to_vec()));
    assert_eq!(xattr(&root.join("dir/file"), "security.capability"), Some(CAPABILITY.to_vec()));
    assert_eq!(std::fs::read(root.join("dir/file")).unwrap(), b"content");
    assert_eq!(std::fs::read_link(root.join("dir/link")).unwrap(), Path::new("../outside/it/points"));
    let meta = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
    assert_eq!(meta("dir/second").ino(), meta("dir/file").ino());
    assert!(meta("dir/pipe").file_type().is_fifo());
    assert_eq!(meta("dir/null").rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("dir/disk").file_type().is_block_device() && meta("dir/disk").rdev() == rustix::fs::makedev(8, 300));
    assert!(!root.join("dir/.wh..wh.aufs").exists());
}

#[test]
fn root_what_overlayfs_trusts_cannot_be_set_by_an_image() {
    let scratch = Scratch::new();
    let item = Item::directory("d")
        .xattr("trusted.overlay.opaque", b"y")
        .xattr("trusted.overlay.redirect", b"/etc")
        .xattr("user.overlay.opaque", b"y")
        .xattr("security.selinux", b"x")
        .xattr("user.kept", b"1");
    let (_, unpacked) = unpack_into(&scratch, "l", &print(&[item])).unwrap();
    assert_eq!(unpacked.totals.xattrs_dropped, 4);
    let path = scratch.0.join("l/d");
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"] {
        assert_eq!(xattr(&path, name), None, "{name}");
    }
    assert_eq!(xattr(&path, "user.kept"), Some(b"1".to_vec()));
}

#[test]
fn root_whiteouts_take_overlayfs_form_and_never_hit_their_own_layer() {
    let scratch = Scratch::new();
    let (_, unpacked) = unpack_into(
        &scratch,
        "l",
        &print(&[
            Item::directory("d"),
            Item::file("d/.wh.gone", ""),
            Item::file("d/own", "x"),
            Item::file("d/.wh.own", ""),
            Item::directory("d/sub"),
            Item::file("d/sub/kept", ""),
            Item::file("d/.wh.sub", ""),
            Item::directory("o"),
            Item::file("o/.wh.hidden-anyway", ""),
            Item::file("o/new", ""),
            Item::file("o/.wh..wh..opq", ""),
            Item::file("d/.wh.back", ""),
            Item::directory("d/back"),
        ]),
    )
    .unwrap();
    let root = scratch.0.join("l");
    let is_whiteout = |name: &str| {
        let stat = std::fs::symlink_metadata(root.join(name)).unwrap();
        stat.file_type().is_char_device() && stat.rdev() == 0
    };
    assert!(is_whiteout("d/gone"));
    assert_eq!(std::fs::read(root.join("d/own")).unwrap(), b"x");
    assert!(root.join("d/sub/kept").exists());
    for (name, want) in
        [("d/sub", Some(b"y".to_vec())), ("o", Some(b"y".to_vec())), ("d/back", Some(b"y".to_vec())), ("d", None)]
    {
        assert_eq!(xattr(&root.join(name), "trusted.overlay.opaque"), want, "{name}");
    }
    assert_eq!(unpacked.self_contained, SelfContained::No { reason: Reason::Whiteout { path: Shown::new("d/gone") } });
    // Nothing below: all whiteouts go, and the directories keep their times.
    assert_eq!(settle(File::open(&root).unwrap().as_fd(), &unpacked.unsettled, &[]).unwrap(), Settled::Done);
    assert!(!root.join("d/gone").exists() && std::fs::symlink_metadata(root.join("o/hidden-anyway")).is_err());
    assert_eq!(std::fs::metadata(root.join("d")).unwrap().mtime(), archive::MTIME.seconds);
    assert_eq!(std::fs::metadata(root.join("o")).unwrap().mtime(), archive::MTIME.seconds);
}

#[test]
fn root_a_whiteout_of_something_stays() {
    let scratch = Scratch::new();
    let (lower, _) = unpack_into(&scratch, "lower", &print(&[Item::directory("d"), Item::file("d/a", "")])).unwrap();
    let upper = print(&[Item::directory("d"), Item::file("d/.wh.a", ""), Item::file("d/.wh.b", "")]);
    let (dir, unpacked) = unpack_into(&scratch, "upper", &upper).unwrap();
    assert_eq!(settle(dir.as_fd(), &unpacked.unsettled, &[lower.as_fd()]).unwrap(), Settled::Done);
    let names: Vec<_> = std::fs::read_dir(scratch.0.join("upper/d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn root_an_opaque_root_is_reported_not_marked() {
    let scratch = Scratch::new();
    let (_, unpacked) =
        unpack_into(&scratch, "l", &print(&[Item::file(".wh..wh..opq", ""), Item::file("a", "")])).unwrap();
    assert!(unpacked.totals.root_opaque);
    assert_eq!(unpacked.self_contained, SelfContained::Yes);
    assert_eq!(xattr(&scratch.0.join("l"), "trusted.overlay.opaque"), None);
}

#[test]
fn root_implied_parents_look_like_those_below() {
    let scratch = Scratch::new();
    let lower = print(&[Item::directory("opt").mode(0o2750).owner(7, 8).mtime(99, 5).xattr("user.x", b"y")]);
    let (lower, _) = unpack_into(&scratch, "lower", &lower).unwrap();
    let (dir, unpacked) = unpack_into(&scratch, "upper", &print(&[Item::file("opt/tool/bin", "")])).unwrap();
    assert_eq!(
        unpacked.self_contained,
        SelfContained::No { reason: Reason::ImpliedParent { path: Shown::new("opt") } }
    );
    assert_eq!(settle(dir.as_fd(), &unpacked.unsettled, &[lower.as_fd()]).unwrap(), Settled::Done);
    let stat = |name: &str| {
        let stat = std::fs::metadata(scratch.0.join(name)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec())
    };
    assert_eq!(stat("upper/opt"), (0o2750, 7, 8, 99, 5));
    assert_eq!(xattr(&scratch.0.join("upper/opt"), "user.x"), Some(b"y".to_vec()));
    assert_eq!(stat("upper/opt/tool"), (0o755, 0, 0, 0, 0));
}

#[test]
fn root_an_entry_goes_where_a_link_below_leads() {
    let scratch = Scratch::new();
    let lower =
        print(&[Item::directory("usr"), Item::directory("usr/lib").mode(0o711), Item::symlink("lib", "usr/lib")]);
    let (lower, _) = unpack_into(&scratch, "lower", &lower).unwrap();
    let upper = print(&[Item::file("lib/new.so", "x")]);
    let (dir, unpacked) = unpack_into(&scratch, "alone", &upper).unwrap();
    let lowers = [lower.as_fd()];
    assert_eq!(settle(dir.as_fd(), &unpacked.unsettled, &lowers).unwrap(), Settled::UnpackAgain);
    let over = scratch.layer("over");
    unpack(&upper[..], over.as_fd(), Lowers::Known(&lowers), &UnpackOptions::default()).unwrap();
    assert!(scratch.0.join("over/usr/lib/new.so").exists() && !scratch.0.join("over/lib").exists());
    assert_eq!(std::fs::metadata(scratch.0.join("over/usr/lib")).unwrap().permissions().mode() & 0o7777, 0o711);
}

#[test]
fn root_a_hard_link_to_a_lower_file_brings_it_up() {
    let scratch = Scratch::new();
    let lower = print(&[
        Item::directory("d"),
        Item::file("d/f", "text").mode(0o4711).owner(9, 9).mtime(77, 7).xattr("user.x", b"y"),
    ]);
    let (lower, _) = unpack_into(&scratch, "lower", &lower).unwrap();
    let upper = print(&[Item::directory("d"), Item::hard_link("d/g", "d/f")]);
    let (_, unpacked) = unpack_into(&scratch, "alone", &upper).unwrap();
    assert_eq!(unpacked.self_contained, SelfContained::No { reason: Reason::HardLink { target: Shown::new("d/f") } });
    let over = scratch.layer("over");
    unpack(&upper[..], over.as_fd(), Lowers::Known(&[lower.as_fd()]), &UnpackOptions::default()).unwrap();
    let stat = |name: &str| std::fs::metadata(scratch.0.join("over/d").join(name)).unwrap();
    assert_eq!(stat("f").ino(), stat("g").ino());
    assert_eq!(
        (stat("f").mode() & 0o7777, stat("f").uid(), stat("f").mtime(), stat("f").mtime_nsec()),
        (0o4711, 9, 77, 7)
    );
    assert_eq!(std::fs::read(scratch.0.join("over/d/g")).unwrap(), b"text");
    assert_eq!(xattr(&scratch.0.join("over/d/g"), "user.x"), Some(b"y".to_vec()));
}

#[test]
fn root_sparse_files_have_holes() {
    let scratch = Scratch::new();
    let records = [("GNU.sparse.size", "1073741824"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "536870912,5")];
    let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key.as_bytes(), value.as_bytes())).collect();
    let bytes = closed(&[archive::extension(b'x', &records), Item::file("big", "hello").print()]);
    let (_, unpacked) = unpack_into(&scratch, "l", &bytes).unwrap();
    let stat = std::fs::metadata(scratch.0.join("l/big")).unwrap();
    assert_eq!(stat.len(), 1 << 30);
    assert!(stat.blocks() < 64, "{} blocks", stat.blocks());
    assert_eq!(unpacked.totals.file_bytes, 5);
}

#[test]
fn root_later_entries_replace_earlier_ones() {
    let scratch = Scratch::new();
    unpack_into(
        &scratch,
        "l",
        &print(&[
            Item::directory("d").mode(0o700).xattr("user.old", b"1"),
            Item::file("d/kept", ""),
            Item::directory("d").mode(0o755).mtime(5, 0),
            Item::directory("x"),
            Item::file("x/below", ""),
            Item::file("x", "file"),
            Item::file("f", "old content"),
            Item::file("f", "new"),
            Item::symlink("l", "/etc/passwd"),
            Item::file("l", "not through the link"),
        ]),
    )
    .unwrap();
    let root = scratch.0.join("l");
    let stat = std::fs::metadata(root.join("d")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime(), xattr(&root.join("d"), "user.old")), (0o755, 5, None));
    assert!(root.join("d/kept").exists());
    assert_eq!(std::fs::read(root.join("x")).unwrap(), b"file");
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"new");
    assert!(std::fs::symlink_metadata(root.join("l")).unwrap().is_file());
}

// ---- what attackers send

/// What the unpacker says to an archive over nothing.
fn refusal(items: &[Item]) -> EntryProblem {
    refusal_with(items, &UnpackOptions::default())
}

fn refusal_with(items: &[Item], options: &UnpackOptions) -> EntryProblem {
    let scratch = Scratch::new();
    let dir = scratch.layer("l");
    match unpack(&print(items)[..], dir.as_fd(), Lowers::Known(&[]), options) {
        Err(UnpackError::Entry { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn root_names_that_leave_the_layer_are_refused() {
    assert_eq!(refusal(&[Item::file("../evil", "")]), EntryProblem::DotDot);
    assert_eq!(refusal(&[Item::file("a/../../evil", "")]), EntryProblem::DotDot);
    assert_eq!(refusal(&[Item::file("a/../.wh.b", "")]), EntryProblem::DotDot);
    assert_eq!(refusal(&[Item::file(".wh...", "")]), EntryProblem::Whiteout);
    assert_eq!(refusal(&[Item::file("d/.wh.", "")]), EntryProblem::Whiteout);
    assert_eq!(refusal(&[Item::hard_link("a", "../../etc/passwd")]), EntryProblem::DotDot);
    assert_eq!(refusal(&[Item::hard_link("a", "")]), EntryProblem::Empty);
    assert_eq!(refusal(&[Item::symlink("a", "")]), EntryProblem::Empty);
    assert_eq!(refusal(&[Item::file("/", "")]), EntryProblem::RootNotDirectory);
    assert_eq!(refusal(&[Item::file("a/".repeat(300) + "b", "")]), EntryProblem::TooDeep { limit: 256 });
    assert_eq!(refusal(&[Item::file("a".repeat(5000), "")]), EntryProblem::TooLong);
    assert_eq!(refusal(&[Item::symlink("a", "b".repeat(5000))]), EntryProblem::TooLong);
}

#[test]
fn root_links_never_lead_out_of_the_layer() {
    let scratch = Scratch::new();
    let outside = scratch.layer("outside");
    std::fs::write(scratch.0.join("outside/victim"), "safe").unwrap();
    let absolute = scratch.0.join("outside");
    let absolute = absolute.to_str().unwrap();
    unpack_into(
        &scratch,
        "l",
        &print(&[
            Item::symlink("up", "../outside"),
            Item::file("up/victim", "evil"),
            Item::symlink("abs", absolute),
            Item::file("abs/victim", "evil"),
            Item::symlink("chain", "up/../../.."),
            Item::file("chain/victim", "evil"),
            Item::symlink("proc", "/proc/self/root"),
            Item::file("proc/victim", "evil"),
            Item::file("up/.wh.victim", ""),
        ]),
    )
    .unwrap();
    assert_eq!(std::fs::read_to_string(scratch.0.join("outside/victim")).unwrap(), "safe");
    assert_eq!(std::fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
    // "up" is clamped at the layer's root: there its target lies.
    assert_eq!(std::fs::read_to_string(scratch.0.join("l/outside/victim")).unwrap(), "evil");
    assert_eq!(std::fs::read_to_string(scratch.0.join("l").join(&absolute[1..]).join("victim")).unwrap(), "evil");
    assert_eq!(std::fs::read_to_string(scratch.0.join("l/victim")).unwrap(), "evil");
    assert_eq!(std::fs::read_to_string(scratch.0.join("l/proc/self/root/victim").as_path()).ok(), None);
    drop(outside);
}

#[test]
fn root_links_without_end_and_links_to_nothing_are_refused() {
    assert_eq!(
        refusal(&[Item::symlink("a", "b"), Item::symlink("b", "a"), Item::file("a/x", "")]),
        EntryProblem::LinkLoop
    );
    assert_eq!(refusal(&[Item::hard_link("a", "none")]), EntryProblem::NoLinkTarget { target: Shown::new("none") });
    assert_eq!(
        refusal(&[Item::directory("d"), Item::hard_link("a", "d")]),
        EntryProblem::LinkToDirectory { target: Shown::new("d") }
    );
    assert_eq!(refusal(&[Item::file("a", ""), Item::hard_link("a", "a")]), EntryProblem::LinkToItself);
    assert_eq!(
        refusal(&[Item::file("a", ""), Item::file("a/b", "")]),
        EntryProblem::ParentNotDirectory { parent: Shown::new("a") }
    );
    // A hard link to a link links the link, and what lies behind that stays out of reach.
    let scratch = Scratch::new();
    unpack_into(&scratch, "l", &print(&[Item::symlink("s", "/etc/passwd"), Item::hard_link("h", "s")])).unwrap();
    assert!(std::fs::symlink_metadata(scratch.0.join("l/h")).unwrap().is_symlink());
}

#[test]
fn root_a_hard_link_whose_target_it_replaces_is_refused() {
    let items = [Item::directory("d"), Item::file("d/f", ""), Item::hard_link("d", "d/f")];
    assert_eq!(refusal(&items), EntryProblem::NoLinkTarget { target: Shown::new("d/f") });
}

#[test]
fn root_devices_are_refused_where_they_are_not_allowed() {
    let options = UnpackOptions { devices: Devices::Refuse, ..UnpackOptions::default() };
    assert_eq!(refusal_with(&[Item::device(b'3', "null", 1, 3)], &options), EntryProblem::Device);
    assert_eq!(refusal(&[Item::device(b'3', "w", 0, 0)]), EntryProblem::RawWhiteout);
    assert_eq!(refusal(&[Item::device(b'4', "b", 5000, 0)]), EntryProblem::DeviceNumber);
}

#[test]
fn root_owners_out_of_range_are_refused() {
    for uid in [-1, i64::from(u32::MAX), 1 << 40] {
        assert_eq!(refusal(&[Item::file("a", "").owner(uid, 0)]), EntryProblem::Owner);
        assert_eq!(refusal(&[Item::file("a", "").owner(0, uid)]), EntryProblem::Owner);
    }
}

#[test]
fn root_what_is_remembered_is_bounded() {
    let limits = Limits { memory_bytes: 20_000, ..Limits::default() };
    let options = UnpackOptions { limits, ..UnpackOptions::default() };
    for (what, items) in [
        ("directories", (0..500).map(|i| Item::directory(format!("d{i}"))).collect::<Vec<_>>()),
        ("whiteouts", (0..500).map(|i| Item::file(format!(".wh.d{i}"), "")).collect()),
    ] {
        let scratch = Scratch::new();
        let dir = scratch.layer("l");
        let error = unpack(&print(&items)[..], dir.as_fd(), Lowers::Unknown, &options).unwrap_err();
        assert!(matches!(error, UnpackError::TooMany { what: found, .. } if found == what), "{error:?}");
    }
}

#[test]
fn root_a_truncated_layer_is_reported_as_such() {
    let items: Vec<Item> = (0..50).map(|i| Item::file(format!("f{i}"), vec![i as u8; 5000])).collect();
    let whole = print(&items);
    let zipped = gzip(&whole);
    for cut in [&whole[..whole.len() / 2], &zipped[..zipped.len() / 2], &zipped[..zipped.len() - 3]] {
        let scratch = Scratch::new();
        let error = unpack_into(&scratch, "l", cut).unwrap_err();
        assert!(matches!(error, UnpackError::Truncated { .. }), "{error:?}");
        assert_eq!(error.kind(), carrack_words::Kind::DataLoss);
    }
}

#[test]
fn root_a_full_disk_is_reported_as_such() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let scratch = Scratch::new();
    let small = scratch.0.join("small");
    std::fs::create_dir(&small).unwrap();
    mount("tmpfs", &small, "tmpfs", MountFlags::empty(), Some(c"size=1m")).unwrap();
    let dir = File::open(&small).unwrap();
    let error = unpack(
        &print(&[Item::file("big", vec![1; 2 << 20])])[..],
        dir.as_fd(),
        Lowers::Unknown,
        &UnpackOptions::default(),
    );
    drop(dir);
    unmount(&small, UnmountFlags::empty()).unwrap();
    let error = error.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (carrack_words::Kind::Exhausted, "unpack the layer: write big".to_owned())
    );
}

#[test]
fn root_copied_attributes_leave_out_what_overlayfs_trusts() {
    let scratch = Scratch::new();
    let bytes = print(&[
        Item::directory("d").mode(0o3711).owner(5, 6).mtime(9, 9).xattr("user.x", b"y"),
        Item::file("d/.wh..wh..opq", ""),
    ]);
    unpack_into(&scratch, "l", &bytes).unwrap();
    let (from, to) = (File::open(scratch.0.join("l/d")).unwrap(), scratch.layer("upper"));
    copy_attributes(from.as_fd(), to.as_fd()).unwrap();
    let stat = to.metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec()), (0o3711, 5, 6, 9, 9));
    let path = scratch.0.join("upper");
    assert_eq!((xattr(&path, "user.x"), xattr(&path, "trusted.overlay.opaque")), (Some(b"y".to_vec()), None));
}

#[test]
fn root_absolute_names_are_taken_from_the_root() {
    let scratch = Scratch::new();
    unpack_into(&scratch, "l", &print(&[Item::directory("/etc"), Item::file("//etc/./x", "1")])).unwrap();
    assert!(scratch.0.join("l/etc/x").exists());
}

/// CVE-2021-32760: a layer changed the mode of a file of the host by way of a link.
#[test]
fn root_attributes_are_never_set_through_a_link() {
    let scratch = Scratch::new();
    let outside = scratch.layer("outside");
    outside.set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
    let before = outside.metadata().unwrap();
    let target = scratch.0.join("outside");
    let target = target.to_str().unwrap();
    let items = [
        Item::symlink("directory", target),
        Item::directory("directory").mode(0o777).owner(5, 5).mtime(1, 1).xattr("user.x", b"y"),
        Item::symlink("file", target).owner(5, 5).mtime(1, 1).mode(0o777),
        Item::hard_link("second", "file").owner(6, 6).mode(0o777),
        Item::symlink("opaque", target),
        Item::file("opaque/.wh..wh..opq", ""),
    ];
    unpack_into(&scratch, "l", &print(&items)).unwrap();
    let after = outside.metadata().unwrap();
    let seen = |stat: &std::fs::Metadata| (stat.mode(), stat.uid(), stat.mtime(), stat.mtime_nsec());
    assert_eq!(seen(&after), seen(&before));
    assert_eq!(xattr(Path::new(target), "trusted.overlay.opaque"), None);
    assert_eq!(xattr(Path::new(target), "user.x"), None);
}

#[test]
fn root_an_empty_layer_is_an_empty_directory() {
    for bytes in [vec![], print(&[]), gzip(&print(&[])), gzip(&[])] {
        let scratch = Scratch::new();
        let (_, unpacked) = unpack_into(&scratch, "l", &bytes).unwrap();
        assert_eq!((unpacked.totals.inodes, unpacked.self_contained), (0, SelfContained::Yes));
        assert_eq!(std::fs::read_dir(scratch.0.join("l")).unwrap().count(), 0);
    }
}

/// What was written to is another inode than what was linked to before: a later entry must not change an earlier one's other names.
#[test]
fn root_replacing_one_name_leaves_the_other_names_of_a_file() {
    let scratch = Scratch::new();
    let items = [Item::file("a", "old"), Item::hard_link("b", "a"), Item::file("a", "new").mode(0o600)];
    unpack_into(&scratch, "l", &print(&items)).unwrap();
    let read = |name: &str| std::fs::read_to_string(scratch.0.join("l").join(name)).unwrap();
    assert_eq!((read("a"), read("b")), ("new".to_owned(), "old".to_owned()));
}

//! The same image, unpacked by umoci and by us: the same tree, file by file.
//!
//! The image has two layers made by umoci from directories of this machine and from every kind of file that we can make here.

mod archive;

use archive::Scratch;
use carrack_layer::{Lowers, Settled, UnpackOptions, settle, unpack};
use carrack_sys::rustix;
use rustix::fs::{FileType, Mode};
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a file is and says about itself. Hard links are shown as the first path of their inode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    content: Vec<u8>,
    same_as: Option<PathBuf>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

fn walk(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut tree, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let content = match stat.file_type() {
            kind if kind.is_file() => std::fs::read(&path).unwrap(),
            kind if kind.is_symlink() => std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        if stat.is_dir() {
            let mut children: Vec<PathBuf> =
                std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            children.sort();
            ahead.extend(children.into_iter().rev());
        }
        let is_linked = !stat.is_dir() && stat.nlink() > 1;
        let first = inodes.entry((stat.dev(), stat.ino())).or_insert_with(|| name.clone()).clone();
        let seen = Seen {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            mtime: (stat.mtime(), stat.mtime_nsec()),
            device: stat.rdev(),
            content,
            same_as: is_linked.then_some(first),
            xattrs: xattrs(&path),
        };
        tree.insert(name, seen);
    }
    tree
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = [0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut value = [0u8; 4096];
    names
        .map(|name| {
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
        })
        .collect()
}

/// The first layer: this machine's files, and what it does not have.
fn fill(rootfs: &Path) {
    for source in ["/etc", "/usr/share/perl5", "/usr/lib/x86_64-linux-gnu/perl-base"] {
        if Path::new(source).exists() {
            let target = rootfs.join(&source[1..]);
            let parent = target.parent().expect("it lies in the root at least");
            std::fs::create_dir_all(parent).unwrap();
            run("cp", &["-a", source, parent.to_str().unwrap()]);
        }
    }
    let special = rootfs.join("special");
    let at = |name: &str| special.join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(&special).unwrap();
    for name in ["plain", "first", "caps", "owned", "gone", "changed", "relinked"] {
        std::fs::write(special.join(name), name).unwrap();
    }
    std::fs::hard_link(special.join("first"), special.join("second")).unwrap();
    std::fs::write(special.join("n".repeat(200)), "long name").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), special.join("long-target")).unwrap();
    std::os::unix::fs::symlink("/etc", special.join("absolute")).unwrap();
    for directory in ["sticky", "setgid", "cleared", "replaced"] {
        std::fs::create_dir(special.join(directory)).unwrap();
        std::fs::write(special.join(directory).join("inside"), directory).unwrap();
    }
    let nodes = [("pipe", FileType::Fifo, 0), ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3))];
    for (name, kind, device) in nodes {
        rustix::fs::mknodat(rustix::fs::CWD, special.join(name), kind, Mode::from_raw_mode(0o600), device).unwrap();
    }
    run("chown", &["100000:200000", &at("owned")]);
    run("chmod", &["4755", &at("owned")]);
    run("chmod", &["1777", &at("sticky")]);
    run("chmod", &["2770", &at("setgid")]);
    run("touch", &["-d", "1999-12-31 23:59:59.123456789", &at("plain")]);
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(special.join("caps"), "security.capability", &capability, rustix::fs::XattrFlags::empty())
        .unwrap();
    rustix::fs::setxattr(special.join("plain"), "user.note", b"hello", rustix::fs::XattrFlags::empty()).unwrap();
}

/// The second layer: what can happen to the first.
fn change(rootfs: &Path) {
    let special = rootfs.join("special");
    std::fs::remove_file(special.join("gone")).unwrap();
    std::fs::remove_dir_all(special.join("cleared")).unwrap();
    std::fs::remove_dir_all(special.join("replaced")).unwrap();
    std::fs::write(special.join("replaced"), "now a file").unwrap();
    std::fs::write(special.join("changed"), "and longer than before").unwrap();
    std::fs::remove_file(special.join("relinked")).unwrap();
    std::os::unix::fs::symlink("plain", special.join("relinked")).unwrap();
    std::fs::create_dir(special.join("new")).unwrap();
    std::fs::write(special.join("new/file"), "new").unwrap();
    run("chmod", &["0700", special.join("setgid").to_str().unwrap()]);
}

/// The image's layers, bottom first, read out of umoci's layout.
fn layers(layout: &Path) -> Vec<PathBuf> {
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let digests = |path: &Path, list: &str| {
        // The two lists we need have their digests in order; that is all we ask of the JSON.
        let text = std::fs::read_to_string(path).unwrap();
        let list = &text[text.find(list).unwrap()..];
        list.match_indices("sha256:").map(|(at, _)| list[at..at + 71].to_owned()).collect::<Vec<_>>()
    };
    let manifest = blob(&digests(&layout.join("index.json"), "\"manifests\"")[0]);
    digests(&manifest, "\"layers\"").iter().map(|digest| blob(digest)).collect()
}

#[test]
fn root_the_tree_is_the_one_that_umoci_makes() {
    if Command::new("umoci").arg("--version").output().is_err() {
        eprintln!("SKIPPED: root_the_tree_is_the_one_that_umoci_makes: umoci is not installed");
        return;
    }
    let scratch = Scratch::new();
    let path = |name: &str| scratch.0.join(name).to_str().unwrap().to_owned();
    let (layout, image, bundle) = (path("layout"), path("layout") + ":t", path("bundle"));
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["unpack", "--image", &image, &bundle]);
    let rootfs = PathBuf::from(&bundle).join("rootfs");
    fill(&rootfs);
    run("umoci", &["repack", "--refresh-bundle", "--image", &image, &bundle]);
    change(&rootfs);
    run("umoci", &["repack", "--image", &image, &bundle]);
    run("umoci", &["unpack", "--image", &image, &path("theirs")]);

    // Each alone first, as if they came in parallel; then settled.
    let mut ours: Vec<(PathBuf, File)> = Vec::new();
    let options = UnpackOptions::default();
    for (number, blob) in layers(Path::new(&layout)).iter().enumerate() {
        let name = format!("layer{number}");
        let mut directory = scratch.layer(&name);
        let lowers: Vec<BorrowedFd<'_>> = ours.iter().rev().map(|(_, file)| file.as_fd()).collect();
        let unpacked = unpack(File::open(blob).unwrap(), directory.as_fd(), Lowers::Unknown, &options).unwrap();
        assert_eq!(unpacked.totals.xattrs_dropped, 0);
        let mut place = scratch.0.join(&name);
        if settle(directory.as_fd(), &unpacked.unsettled, &lowers).unwrap() == Settled::UnpackAgain {
            directory = scratch.layer(&format!("{name}again"));
            place = scratch.0.join(format!("{name}again"));
            unpack(File::open(blob).unwrap(), directory.as_fd(), Lowers::Known(&lowers), &options).unwrap();
        }
        drop(lowers);
        ours.push((place, directory));
    }
    assert_eq!(ours.len(), 2);
    let merged = scratch.0.join("merged");
    std::fs::create_dir(&merged).unwrap();
    let lowers: Vec<String> = ours.iter().rev().map(|(path, _)| path.display().to_string()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", lowers.join(":"))).unwrap();
    rustix::mount::mount("overlay", &merged, "overlay", MountFlags::empty(), Some(options.as_c_str())).unwrap();
    let mut mine = walk(&merged);
    rustix::mount::unmount(&merged, UnmountFlags::empty()).unwrap();
    let mut theirs = walk(&Path::new(&path("theirs")).join("rootfs"));
    // The root itself is the business of whoever mounts (see Totals::root_listed).
    mine.remove(Path::new(""));
    theirs.remove(Path::new(""));
    assert!(theirs.len() > 100, "the image has something in it");
    let names = |tree: &BTreeMap<PathBuf, Seen>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&mine), names(&theirs));
    for (name, want) in &theirs {
        assert_eq!(&mine[name], want, "{}", name.display());
    }
}

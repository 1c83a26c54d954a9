//! Unpacking layers in any order gives the tree that unpacking them one over the other gives.
//!
//! Stacks of small hostile layers are generated; each layer is unpacked alone, then settled over those below it, and mounted with overlayfs. The
//! merged tree is compared with a naive model that applies all entries to one tree in memory.

mod archive;

use archive::{Item, Scratch, archive as print};
use carrack_layer::{Lowers, SelfContained, Settled, UnpackOptions, settle, unpack};
use carrack_sys::rustix;
use proptest::prelude::*;
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

// ---- the model

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attributes {
    mode: u32,
    uid: u32,
    mtime: i64,
    xattr: Option<Vec<u8>>,
}

const IMPLIED: Attributes = Attributes { mode: 0o755, uid: 0, mtime: 0, xattr: None };

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    Fifo,
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    attributes: Attributes,
    /// The last layer that had a hand in it.
    layer: usize,
}

/// The tree by clean paths; the root is not in it.
#[derive(Debug, Clone, Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
enum Refused {
    /// Something on the way is neither a directory nor a link.
    NotDirectory,
    /// Anything else.
    Other,
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Model {
    /// Follows `path` to a directory as chroot would, making what is missing.
    fn enter(&mut self, path: &str, layer: usize) -> Result<String, Refused> {
        let mut ahead: Vec<String> = path.split('/').filter(|part| !part.is_empty()).rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                at = split(&at).0.to_owned();
                continue;
            }
            let child = join(&at, &part);
            match self.nodes.get_mut(&child) {
                None => {
                    self.nodes.insert(child.clone(), Node { kind: Kind::Directory, attributes: IMPLIED, layer });
                    at = child;
                }
                Some(node) => match node.kind.clone() {
                    Kind::Directory => {
                        node.layer = layer;
                        at = child;
                    }
                    Kind::Symlink(target) => {
                        links += 1;
                        if links > 40 {
                            return Err(Refused::Other);
                        }
                        if target.starts_with('/') {
                            at.clear();
                        }
                        ahead.extend(
                            target.split('/').filter(|part| !part.is_empty() && *part != ".").rev().map(str::to_owned),
                        );
                    }
                    Kind::File(_) | Kind::Fifo => return Err(Refused::NotDirectory),
                },
            }
        }
        Ok(at)
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|other, _| other != path && !other.starts_with(&below));
    }

    /// Removes what other layers put below `path`.
    fn hide_below(&mut self, path: &str, layer: usize) {
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.nodes.retain(|other, node| !other.starts_with(&below) || node.layer == layer);
    }

    fn apply(&mut self, entry: &Entry, layer: usize) -> Result<(), Refused> {
        match (self.place(entry, layer), &entry.what) {
            // Below what is not a directory nothing is left to be hidden.
            (Err(Refused::NotDirectory), What::Whiteout | What::Opaque) => Ok(()),
            (result, _) => result,
        }
    }

    fn place(&mut self, entry: &Entry, layer: usize) -> Result<(), Refused> {
        let (parent, name) = split(&entry.path);
        let attributes = entry.attributes.clone();
        let kind = match &entry.what {
            What::Opaque => {
                let at = self.enter(&entry.path, layer)?;
                self.hide_below(&at, layer);
                return Ok(());
            }
            What::Whiteout => {
                let path = join(&self.enter(parent, layer)?, name);
                match self.nodes.get(&path) {
                    Some(node) if node.layer == layer => self.hide_below(&path, layer),
                    _ => self.remove(&path),
                }
                return Ok(());
            }
            What::HardLink(target) => {
                let (target_parent, target_name) = split(target);
                let target = join(&self.enter(target_parent, layer)?, target_name);
                let node = self.nodes.get_mut(&target).ok_or(Refused::Other)?;
                if node.kind == Kind::Directory {
                    return Err(Refused::Other);
                }
                // Linking to a lower file brings it into this layer.
                node.layer = layer;
                let node = node.clone();
                let path = join(&self.enter(parent, layer)?, name);
                if path == target {
                    return Err(Refused::Other);
                }
                self.remove(&path);
                if !self.nodes.contains_key(&target) {
                    return Err(Refused::Other);
                }
                self.nodes.insert(path, node);
                return Ok(());
            }
            What::Directory => Kind::Directory,
            What::File(text) => Kind::File(text.clone()),
            What::Symlink(target) => Kind::Symlink(target.clone()),
            What::Fifo => Kind::Fifo,
        };
        let path = join(&self.enter(parent, layer)?, name);
        let stays = kind == Kind::Directory && self.nodes.get(&path).is_some_and(|node| node.kind == Kind::Directory);
        if !stays {
            self.remove(&path);
        }
        self.nodes.insert(path, Node { kind, attributes, layer });
        Ok(())
    }

    fn tree(&self) -> Tree {
        self.nodes.iter().map(|(path, node)| (path.clone(), (node.kind.clone(), node.attributes.clone()))).collect()
    }
}

// ---- what is generated

#[derive(Debug, Clone)]
enum What {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    HardLink(String),
    Fifo,
    Whiteout,
    Opaque,
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    what: What,
    attributes: Attributes,
}

impl Entry {
    fn item(&self) -> Item {
        let (parent, name) = split(&self.path);
        let item = match &self.what {
            What::Directory => Item::directory(&self.path),
            What::File(text) => Item::file(&self.path, text),
            What::Symlink(target) => Item::symlink(&self.path, target),
            What::HardLink(target) => Item::hard_link(&self.path, target),
            What::Fifo => Item::new(b'6', &self.path),
            What::Whiteout => Item::file(join(parent, &format!(".wh.{name}")), ""),
            What::Opaque => Item::file(join(&self.path, ".wh..wh..opq"), ""),
        };
        let item = item.mode(self.attributes.mode.into()).owner(self.attributes.uid.into(), 0);
        let item = item.mtime(self.attributes.mtime, 0);
        match &self.attributes.xattr {
            Some(value) => item.xattr("user.x", value),
            None => item,
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn entry() -> impl Strategy<Value = Entry> {
    let target = prop::sample::select(vec!["/a", "b", "../c", "a/b", "/", "..", "/b/c", "c"]);
    let what = prop_oneof![
        5 => Just(What::Directory),
        4 => prop::collection::vec(any::<u8>(), 0..4).prop_map(What::File),
        3 => target.prop_map(|target| What::Symlink(target.to_owned())),
        2 => path().prop_map(What::HardLink),
        1 => Just(What::Fifo),
        3 => Just(What::Whiteout),
        2 => Just(What::Opaque),
    ];
    let modes = prop::sample::select(vec![0o755, 0o700, 0o2775, 0o1777]);
    (path(), what, modes, 0u32..3, 1i64..1000, prop::option::weighted(0.2, Just(b"v".to_vec()))).prop_map(
        |(path, what, mode, uid, mtime, xattr)| {
            let is_link = matches!(what, What::Symlink(_));
            let special = matches!(what, What::Fifo);
            let attributes = Attributes {
                mode: if is_link { 0o777 } else { mode },
                uid,
                mtime,
                // Only files and directories have attributes of users.
                xattr: if is_link || special { None } else { xattr },
            };
            Entry { path, what, attributes }
        },
    )
}

fn stack() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    prop::collection::vec(prop::collection::vec(entry(), 1..8), 1..5)
}

// ---- the real thing

type Tree = BTreeMap<String, (Kind, Attributes)>;

/// Unpacks alone and settles; if that is not enough, unpacks again over the layers below.
fn unpack_alone(bytes: &[u8], scratch: &Scratch, name: &str, lowers: &[BorrowedFd<'_>]) -> Result<File, Refused> {
    let directory = scratch.layer(name);
    let options = UnpackOptions::default();
    let unpacked = unpack(bytes, directory.as_fd(), Lowers::Unknown, &options).map_err(|_| Refused::Other)?;
    if unpacked.self_contained == SelfContained::Yes {
        return Ok(directory);
    }
    match settle(directory.as_fd(), &unpacked.unsettled, lowers).expect("nothing but the layer can be wrong") {
        Settled::Done => Ok(directory),
        Settled::UnpackAgain => unpack_over(bytes, scratch, &format!("{name}-again"), lowers),
    }
}

fn unpack_over(bytes: &[u8], scratch: &Scratch, name: &str, lowers: &[BorrowedFd<'_>]) -> Result<File, Refused> {
    let directory = scratch.layer(name);
    unpack(bytes, directory.as_fd(), Lowers::Known(lowers), &UnpackOptions::default()).map_err(|_| Refused::Other)?;
    Ok(directory)
}

fn walk(path: &Path, name: &str, tree: &mut Tree) {
    for entry in std::fs::read_dir(path).expect("a directory") {
        let entry = entry.expect("an entry");
        let child = join(name, &entry.file_name().into_string().expect("names are ASCII"));
        let stat = entry
            .metadata()
            .expect("what is listed is there, so no whiteout is left in a directory that is not merged");
        let kind = match stat.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => {
                Kind::Symlink(std::fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap())
            }
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_file() => Kind::File(std::fs::read(entry.path()).unwrap()),
            kind => panic!("{child} is {kind:?}"),
        };
        let mut value = [0u8; 16];
        let xattr = match rustix::fs::lgetxattr(entry.path(), "user.x", &mut value[..]) {
            Ok(length) => Some(value[..length].to_vec()),
            Err(_) => None,
        };
        let attributes = Attributes { mode: stat.mode() & 0o7777, uid: stat.uid(), mtime: stat.mtime(), xattr };
        if kind == Kind::Directory {
            walk(&entry.path(), &child, tree);
        }
        tree.insert(child, (kind, attributes));
    }
}

/// Mounts the layers, given topmost first, and reads the merged tree.
fn merged(scratch: &Scratch, layers: &[String]) -> Tree {
    let (bottom, target) = (scratch.0.join("bottom"), scratch.0.join("merged"));
    // overlayfs wants two lower directories; an empty one at the bottom changes nothing.
    let _ = std::fs::create_dir(&bottom);
    let _ = std::fs::create_dir(&target);
    let paths: Vec<String> = layers.iter().map(|name| scratch.0.join(name).display().to_string()).collect();
    let options = std::ffi::CString::new(format!("lowerdir={}:{}", paths.join(":"), bottom.display())).unwrap();
    rustix::mount::mount("overlay", &target, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .expect("mount overlay");
    let mut tree = Tree::new();
    walk(&target, "", &mut tree);
    rustix::mount::unmount(&target, UnmountFlags::empty()).expect("unmount overlay");
    tree
}

type Unpack = fn(&[u8], &Scratch, &str, &[BorrowedFd<'_>]) -> Result<File, Refused>;

fn check(stack: &[Vec<Entry>], prefix: &str, how: Unpack) -> Result<(), TestCaseError> {
    let scratch = Scratch::new();
    let mut model = Model::default();
    // Topmost first.
    let mut layers: Vec<(String, File)> = Vec::new();
    let mut root_opaque = false;
    for (number, entries) in stack.iter().enumerate() {
        let bytes = print(&entries.iter().map(Entry::item).collect::<Vec<_>>());
        let expected = entries.iter().try_for_each(|entry| model.apply(entry, number));
        let lowers: Vec<BorrowedFd<'_>> = layers.iter().map(|(_, file)| file.as_fd()).collect();
        let name = format!("{prefix}{number}");
        let unpacked = how(&bytes, &scratch, &name, &lowers);
        prop_assert_eq!(unpacked.is_ok(), expected.is_ok(), "layer {}", number);
        let Ok(directory) = unpacked else {
            return Ok(());
        };
        let again = format!("{name}-again");
        let name = if scratch.0.join(&again).exists() { again } else { name };
        // overlayfs does not look for the mark on a root, so what lies below such a layer is left out (see Totals::root_opaque).
        let totals = unpack(
            &bytes[..],
            scratch.layer(&format!("{name}-totals")).as_fd(),
            Lowers::Known(&lowers),
            &UnpackOptions::default(),
        );
        root_opaque |= totals.expect("it was unpacked before").totals.root_opaque;
        if root_opaque {
            layers.clear();
            root_opaque = false;
        }
        layers.insert(0, (name, directory));
    }
    let names: Vec<String> = layers.iter().map(|(name, _)| name.clone()).collect();
    prop_assert_eq!(merged(&scratch, &names), model.tree());
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn root_layers_unpacked_alone_and_settled_merge_to_the_serial_tree(stack in stack()) {
        check(&stack, "alone", unpack_alone)?;
    }

    #[test]
    fn root_layers_unpacked_over_each_other_merge_to_the_serial_tree(stack in stack()) {
        check(&stack, "over", unpack_over)?;
    }
}

//! Resolves and opens paths inside a root, with handles only.
//!
//! A [`Root`] is a handle on a directory. Every path is resolved by the kernel with openat2(2) and `RESOLVE_IN_ROOT` (Linux 5.6):
//! `..` and absolute symbolic links end at the root, magic links of procfs are refused, and whoever renames directories meanwhile
//! gains nothing. What comes back is a handle, never a path; work goes on relative to it (CVE-2021-30465, CVE-2024-45310).

#![forbid(unsafe_code)]

mod copy;
mod error;
mod path;
mod remove;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, readlinkat, statat,
};
use carrack_sys::rustix::io::Errno;

pub use copy::{CopyError, copy_tree};
pub use error::RootedError;
pub use path::RelativePath;
pub use remove::remove_tree;

/// How many symbolic links [`Root::create_dir_all`] follows before it gives up; the kernel's own limit.
const MAX_LINKS: usize = 40;
/// How often a resolution is repeated that lost a race with a rename; the kernel says EAGAIN then.
const MAX_RACES: usize = 128;

/// A directory that paths cannot leave.
#[derive(Debug)]
pub struct Root {
    handle: OwnedFd,
}

impl From<OwnedFd> for Root {
    /// Takes a handle on a directory as a root; `O_PATH` is enough.
    fn from(handle: OwnedFd) -> Self {
        Self { handle }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Root {
    /// Opens a directory of the host, by a path that the operator chose; its symbolic links are followed.
    pub fn open_host(path: &Path) -> Result<Self, RootedError> {
        let handle = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| RootedError::Open { path: path.to_owned(), source: source.into() })?;
        Ok(Self { handle })
    }

    /// A handle (`O_PATH`) on what the path leads to; symbolic links are followed, within the root.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<OwnedFd, RootedError> {
        self.open(path, OFlags::PATH)
    }

    /// A handle (`O_PATH`) on the path itself, also if it is a symbolic link; links on the way are followed, within the root.
    pub fn resolve_last(&self, path: impl AsRef<Path>) -> Result<OwnedFd, RootedError> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Opens what the path leads to. Never creates; a device or FIFO in the way blocks unless `flags` say otherwise.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, RootedError> {
        let path = path.as_ref();
        self.open_raw(path, flags).map_err(|source| RootedError::Open { path: path.to_owned(), source })
    }

    fn open_raw(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let relative = RelativePath::new(path);
        resolve_in(self.handle.as_fd(), relative.as_path(), flags, ResolveFlags::IN_ROOT)
    }

    /// A handle (`O_PATH`) on the directory, which is made with all its parents if missing, with `mode` less the umask.
    ///
    /// A symbolic link on the way whose target is missing is followed, within the root, and the target made: images have
    /// `/var/run -> /run` and no `/run`.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd, RootedError> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open_raw(path, flags) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            other => return other.map_err(|source| RootedError::CreateDirectory { path: path.to_owned(), source }),
        }
        let relative = RelativePath::new(path);
        if let Some(handle) = self.create_last(&relative, mode) {
            return Ok(handle);
        }
        self.create_missing(relative, mode)
            .map_err(|source| RootedError::CreateDirectory { path: path.to_owned(), source })
    }

    /// The common case: only the last directory is missing. `None` where it is not that simple.
    fn create_last(&self, path: &RelativePath, mode: u32) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let (parent, name) = path.split_last()?;
        let parent = self.open_raw(parent, flags).ok()?;
        mkdirat(&parent, name, Mode::from(mode)).ok()?;
        child_of(parent.as_fd(), name, flags).ok()
    }

    fn create_missing(&self, path: RelativePath, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut wanted = path;
        for _ in 0..MAX_LINKS {
            // The longest prefix that exists; the empty one is the root.
            let mut made = PathBuf::new();
            let mut parent = self.open_raw(Path::new("."), flags)?;
            let mut expanded = None;
            let components: Vec<_> = wanted.as_path().components().collect();
            for (index, component) in components.iter().enumerate() {
                let name = Path::new(component);
                let next = made.join(name);
                match self.open_raw(&next, flags) {
                    Ok(handle) => parent = handle,
                    Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                        if name == Path::new("..") {
                            return Err(Errno::NOENT.into());
                        }
                        match mkdirat(&parent, name, Mode::from(mode)) {
                            Ok(()) => parent = child_of(parent.as_fd(), name, flags)?,
                            Err(Errno::EXIST) => {
                                // Either somebody was faster, or it is a link to nowhere.
                                match readlinkat(&parent, name, Vec::new()) {
                                    Ok(target) => {
                                        let rest: PathBuf = components[index + 1..].iter().collect();
                                        let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                                        expanded = Some(RelativePath::new(made.join(target).join(rest)));
                                        break;
                                    }
                                    Err(Errno::INVAL) => parent = child_of(parent.as_fd(), name, flags)?,
                                    Err(error) => return Err(error.into()),
                                }
                            }
                            Err(error) => return Err(error.into()),
                        }
                    }
                    Err(error) => return Err(error),
                }
                made = next;
            }
            match expanded {
                None => return Ok(parent),
                Some(path) => wanted = path,
            }
        }
        Err(Errno::LOOP.into())
    }

    /// A handle (`O_PATH`) on the file, which is made empty if missing, and its parents with mode 0755. What is there already
    /// is left as it is, unless it is a directory, which is refused.
    ///
    /// A symbolic link whose target is missing is followed, within the root, and the target made: images have
    /// `/etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf` and nothing there.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd, RootedError> {
        let path = path.as_ref();
        let failed = |source| RootedError::CreateFile { path: path.to_owned(), source };
        match self.open_raw(path, OFlags::PATH) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            Err(error) => return Err(failed(error)),
            Ok(handle) => {
                let there = statat(&handle, "", AtFlags::EMPTY_PATH).map_err(|error| failed(error.into()))?;
                let is_directory = there.st_mode & 0o170_000 == 0o040_000;
                return if is_directory { Err(failed(Errno::ISDIR.into())) } else { Ok(handle) };
            }
        }
        let mut wanted = RelativePath::new(path);
        for _ in 0..MAX_LINKS {
            let (parent, name) = wanted.split_last().ok_or_else(|| failed(Errno::ISDIR.into()))?;
            let directory = self.create_dir_all(parent, 0o755)?;
            let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY | OFlags::NONBLOCK;
            // O_EXCL and O_NOFOLLOW: nothing that appears meanwhile is opened.
            match openat(&directory, name, flags | OFlags::EXCL, Mode::from(mode)) {
                Ok(_) => return child_of(directory.as_fd(), name, OFlags::PATH).map_err(failed),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
            match readlinkat(&directory, name, Vec::new()) {
                Ok(target) => {
                    let target = target.to_str().map_err(|_| failed(Errno::ILSEQ.into()))?;
                    wanted = RelativePath::new(parent.join(target));
                }
                // Somebody was faster.
                Err(Errno::INVAL) => return child_of(directory.as_fd(), name, OFlags::PATH).map_err(failed),
                Err(error) => return Err(failed(error.into())),
            }
            // The link may lead to something that is there by another way.
            match self.open_raw(wanted.as_path(), OFlags::PATH) {
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                other => return other.map_err(failed),
            }
        }
        Err(failed(Errno::LOOP.into()))
    }
}

/// Opens one name in a directory; a symbolic link or a mount point there is refused with `ELOOP` or `EXDEV`.
pub fn child_of(directory: BorrowedFd<'_>, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    resolve_in(directory, name, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV)
}

fn resolve_in(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, how: ResolveFlags) -> io::Result<OwnedFd> {
    for _ in 0..MAX_RACES {
        let flags = flags | OFlags::CLOEXEC;
        match openat2(directory, path, flags, Mode::empty(), how | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
    Err(Errno::AGAIN.into())
}

/// A path of this process for what a handle stands for, for the few calls that take only paths.
pub fn path_of(handle: impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

/// The working directory as a root, for tests and tools.
pub fn working_directory() -> Result<Root, RootedError> {
    let handle = openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| RootedError::Open { path: ".".into(), source: source.into() })?;
    Ok(Root { handle })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("carrack-rooted-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            fs::create_dir(path.join("root")).unwrap();
            Self(path)
        }

        fn root(&self) -> Root {
            Root::open_host(&self.0.join("root")).unwrap()
        }

        fn inside(&self, path: &str) -> PathBuf {
            self.0.join("root").join(path)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn inode(handle: &OwnedFd) -> u64 {
        statat(handle, "", AtFlags::EMPTY_PATH).unwrap().st_ino
    }

    #[test]
    fn no_path_leaves_the_root() {
        let tree = Tree::new("leave");
        fs::write(tree.0.join("secret"), "outside").unwrap();
        fs::write(tree.inside("secret"), "inside").unwrap();
        symlink("../secret", tree.inside("relative")).unwrap();
        symlink("/secret", tree.inside("absolute")).unwrap();
        let want = fs::metadata(tree.inside("secret")).unwrap().ino();
        for path in ["secret", "/secret", "../secret", "/../../secret", "relative", "absolute", "./relative/"] {
            let path = path.trim_end_matches('/');
            assert_eq!(inode(&tree.root().resolve(path).unwrap()), want, "{path}");
        }
    }

    #[test]
    fn directories_are_made_through_links_to_nowhere_but_inside() {
        let tree = Tree::new("dangling");
        fs::create_dir(tree.inside("var")).unwrap();
        symlink("/run", tree.inside("var/run")).unwrap();
        symlink("../../../../escaped", tree.inside("var/out")).unwrap();
        let made = tree.root().create_dir_all("/var/run/a/b", 0o755).unwrap();
        assert_eq!(inode(&made), fs::metadata(tree.inside("run/a/b")).unwrap().ino());
        tree.root().create_dir_all("var/out/x", 0o755).unwrap();
        assert!(tree.inside("escaped/x").is_dir());
        assert!(!tree.0.join("escaped").exists());
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        let tree = Tree::new("circle");
        symlink("b", tree.inside("a")).unwrap();
        symlink("a", tree.inside("b")).unwrap();
        assert!(tree.root().create_dir_all("a/x", 0o755).is_err());
        assert!(tree.root().resolve("a").is_err());
    }

    #[test]
    fn a_file_is_made_once_and_kept_afterwards() {
        let tree = Tree::new("file");
        let root = tree.root();
        let first = root.create_file("/etc/deep/hosts", 0o644).unwrap();
        fs::write(tree.inside("etc/deep/hosts"), "kept").unwrap();
        assert_eq!(inode(&root.create_file("etc/deep/hosts", 0o644).unwrap()), inode(&first));
        assert_eq!(fs::read_to_string(tree.inside("etc/deep/hosts")).unwrap(), "kept");
        assert!(root.create_file("etc", 0o644).is_err(), "a directory is not a file");
    }

    #[test]
    fn a_file_is_made_where_a_link_to_nowhere_leads_but_inside() {
        let tree = Tree::new("dangling-file");
        let root = tree.root();
        fs::create_dir(tree.inside("etc")).unwrap();
        symlink("../run/systemd/stub", tree.inside("etc/resolv.conf")).unwrap();
        symlink("/../../../escaped", tree.inside("etc/out")).unwrap();
        symlink("second", tree.inside("etc/first")).unwrap();
        symlink("/var/third", tree.inside("etc/second")).unwrap();
        for (path, want) in
            [("/etc/resolv.conf", "run/systemd/stub"), ("etc/out", "escaped"), ("etc/first", "var/third")]
        {
            let made = root.create_file(path, 0o644).unwrap();
            assert_eq!(inode(&made), fs::metadata(tree.inside(want)).unwrap().ino(), "{path}");
        }
        assert!(!tree.0.join("escaped").exists());
        assert_eq!(fs::read_link(tree.inside("etc/first")).unwrap(), Path::new("second"));
    }

    #[test]
    fn a_missing_parent_reached_by_dot_dot_is_refused() {
        let tree = Tree::new("dotdot");
        let error = tree.root().create_dir_all("missing/../../x", 0o755);
        assert!(!tree.0.join("x").exists());
        // `missing` is made, and `..` of it is the root again: either answer keeps us inside.
        if error.is_ok() {
            assert!(tree.inside("x").is_dir());
        }
    }

    #[test]
    fn a_magic_link_is_refused() {
        let root = Root::open_host(Path::new("/proc/self")).unwrap();
        assert!(root.resolve("exe").is_err());
    }
}

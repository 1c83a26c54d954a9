//! Makes files out of entries.

mod hide;
mod link;
mod way;

use carrack_sys::rustix;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::cursor::Cursor;
use super::lower::LowerView;
use super::remove::remove_tree;
use super::tree::{Directory, Tree};
use super::{Implied, Lowers, Reason, SelfContained, Totals, Unsettled};
use crate::attributes::{self, Attributes, Late, Node};
use crate::path::{CleanPath, Place, place, split};
use crate::tar::{Reader, TarEntry, Type};
use crate::{Devices, EntryProblem, UnpackError, UnpackOptions};

/// Whether it makes sense to go on.
pub(super) enum Progress {
    /// It does.
    GoesOn,
    /// The layer has to be unpacked again when the layers below are known.
    NeedsLowers,
}

/// The state of one layer's unpacking.
pub(super) struct Writer<'a> {
    root: BorrowedFd<'a>,
    /// `None` if nothing is known of the layers below.
    lower: Option<LowerView<'a>>,
    options: &'a UnpackOptions,
    /// Owner of what we create.
    ours: (u32, u32),
    tree: Tree,
    cursor: Cursor,
    reason: Option<Reason>,
    implied: Vec<CleanPath>,
    whiteouts: Vec<CleanPath>,
    unpack_again: bool,
    totals: Totals,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        root: BorrowedFd<'a>,
        lowers: Lowers<'a>,
        options: &'a UnpackOptions,
    ) -> Result<Self, UnpackError> {
        // A default ACL that the store's directory passed on would be passed on to every file.
        match rustix::fs::fremovexattr(root, attributes::DEFAULT_ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(UnpackError::write("remove the default ACL of", "/", error)),
        }
        let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self {
            root,
            lower: match lowers {
                Lowers::Unknown => None,
                Lowers::Known(layers) => Some(LowerView::new(layers)),
            },
            options,
            ours,
            tree: Tree::new(&options.limits),
            cursor: Cursor::new(root)?,
            reason: None,
            implied: Vec::new(),
            whiteouts: Vec::new(),
            unpack_again: false,
            totals: Totals::default(),
        })
    }

    /// Applies one entry, whose data `reader` has next.
    pub(super) fn apply<R: BufRead>(
        &mut self,
        mut entry: TarEntry,
        reader: &mut Reader<R>,
    ) -> Result<Progress, UnpackError> {
        let refuse = |entry: &TarEntry, source| UnpackError::entry(&entry.name, source);
        let place = place(&entry.name, &self.options.limits).map_err(|problem| refuse(&entry, problem))?;
        let path = match place {
            Place::Ignored => return Ok(Progress::GoesOn),
            Place::Whiteout(path) => return hides(self.white_out(&path)),
            Place::Opaque(path) => return hides(self.make_opaque(&path)),
            Place::Root if entry.kind == Type::Directory => {
                let attributes = self.attributes(&mut entry)?;
                self.totals.root_listed = true;
                return self.list_again(b".", &[], attributes).map(|()| Progress::GoesOn);
            }
            Place::Root => return Err(refuse(&entry, EntryProblem::RootNotDirectory)),
            Place::Entry(path) => path,
        };
        let (parent, name) = split(&path);
        if entry.kind == Type::HardLink {
            return self.hard_link(&entry, parent, name);
        }
        let attributes = self.attributes(&mut entry)?;
        self.enter(parent)?;
        match entry.kind {
            Type::Directory => self.directory(name, attributes)?,
            Type::File => self.file(name, &entry, &attributes, reader)?,
            Type::Symlink => self.symlink(name, &entry, &attributes)?,
            Type::CharDevice | Type::BlockDevice | Type::Fifo => self.node(name, &entry, &attributes)?,
            Type::HardLink => unreachable!("answered above"),
        }
        Ok(Progress::GoesOn)
    }

    /// Whether entries may have gone where they do not belong, because nothing is known of the layers below.
    pub(super) fn is_guessing(&self) -> bool {
        self.lower.is_none() && self.reason.is_some()
    }

    /// Leaves the layer to be unpacked again.
    pub(super) fn give_up(&mut self) {
        self.unpack_again = true;
    }

    /// Sets what could not be set before everything was there, and tells what was found out.
    pub(super) fn finish(mut self, entries: u64) -> Result<(Totals, SelfContained, Unsettled), UnpackError> {
        self.totals.entries = entries;
        if !self.unpack_again {
            for (path, directory) in self.tree.iter() {
                let open = open_below(self.root, path).map_err(|error| UnpackError::write("open", path, error))?;
                if let Some(late) = &directory.late {
                    self.totals.xattrs_dropped += late.set(open.as_fd(), path)?;
                }
                attributes::set_times(open.as_fd(), directory.mtime, path)?;
            }
        }
        let awaits = |path: &[u8]| self.tree.get(path).is_some_and(|directory| directory.awaits_lower);
        let implied = self.implied.iter();
        let unsettled = Unsettled {
            implied: implied.map(|path| Implied { wants_attributes: awaits(path), path: path.clone() }).collect(),
            whiteouts: self.whiteouts,
            unpack_again: self.unpack_again,
        };
        let self_contained = match self.reason {
            None => SelfContained::Yes,
            Some(reason) => SelfContained::No { reason },
        };
        Ok((self.totals, self_contained, unsettled))
    }

    fn attributes(&mut self, entry: &mut TarEntry) -> Result<Attributes, UnpackError> {
        let (attributes, dropped) =
            Attributes::of(entry).map_err(|problem| UnpackError::entry(&entry.name, problem))?;
        self.totals.xattrs_dropped += dropped;
        Ok(attributes)
    }

    fn depends(&mut self, reason: impl FnOnce() -> Reason) {
        self.reason.get_or_insert_with(reason);
    }

    fn directory(&mut self, name: &[u8], mut attributes: Attributes) -> Result<(), UnpackError> {
        let path = self.cursor.child(name);
        if self.tree.get(&path).is_some() {
            return self.list_again(name, &path, attributes);
        }
        let late = Late::split_off(&mut attributes);
        let mode = Mode::from_raw_mode(attributes.mode);
        let failed = |error| UnpackError::write("create the directory", &path, error);
        let opaque = match rustix::fs::mkdirat(self.cursor.directory(), name, mode) {
            Ok(()) => false,
            Err(Errno::EXIST) => {
                // A file or a whiteout of this layer: it has removed what lower layers have here.
                self.clear(name, &path)?;
                rustix::fs::mkdirat(self.cursor.directory(), name, mode).map_err(failed)?;
                self.mark_opaque(name, &path)?
            }
            Err(error) => return Err(failed(error)),
        };
        self.totals.inodes += 1;
        if (attributes.uid, attributes.gid) != self.ours || !attributes.xattrs.is_empty() {
            let open = self.open_child(name, &path)?;
            attributes::set_owner_and_mode(open.as_fd(), &attributes, self.ours, &path)?;
            self.totals.xattrs_dropped += attributes::set_xattrs(open.as_fd(), &attributes.xattrs, &path)?;
        }
        let directory = Directory { listed: true, awaits_lower: false, opaque, mtime: attributes.mtime, late };
        self.tree.insert(path, directory)
    }

    /// Gives a directory that is there the attributes of its entry; its contents stay.
    fn list_again(&mut self, name: &[u8], path: &[u8], mut attributes: Attributes) -> Result<(), UnpackError> {
        if path.is_empty() {
            self.cursor.go_to_root();
        }
        let open = self.open_child(name, path)?;
        let late = Late::split_off(&mut attributes);
        attributes::clear_xattrs(open.as_fd(), path)?;
        // Its present owner is that of an earlier entry.
        attributes::set_owner_and_mode(open.as_fd(), &attributes, (u32::MAX, u32::MAX), path)?;
        rustix::fs::fchmod(&open, Mode::from_raw_mode(attributes.mode))
            .map_err(|error| UnpackError::write("change the mode of", path, error))?;
        self.totals.xattrs_dropped += attributes::set_xattrs(open.as_fd(), &attributes.xattrs, path)?;
        let directory = self.tree.get_mut(path).expect("callers looked it up");
        *directory =
            Directory { listed: true, awaits_lower: false, opaque: directory.opaque, mtime: attributes.mtime, late };
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        name: &[u8],
        entry: &TarEntry,
        attributes: &Attributes,
        reader: &mut Reader<R>,
    ) -> Result<(), UnpackError> {
        if entry.size_bytes > self.options.limits.tar_bytes {
            return Err(UnpackError::entry(&entry.name, EntryProblem::TooLarge { bytes: entry.size_bytes }));
        }
        let path = self.cursor.child(name);
        let file = self.create(name, &path, |dir| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(attributes.mode))
        })?;
        self.totals.file_bytes += write_data(&file, entry, reader, &path)?;
        attributes::set_owner_and_mode(file.as_fd(), attributes, self.ours, &path)?;
        if !attributes.xattrs.is_empty() {
            self.totals.xattrs_dropped += attributes::set_xattrs(file.as_fd(), &attributes.xattrs, &path)?;
        }
        attributes::set_times(file.as_fd(), attributes.mtime, &path)
    }

    fn symlink(&mut self, name: &[u8], entry: &TarEntry, attributes: &Attributes) -> Result<(), UnpackError> {
        let path = self.cursor.child(name);
        let problem = match &entry.link[..] {
            b"" => Some(EntryProblem::Empty),
            target if target.contains(&0) => Some(EntryProblem::Nul),
            target if target.len() > self.options.limits.path_bytes => Some(EntryProblem::TooLong),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(UnpackError::entry(&entry.name, problem));
        }
        self.create(name, &path, |dir| rustix::fs::symlinkat(&entry.link[..], dir, name))?;
        self.set_all(name, Node::Symlink, attributes, &path)
    }

    fn node(&mut self, name: &[u8], entry: &TarEntry, attributes: &Attributes) -> Result<(), UnpackError> {
        let path = self.cursor.child(name);
        let refuse = |problem| Err(UnpackError::entry(&entry.name, problem));
        let (kind, device) = match entry.kind {
            Type::Fifo => (FileType::Fifo, 0),
            _ if self.options.devices == Devices::Refuse => return refuse(EntryProblem::Device),
            Type::CharDevice if entry.device == (0, 0) => return refuse(EntryProblem::RawWhiteout),
            // The kernel's dev_t has twelve bits of major and twenty of minor number.
            _ => match entry.device {
                (major @ 0..=0xfff, minor @ 0..=0xf_ffff) => {
                    let kind = match entry.kind {
                        Type::CharDevice => FileType::CharacterDevice,
                        _ => FileType::BlockDevice,
                    };
                    (kind, rustix::fs::makedev(major as u32, minor as u32))
                }
                _ => return refuse(EntryProblem::DeviceNumber),
            },
        };
        let mode = Mode::from_raw_mode(attributes.mode);
        self.create(name, &path, |dir| rustix::fs::mknodat(dir, name, kind, mode, device))?;
        self.set_all(name, Node::Special, attributes, &path)
    }

    /// Makes something that is not a directory; what this layer had in its place goes away.
    fn create<T>(
        &mut self,
        name: &[u8],
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let made = match make(self.cursor.directory()) {
            Err(Errno::EXIST) => {
                self.clear(name, path)?;
                make(self.cursor.directory())
            }
            result => result,
        };
        self.totals.inodes += 1;
        made.map_err(|error| UnpackError::write("create", path, error))
    }

    /// Removes what this layer has at `name` in the directory at hand.
    fn clear(&mut self, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let here = self.cursor.directory();
        let removed = if self.tree.get(path).is_some() {
            remove_tree(here, name)
        } else {
            rustix::fs::unlinkat(here, name, AtFlags::empty()).map(|()| 1)
        };
        let removed = removed.map_err(|error| UnpackError::write("replace", path, error))?;
        self.tree.remove(path);
        // Names are counted here, inodes there: with hard links the difference is an estimate.
        self.totals.inodes = self.totals.inodes.saturating_sub(removed);
        Ok(())
    }

    fn open_child(&self, name: &[u8], path: &[u8]) -> Result<OwnedFd, UnpackError> {
        attributes::open_directory(self.cursor.directory(), name)
            .map_err(|error| UnpackError::write("open", path, error))
    }

    fn set_all(&mut self, name: &[u8], kind: Node, attributes: &Attributes, path: &[u8]) -> Result<(), UnpackError> {
        self.totals.xattrs_dropped +=
            attributes::set_all_at(self.cursor.directory(), name, kind, attributes, self.ours, path)?;
        Ok(())
    }
}

/// Below what is not a directory nothing is left to be hidden: umoci lists what was in a directory that became a file.
fn hides(result: Result<(), UnpackError>) -> Result<Progress, UnpackError> {
    match result {
        Ok(()) | Err(UnpackError::Entry { source: EntryProblem::ParentNotDirectory { .. }, .. }) => {
            Ok(Progress::GoesOn)
        }
        Err(error) => Err(error),
    }
}

/// Opens a directory of ours by its whole path; the kernel sees to it that no link is followed.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Writes an entry's data, with its holes; returns the bytes written.
fn write_data<R: BufRead>(
    file: &OwnedFd,
    entry: &TarEntry,
    reader: &mut Reader<R>,
    path: &[u8],
) -> Result<u64, UnpackError> {
    let failed = |error| UnpackError::write("write", path, error);
    let mut written = 0;
    let Some(map) = &entry.sparse else {
        reader.pass_data(|mut piece| {
            while !piece.is_empty() {
                let count = rustix::io::retry_on_intr(|| rustix::io::write(file, piece)).map_err(failed)?;
                piece = &piece[count..];
                written += count as u64;
            }
            Ok(())
        })?;
        return Ok(written);
    };
    let mut parts = map.iter().copied();
    let mut part = parts.next();
    reader.pass_data(|mut piece| {
        while !piece.is_empty() {
            let current = part.as_mut().expect("the map was checked to cover all stored bytes");
            let length = piece.len().min(usize::try_from(current.length).unwrap_or(usize::MAX));
            let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, &piece[..length], current.offset))
                .map_err(failed)?;
            piece = &piece[count..];
            written += count as u64;
            current.offset += count as u64;
            current.length -= count as u64;
            if current.length == 0 {
                part = parts.next();
            }
        }
        Ok(())
    })?;
    rustix::fs::ftruncate(file, entry.size_bytes).map_err(failed)?;
    Ok(written)
}

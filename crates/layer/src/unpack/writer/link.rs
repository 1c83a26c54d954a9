//! Hard links, within the layer and to files of lower ones.

use carrack_sys::rustix;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;

use super::{Progress, Writer};
use crate::path::{clean, split};
use crate::tar::TarEntry;
use crate::unpack::copy_up::copy_up;
use crate::unpack::lower::{Lower, LowerView};
use crate::unpack::{Reason, is_whiteout};
use crate::{EntryProblem, Shown, UnpackError};

impl Writer<'_> {
    /// Gives a file of this layer, or of one below it, a second name.
    pub(super) fn hard_link(&mut self, entry: &TarEntry, parent: &[u8], name: &[u8]) -> Result<Progress, UnpackError> {
        let refuse = |problem| UnpackError::entry(&entry.name, problem);
        let target = clean(&entry.link, &self.options.limits).map_err(refuse)?;
        if target.is_empty() {
            return Err(refuse(EntryProblem::Empty));
        }
        let shown = || Shown::new(&target);
        let (target_parent, target_name) = split(&target);
        self.enter(target_parent)?;
        let target_path = self.cursor.child(target_name);
        if self.tree.get(&target_path).is_some() {
            return Err(refuse(EntryProblem::LinkToDirectory { target: shown() }));
        }
        if !self.has_own(target_name, &target_path)? {
            if self.cursor.hides_lower() {
                return Err(refuse(EntryProblem::NoLinkTarget { target: shown() }));
            }
            self.depends(|| Reason::HardLink { target: shown() });
            let Some(lower) = self.lower else {
                self.unpack_again = true;
                return Ok(Progress::NeedsLowers);
            };
            self.copy_up(lower, target_name, &target_path, entry)?;
        }
        let from = rustix::io::fcntl_dupfd_cloexec(self.cursor.directory(), 3)
            .map_err(|error| UnpackError::write("duplicate the handle of", &target_path, error))?;
        self.enter(parent)?;
        let path = self.cursor.child(name);
        if path == target_path {
            return Err(refuse(EntryProblem::LinkToItself));
        }
        let linked =
            self.create(name, &path, |dir| rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty()));
        match linked {
            Ok(()) => {
                // A second name is not a second inode.
                self.totals.inodes -= 1;
                Ok(Progress::GoesOn)
            }
            // The link took the place of a directory in which its target was.
            Err(UnpackError::Write { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(refuse(EntryProblem::NoLinkTarget { target: shown() }))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the directory at hand has `name`, which is no directory, in this layer.
    fn has_own(&self, name: &[u8], path: &[u8]) -> Result<bool, UnpackError> {
        match rustix::fs::statat(self.cursor.directory(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(!is_whiteout(&stat)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(UnpackError::write("look up", path, error)),
        }
    }

    /// Brings a lower layer's file into the directory at hand, so that it can be linked to.
    fn copy_up(&mut self, lower: LowerView<'_>, name: &[u8], path: &[u8], entry: &TarEntry) -> Result<(), UnpackError> {
        let refuse = |problem| UnpackError::entry(&entry.name, problem);
        let target = Shown::new(path);
        // A whiteout of this layer has removed it.
        match rustix::fs::statat(self.cursor.directory(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Err(refuse(EntryProblem::NoLinkTarget { target })),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(UnpackError::write("look up", path, error)),
        }
        match lower.look_up(path).map_err(|error| UnpackError::write("look up in the layers below", path, error))? {
            Lower::Absent => Err(refuse(EntryProblem::NoLinkTarget { target })),
            Lower::Directory(_) => Err(refuse(EntryProblem::LinkToDirectory { target })),
            Lower::Other { parent, stat } => {
                self.totals.file_bytes += copy_up(parent.as_fd(), &stat, self.cursor.directory(), name, path)?;
                self.totals.inodes += 1;
                Ok(())
            }
        }
    }
}

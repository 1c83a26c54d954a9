//! What hides lower layers: whiteouts and opaque directories.

use carrack_sys::rustix;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use std::os::fd::AsFd;

use super::Writer;
use crate::path::split;
use crate::unpack::Reason;
use crate::{Shown, UnpackError, attributes};

impl Writer<'_> {
    /// `.wh.NAME`: hides NAME of lower layers, never what this layer has.
    pub(super) fn white_out(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let (parent, name) = split(path);
        self.enter(parent)?;
        if self.cursor.hides_lower() {
            return Ok(());
        }
        let child = self.cursor.child(name);
        if self.tree.get(&child).is_some() {
            let opaque = self.mark_opaque(name, &child)?;
            self.tree.get_mut(&child).expect("it was there a line ago").opaque = opaque;
            return Ok(());
        }
        match rustix::fs::mknodat(self.cursor.directory(), name, FileType::CharacterDevice, Mode::empty(), 0) {
            // Whatever of this layer stands there hides the lower one as it is.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(UnpackError::write("create the whiteout", &child, error)),
            Ok(()) => {
                self.totals.inodes += 1;
                self.depends(|| Reason::Whiteout { path: Shown::new(&child) });
                self.tree.charge(&child, "whiteouts")?;
                self.whiteouts.push(child);
                Ok(())
            }
        }
    }

    /// `.wh..wh..opq`: hides all that lower layers have in a directory.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.enter(path)?;
        if self.cursor.hides_lower() {
            return Ok(());
        }
        let path = self.cursor.path().to_vec();
        if path.is_empty() {
            self.totals.root_opaque = true;
        } else {
            self.mark_opaque(b".", &path)?;
        }
        self.tree.get_mut(&path).expect("a directory that was entered is known").opaque = true;
        self.cursor.hide_lower();
        Ok(())
    }

    /// Marks the directory `name` where that makes a difference; whether it is opaque now.
    pub(super) fn mark_opaque(&self, name: &[u8], path: &[u8]) -> Result<bool, UnpackError> {
        if name != b"." && self.cursor.hides_lower() {
            return Ok(false);
        }
        attributes::set_opaque(self.open_child(name, path)?.as_fd(), path)?;
        Ok(true)
    }
}

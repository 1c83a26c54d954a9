//! The way to an entry: through the layer's directories and links, and those of known lower layers.

use carrack_sys::rustix;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::Writer;
use crate::attributes::Time;
use crate::path::CleanPath;
use crate::unpack::lower::Lower;
use crate::unpack::tree::Directory;
use crate::unpack::{Reason, is_whiteout};
use crate::{EntryProblem, Shown, UnpackError};

/// Symbolic links on the way to one entry; the kernel's own bound.
const LINKS: u32 = 40;

impl Writer<'_> {
    /// Goes to the directory `path`, through the layer's own links and those of known lower layers, and makes what is missing.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.cursor.path() == path {
            return Ok(());
        }
        let rest = self.cursor.keep_common(path);
        let mut ahead: Vec<Vec<u8>> = Vec::new();
        push_parts(&mut ahead, rest);
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == b".." {
                self.cursor.up();
                continue;
            }
            let Some(target) = self.step(&part)? else {
                continue;
            };
            links += 1;
            if links > LINKS {
                return Err(UnpackError::entry(path, EntryProblem::LinkLoop));
            }
            if target.starts_with(b"/") {
                self.cursor.go_to_root();
            }
            push_parts(&mut ahead, &target);
        }
        Ok(())
    }

    /// Enters `part`, or returns the target of the link that it is.
    fn step(&mut self, part: &[u8]) -> Result<Option<Vec<u8>>, UnpackError> {
        if part.len() > 255 {
            return Err(UnpackError::entry(part, EntryProblem::TooLong));
        }
        let child = self.cursor.child(part);
        if let Some(directory) = self.tree.get(&child) {
            let opaque = directory.opaque;
            self.cursor.down(part, opaque, &self.options.limits)?;
            return Ok(None);
        }
        let here = self.cursor.directory();
        let failed = |error| UnpackError::write("look up", &child, error);
        let not_directory = || EntryProblem::ParentNotDirectory { parent: Shown::new(&child) };
        match rustix::fs::statat(here, part, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
            Ok(stat) if is_whiteout(&stat) => {
                rustix::fs::unlinkat(here, part, AtFlags::empty()).map_err(failed)?;
                self.make_unlisted(part, child, Below::Hidden)?;
                return Ok(None);
            }
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                return Ok(Some(rustix::fs::readlinkat(here, part, Vec::new()).map_err(failed)?.into_bytes()));
            }
            Ok(_) => return Err(UnpackError::entry(&child, not_directory())),
        }
        if let (Some(lower), false) = (self.lower, self.cursor.hides_lower()) {
            let failed = |error| UnpackError::write("look up in the layers below", &child, error);
            match lower.look_up(&child).map_err(failed)? {
                Lower::Absent | Lower::Directory(_) => {}
                Lower::Other { parent, stat } if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&parent, part, Vec::new()).map_err(|e| failed(e.into()))?;
                    // The layer still depends on what lies below.
                    self.depends(|| Reason::ImpliedParent { path: Shown::new(&child) });
                    return Ok(Some(target.into_bytes()));
                }
                Lower::Other { .. } => return Err(UnpackError::entry(&child, not_directory())),
            }
        }
        let below = if self.cursor.hides_lower() { Below::HiddenAlready } else { Below::Counts };
        self.make_unlisted(part, child, below)?;
        Ok(None)
    }

    /// Makes a directory because something in it is listed, and enters it.
    fn make_unlisted(&mut self, name: &[u8], path: CleanPath, below: Below) -> Result<(), UnpackError> {
        rustix::fs::mkdirat(self.cursor.directory(), name, Mode::from_raw_mode(0o755))
            .map_err(|error| UnpackError::write("create the directory", &path, error))?;
        self.totals.inodes += 1;
        let opaque = match below {
            Below::Counts => {
                self.depends(|| Reason::ImpliedParent { path: Shown::new(&path) });
                self.tree.charge(&path, "directories")?;
                self.implied.push(path.clone());
                false
            }
            Below::Hidden => self.mark_opaque(name, &path)?,
            Below::HiddenAlready => false,
        };
        let awaits_lower = matches!(below, Below::Counts);
        let directory = Directory { listed: false, awaits_lower, opaque, mtime: Time::UNKNOWN, late: None };
        self.tree.insert(path, directory)?;
        self.cursor.down(name, opaque, &self.options.limits)
    }
}

/// How lower layers matter for a directory that is made unlisted.
enum Below {
    /// It looks like the one below, if there is one.
    Counts,
    /// A whiteout of this layer, just taken away, hides the one below.
    Hidden,
    /// A directory above hides it.
    HiddenAlready,
}

/// Puts the parts of `path` on the stack of those ahead, the first on top.
fn push_parts(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    ahead.extend(parts.rev().map(<[u8]>::to_vec));
}

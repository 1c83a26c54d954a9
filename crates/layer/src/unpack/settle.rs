//! Fits a layer that was unpacked alone to the layers below it.

use carrack_sys::rustix;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

use super::lower::{Lower, LowerView};
use super::writer::open_below;
use super::{Unsettled, is_whiteout};
use crate::attributes::{Time, copy_attributes, set_times, times_of};
use crate::path::split;
use crate::{UnpackError, attributes};

/// Whether the directory is right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is what unpacking over the lower layers would have made.
    Done,
    /// Where an entry belongs depends on a link or a file below: empty the directory and unpack with [`super::Lowers::Known`].
    UnpackAgain,
}

/// Mends the directory of a layer that is not self-contained.
///
/// `lowers`: readable handles of the layers' directories below, topmost first, cut below one with an opaque root. Directories that the layer did not
/// list get the attributes of those below, whiteouts that hide nothing go. A repeat finds nothing left to do.
pub fn settle(dir: BorrowedFd<'_>, unsettled: &Unsettled, lowers: &[BorrowedFd<'_>]) -> Result<Settled, UnpackError> {
    if unsettled.unpack_again {
        return Ok(Settled::UnpackAgain);
    }
    let lower = LowerView::new(lowers);
    let look_up = |path: &[u8]| {
        lower.look_up(path).map_err(|error| UnpackError::write("look up in the layers below", path, error))
    };
    let mut known = Vec::with_capacity(unsettled.implied.len());
    for implied in &unsettled.implied {
        match look_up(&implied.path)? {
            // Entries went into this directory that would have gone elsewhere, or nowhere.
            Lower::Other { .. } => return Ok(Settled::UnpackAgain),
            found => known.push((implied, found)),
        }
    }
    for path in &unsettled.whiteouts {
        if hides_nothing(dir, path, &look_up)? {
            remove_whiteout(dir, path)?;
        }
    }
    for (implied, found) in known {
        if !implied.wants_attributes {
            continue;
        }
        let path = &implied.path;
        let own = open_below(dir, path).map_err(|error| UnpackError::write("open", path, error))?;
        match found {
            Lower::Directory(below) => copy_attributes(below.as_fd(), own.as_fd())?,
            Lower::Absent => {
                rustix::fs::fchmod(&own, Mode::from_raw_mode(0o755))
                    .map_err(|error| UnpackError::write("change the mode of", path, error))?;
                set_times(own.as_fd(), Time::UNKNOWN, path)?;
            }
            Lower::Other { .. } => unreachable!("sorted out above"),
        }
    }
    Ok(Settled::Done)
}

/// Whether a whiteout hides nothing: no lower layer has what it names, or a directory above it hides them all.
fn hides_nothing(
    dir: BorrowedFd<'_>,
    path: &[u8],
    look_up: &impl Fn(&[u8]) -> Result<Lower, UnpackError>,
) -> Result<bool, UnpackError> {
    let (mut parent, _) = split(path);
    while !parent.is_empty() {
        match open_below(dir, parent) {
            Ok(open) if attributes::is_opaque(open.as_fd()).map_err(|e| UnpackError::write("read", parent, e))? => {
                return Ok(true);
            }
            Ok(_) => {}
            // The directory was replaced by a later entry, and the whiteout with it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            Err(error) => return Err(UnpackError::write("open", parent, error)),
        }
        parent = split(parent).0;
    }
    Ok(matches!(look_up(path)?, Lower::Absent))
}

/// Removes a whiteout if it is still one; its directory keeps its times.
fn remove_whiteout(dir: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
    let failed = |error| UnpackError::write("remove the whiteout", path, error);
    let (parent, name) = split(path);
    let parent = match open_below(dir, parent) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let before = rustix::fs::fstat(&parent).map_err(failed)?;
    match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(&stat) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(failed)?;
    rustix::fs::futimens(&parent, &times_of(&before)).map_err(failed)
}

//! The layers below, as overlayfs would merge them.

use carrack_sys::rustix;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::is_whiteout;
use crate::attributes::{is_opaque, open_directory};

/// The lower layers, topmost first.
#[derive(Clone, Copy)]
pub(super) struct LowerView<'a> {
    layers: &'a [BorrowedFd<'a>],
}

/// What the lower layers show at a path.
pub(super) enum Lower {
    /// Nothing.
    Absent,
    /// A directory; the handle is that of the topmost layer that has it, whose attributes count.
    Directory(OwnedFd),
    /// Something else, in this directory of the layer that has it.
    Other { parent: OwnedFd, stat: Box<Stat> },
}

impl<'a> LowerView<'a> {
    pub(super) fn new(layers: &'a [BorrowedFd<'a>]) -> Self {
        Self { layers }
    }

    /// Looks `path`, which is clean and not empty, up without following links.
    pub(super) fn look_up(&self, path: &[u8]) -> io::Result<Lower> {
        let mut here: Vec<OwnedFd> =
            self.layers.iter().map(|layer| open_directory(layer, b".")).collect::<Result<_, Errno>>()?;
        let mut parts = path.split(|&byte| byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let mut next = Vec::new();
            for directory in here {
                let stat = match rustix::fs::statat(&directory, part, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                };
                if is_whiteout(&stat) {
                    break;
                }
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    if next.is_empty() && parts.peek().is_none() {
                        return Ok(Lower::Other { parent: directory, stat: Box::new(stat) });
                    }
                    break;
                }
                let child = open_directory(&directory, part)?;
                let opaque = is_opaque(std::os::fd::AsFd::as_fd(&child))?;
                next.push(child);
                if opaque {
                    break;
                }
            }
            if next.is_empty() {
                return Ok(Lower::Absent);
            }
            here = next;
        }
        Ok(here.into_iter().next().map_or(Lower::Absent, Lower::Directory))
    }
}

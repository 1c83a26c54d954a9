//! Applies the entries of a layer to an empty directory.

mod copy_up;
mod cursor;
mod lower;
mod remove;
pub(crate) mod settle;
mod tree;
mod writer;

use carrack_words::DiffId;
use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::path::CleanPath;
use crate::tar::Reader;
use crate::{Compression, Shown, UnpackError, UnpackOptions, pipeline};
use settle::Settled;
use writer::{Progress, Writer};

/// What the unpacker knows of the layers below.
#[derive(Debug, Clone, Copy)]
pub enum Lowers<'a> {
    /// Nothing; the layer is unpacked as if it were self-contained, and [`Unpacked::self_contained`] says whether it is.
    Unknown,
    /// Readable handles of their directories, topmost first, cut below a layer with [`Totals::root_opaque`]; none for the bottom layer.
    Known(&'a [BorrowedFd<'a>]),
}

/// Whether a layer's directory is the same whatever lies below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelfContained {
    /// It is: it may be kept under its `diff_id`.
    Yes,
    /// It is not: it belongs to the layers below it and is kept under its `chain_id`.
    No {
        /// The first thing that depends on them.
        reason: Reason,
    },
}

/// What in a layer depends on those below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// An entry's parent is not listed before it: it may be anything below, even a link.
    ImpliedParent {
        /// The parent.
        path: Shown,
    },
    /// A whiteout: it must not stay where nothing is to be hidden.
    Whiteout {
        /// What it hides.
        path: Shown,
    },
    /// A hard link to a file of another layer.
    HardLink {
        /// The link's target.
        target: Shown,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ImpliedParent { path } => write!(f, "the directory {path} is not listed before its contents"),
            Self::Whiteout { path } => write!(f, "{path} of a lower layer is removed"),
            Self::HardLink { target } => write!(f, "a hard link points to {target} of a lower layer"),
        }
    }
}

/// Sums over a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Entries of the tar.
    pub entries: u64,
    /// Files, directories and so on that were made.
    pub inodes: u64,
    /// Bytes of file contents, without holes.
    pub file_bytes: u64,
    /// Extended attributes that were left out, because an image must not set them or the filesystem does not keep them.
    pub xattrs_dropped: u64,
    /// Whether the layer lists its root; the merged root has the attributes of the topmost layer that does.
    pub root_listed: bool,
    /// Whether the layer hides everything below it. overlayfs does not look for the mark on a root: lower layers must be left out instead.
    pub root_opaque: bool,
}

/// A layer that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// sha256 of the whole uncompressed stream.
    pub diff_id: DiffId,
    /// How the stream was compressed.
    pub compression: Compression,
    /// Length of the stream as read.
    pub compressed_bytes: u64,
    /// Length of the uncompressed stream.
    pub tar_bytes: u64,
    /// Sums.
    pub totals: Totals,
    /// Whether the directory depends on the layers below.
    pub self_contained: SelfContained,
    /// For [`settle::settle`], if it does.
    pub unsettled: Unsettled,
}

/// What is to be compared with the layers below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Directories made because something in them was listed first.
    implied: Vec<Implied>,
    /// Whiteouts made.
    whiteouts: Vec<CleanPath>,
    /// The layer cannot be mended in place; whatever is in the directory has no meaning.
    unpack_again: bool,
}

/// A directory that a layer needs and did not list before its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Implied {
    path: CleanPath,
    /// It is still there and was not listed later: it looks like the one below.
    wants_attributes: bool,
}

/// Unpacks the layer that `input` holds into the empty directory `into`, whose handle must be a readable one.
///
/// Blocks. The calling thread reads and inflates, two further threads hash and write; both have ended on return. `input` is read to its end, so that
/// a caller who hashes what passes has seen the whole blob when this returns `Ok`. On an error the directory's content is without meaning.
pub fn unpack<R: Read>(
    input: R,
    into: BorrowedFd<'_>,
    lowers: Lowers<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let (passed, (totals, self_contained, unsettled)) = pipeline::run(input, &options.limits, |buffers| {
        carrack_sys::thread_files::unshare_fs_attributes().map_err(|source| UnpackError::Thread { source })?;
        // Modes come from the archive; only this thread is affected, see above.
        carrack_sys::rustix::process::umask(carrack_sys::rustix::fs::Mode::empty());
        let mut reader = Reader::new(buffers, &options.limits);
        let mut writer = Writer::new(into, lowers, options)?;
        while let Some(entry) = reader.next_entry()? {
            match writer.apply(entry, &mut reader) {
                Ok(Progress::GoesOn) => {}
                Ok(Progress::NeedsLowers) => break,
                // What is wrong here may be right over the layers below, and the other way round: ask again when they are known.
                Err(UnpackError::Entry { .. }) if writer.is_guessing() => {
                    writer.give_up();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        writer.finish(reader.entries())
    })?;
    if let Lowers::Known(lowers) = lowers {
        match settle::settle(into, &unsettled, lowers)? {
            Settled::Done => {}
            // The writer asked the same layers the same questions.
            Settled::UnpackAgain => unreachable!("a layer unpacked over known layers does not contradict them"),
        }
    }
    Ok(Unpacked {
        diff_id: passed.diff_id,
        compression: passed.compression,
        compressed_bytes: passed.compressed_bytes,
        tar_bytes: passed.tar_bytes,
        totals,
        self_contained,
        unsettled,
    })
}

/// overlayfs' whiteout: a character device 0:0.
fn is_whiteout(stat: &carrack_sys::rustix::fs::Stat) -> bool {
    use carrack_sys::rustix::fs::FileType;
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

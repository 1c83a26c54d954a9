//! What can be wrong with a layer, and with writing it down.

use carrack_words::Kind;
use std::fmt;
use std::io;

use crate::Compression;

/// Bytes from a hostile archive, made fit for an error message: lossy UTF-8, escaped, at most 200 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Shows `bytes`.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        const LONGEST: usize = 200;
        let bytes = bytes.as_ref();
        let head = &bytes[..bytes.len().min(LONGEST)];
        let mut text = String::from_utf8_lossy(head).escape_debug().to_string();
        if head.len() < bytes.len() {
            text.push('…');
        }
        Self(text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a header of the tar is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// Neither the unsigned nor the signed sum fits.
    #[error("the checksum is wrong")]
    Checksum,
    /// A number is not octal, not base-256, or too large.
    #[error("the field {field} is not a number in its range")]
    Number {
        /// The field's name in the tar specification.
        field: &'static str,
    },
    /// One zero block, then something else.
    #[error("a block of zeros is followed by another header")]
    LoneZeroBlock,
    /// A PAX record does not follow `length key=value\n`.
    #[error("a PAX record is malformed")]
    PaxRecord,
    /// A PAX value does not mean anything.
    #[error("the PAX record {key} has an invalid value")]
    PaxValue {
        /// The record's key.
        key: Shown,
    },
    /// An extension is longer than the bound.
    #[error("an extension header of {bytes} bytes exceeds the limit of {limit}")]
    ExtensionTooLong {
        /// Its length.
        bytes: u64,
        /// [`crate::Limits::extension_bytes`].
        limit: u64,
    },
    /// Extension headers follow each other without an entry.
    #[error("more than {limit} extension headers without an entry")]
    ExtensionFlood {
        /// How many are accepted.
        limit: u32,
    },
    /// The sparse map is out of order, out of range, too long, or does not match the stored data.
    #[error("the sparse map is invalid: {what}")]
    SparseMap {
        /// Which rule is broken.
        what: &'static str,
    },
    /// More extended attributes than the bound.
    #[error("more than {limit} extended attributes")]
    TooManyXattrs {
        /// [`crate::Limits::xattrs`].
        limit: usize,
    },
    /// A type flag that no tar for container layers has.
    #[error("the entry type {flag:?} is not supported")]
    Type {
        /// The flag.
        flag: char,
    },
}

/// Why an entry with a well-formed header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// The name has a `..`.
    #[error("the name contains \"..\"")]
    DotDot,
    /// The name, or a link's target, is empty.
    #[error("the name or link target is empty")]
    Empty,
    /// The name, or a link's target, contains a NUL byte.
    #[error("the name or link target contains a NUL byte")]
    Nul,
    /// The path, a component of it, or a link's target is too long.
    #[error("the name or link target is too long")]
    TooLong,
    /// Too many directories above it.
    #[error("it lies more than {limit} directories deep")]
    TooDeep {
        /// [`crate::Limits::depth`].
        limit: usize,
    },
    /// `.wh.` with nothing, `.` or `..` behind it, or as the name of a directory on the way.
    #[error("the whiteout name is invalid")]
    Whiteout,
    /// The root of the layer can only be a directory.
    #[error("the root of the layer is not a directory")]
    RootNotDirectory,
    /// A component of the path is a file, a device, a pipe or a socket.
    #[error("{parent} is not a directory")]
    ParentNotDirectory {
        /// That component's path.
        parent: Shown,
    },
    /// More than 40 symbolic links on the way.
    #[error("too many symbolic links on the way")]
    LinkLoop,
    /// The hard link's target exists neither in this layer nor below it.
    #[error("the hard link's target {target} does not exist")]
    NoLinkTarget {
        /// The target.
        target: Shown,
    },
    /// The hard link's target is a directory.
    #[error("the hard link's target {target} is a directory")]
    LinkToDirectory {
        /// The target.
        target: Shown,
    },
    /// The hard link is its own target.
    #[error("the hard link points to itself")]
    LinkToItself,
    /// Devices are refused here.
    #[error("device nodes are not allowed here")]
    Device,
    /// A character device 0:0 would be a whiteout in overlayfs.
    #[error("a character device 0:0 would act as an overlay whiteout")]
    RawWhiteout,
    /// Major or minor number out of the kernel's range.
    #[error("the device number is out of range")]
    DeviceNumber,
    /// User or group id out of range.
    #[error("the user or group id is out of range")]
    Owner,
    /// A file larger than the bound.
    #[error("its size of {bytes} bytes exceeds the limit")]
    TooLarge {
        /// Its size, holes included.
        bytes: u64,
    },
}

/// Unpacking failed. What is in the directory then has no meaning.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The source of the compressed bytes failed; the cause is its own error.
    #[error("read the layer")]
    Read {
        /// The source's error.
        source: io::Error,
    },
    /// The compressed stream is damaged.
    #[error("the layer's {compression} stream is damaged")]
    Corrupt {
        /// What it was taken for.
        compression: Compression,
        /// The decoder's error.
        source: io::Error,
    },
    /// The compressed stream, or the tar in it, ends too early.
    #[error("the layer is truncated: {what} ends early after {at_bytes} bytes")]
    Truncated {
        /// The part that ended.
        what: &'static str,
        /// Uncompressed bytes seen.
        at_bytes: u64,
    },
    /// A compression that layers do not have.
    #[error("the layer is compressed with {name}, which is not supported: only gzip and zstd are")]
    Compression {
        /// The compression's name.
        name: &'static str,
    },
    /// A compression bomb.
    #[error("the layer inflates without measure: {tar_bytes} bytes from {compressed_bytes}")]
    Inflation {
        /// Bytes read.
        compressed_bytes: u64,
        /// Bytes that came out of them.
        tar_bytes: u64,
    },
    /// A header is refused.
    #[error("the layer's tar header at byte {at_bytes} is invalid")]
    Header {
        /// Where the header starts in the uncompressed tar.
        at_bytes: u64,
        /// Why.
        source: HeaderProblem,
    },
    /// An entry is refused.
    #[error("the layer's entry {path} is refused")]
    Entry {
        /// The entry's name, as the tar has it.
        path: Shown,
        /// Why.
        source: EntryProblem,
    },
    /// A bound on the whole layer is reached.
    #[error("the layer has too many {what}: the limit is {limit}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A system call failed while an entry was written.
    #[error("unpack the layer: {action} {path}")]
    Write {
        /// What was tried.
        action: &'static str,
        /// On which path, inside the layer.
        path: Shown,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A thread could not be started or be given a umask of its own.
    #[error("unpack the layer: start a thread")]
    Thread {
        /// The kernel's answer.
        source: io::Error,
    },
}

impl UnpackError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::Unavailable,
            Self::Corrupt { .. } | Self::Truncated { .. } => Kind::DataLoss,
            Self::Compression { .. } => Kind::Unsupported,
            Self::Header { source: HeaderProblem::Type { .. }, .. } => Kind::Unsupported,
            Self::Header { .. } | Self::Entry { .. } => Kind::Invalid,
            Self::Inflation { .. } | Self::TooMany { .. } => Kind::Exhausted,
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Exhausted,
                io::ErrorKind::PermissionDenied => Kind::Denied,
                _ => Kind::Internal,
            },
            Self::Thread { .. } => Kind::Internal,
        }
    }

    pub(crate) fn write(action: &'static str, path: impl AsRef<[u8]>, source: impl Into<io::Error>) -> Self {
        Self::Write { action, path: Shown::new(path), source: source.into() }
    }

    pub(crate) fn entry(path: impl AsRef<[u8]>, source: EntryProblem) -> Self {
        Self::Entry { path: Shown::new(path), source }
    }
}

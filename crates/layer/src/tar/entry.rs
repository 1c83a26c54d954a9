//! One entry of a tar, with all its extension headers merged.

use crate::Time;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A regular file, `0`, NUL or `7`.
    File,
    /// A second name of an earlier file, `1`.
    HardLink,
    /// A symbolic link, `2`.
    Symlink,
    /// A character device, `3`.
    CharDevice,
    /// A block device, `4`.
    BlockDevice,
    /// A directory, `5`.
    Directory,
    /// A named pipe, `6`.
    Fifo,
}

/// A part of a sparse file that is stored; what lies between parts reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Full name, as in `user.x`.
    pub name: Vec<u8>,
    /// Value, any bytes.
    pub value: Vec<u8>,
}

/// An entry as the archive has it: names uncleaned, numbers in the format's ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// What it is.
    pub kind: Type,
    /// Name, any bytes.
    pub name: Vec<u8>,
    /// Target of a hard or symbolic link; empty otherwise.
    pub link: Vec<u8>,
    /// Permissions with set-uid, set-gid and sticky: the low twelve bits.
    pub mode: u32,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Time of last change.
    pub mtime: Time,
    /// Device number, for devices.
    pub device: (i64, i64),
    /// The file's size, holes included; zero for what is not a file.
    pub size_bytes: u64,
    /// The stored parts of a sparse file; `None` if it is not sparse.
    pub sparse: Option<Vec<Extent>>,
    /// Extended attributes, names unique.
    pub xattrs: Vec<Xattr>,
}

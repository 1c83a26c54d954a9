//! Reads a tar entry by entry.

use std::io::{self, BufRead};

use super::header::{Header, text};
use super::pax::{self, Pax};
use super::{BLOCK, Extent, TarEntry, Type, sparse};
use crate::{HeaderProblem, Limits, Time, UnpackError};

/// So many extension headers may stand before one entry; archives in use have at most four.
const EXTENSIONS: u32 = 16;

/// A tar that is read once, from the front.
pub struct Reader<R> {
    input: R,
    limits: Limits,
    position: u64,
    /// Data of the current entry that has not been read.
    data: u64,
    /// Zeros that fill its last block.
    padding: u64,
    entries: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`, bounded by `limits`.
    pub fn new(input: R, limits: &Limits) -> Self {
        Self { input, limits: limits.clone(), position: 0, data: 0, padding: 0, entries: 0 }
    }

    /// Entries handed out.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry; data of the last one that was not asked for is skipped. `None` at the archive's end, which is two blocks of zeros or the end
    /// of the stream between two entries; what follows the zeros is not looked at.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, UnpackError> {
        self.pass_data(|_| Ok(()))?;
        let mut extension = Extension::default();
        for _ in 0..=EXTENSIONS {
            let at_bytes = self.position;
            let Some((header, block)) = self.read_header()? else {
                return Ok(None);
            };
            let refuse = |source| UnpackError::Header { at_bytes, source };
            match header.flag {
                b'x' | b'g' => {
                    let data = self.read_extension(&header, at_bytes)?;
                    let pax = Pax::parse(&data, self.limits.xattrs).map_err(refuse)?;
                    // Records for all that follow: containerd and Docker pass them over, so builders do not rely on them.
                    if header.flag == b'x' {
                        extension.pax = pax;
                    }
                }
                b'L' => extension.name = Some(text(&self.read_extension(&header, at_bytes)?).to_vec()),
                b'K' => extension.link = Some(text(&self.read_extension(&header, at_bytes)?).to_vec()),
                _ => {
                    if self.entries == self.limits.entries {
                        return Err(UnpackError::TooMany { what: "entries", limit: self.limits.entries });
                    }
                    self.entries += 1;
                    return self.entry(header, &block, extension, at_bytes).map(Some);
                }
            }
        }
        Err(UnpackError::Header {
            at_bytes: self.position,
            source: HeaderProblem::ExtensionFlood { limit: EXTENSIONS },
        })
    }

    /// Hands the current entry's stored data to `sink`, in pieces as they come; nothing on a second call.
    pub fn pass_data(&mut self, mut sink: impl FnMut(&[u8]) -> Result<(), UnpackError>) -> Result<(), UnpackError> {
        while self.data > 0 {
            let available = self.input.fill_buf().map_err(|source| UnpackError::Read { source })?;
            if available.is_empty() {
                return Err(UnpackError::Truncated { what: "an entry's data", at_bytes: self.position });
            }
            let count = available.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
            sink(&available[..count])?;
            self.input.consume(count);
            self.position += count as u64;
            self.data -= count as u64;
        }
        while self.padding > 0 {
            let available = self.input.fill_buf().map_err(|source| UnpackError::Read { source })?.len() as u64;
            // Some archivers leave out the padding of the very last entry; Go reads them, so do we.
            if available == 0 {
                self.padding = 0;
                break;
            }
            let count = available.min(self.padding);
            self.input.consume(count as usize);
            self.position += count;
            self.padding -= count;
        }
        Ok(())
    }

    /// Reads one header block; `None` at the archive's end.
    fn read_header(&mut self) -> Result<Option<(Header, [u8; BLOCK])>, UnpackError> {
        let at_bytes = self.position;
        let refuse = |source| UnpackError::Header { at_bytes, source };
        let Some(block) = self.read_block("a header")? else {
            return Ok(None);
        };
        if let Some(header) = Header::parse(&block).map_err(refuse)? {
            return Ok(Some((header, block)));
        }
        match self.read_block("the closing zeros")? {
            None => Ok(None),
            Some(second) if second.iter().all(|&byte| byte == 0) => Ok(None),
            Some(_) => Err(refuse(HeaderProblem::LoneZeroBlock)),
        }
    }

    /// Reads a block; `None` if the stream ends before its first byte.
    fn read_block(&mut self, what: &'static str) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        let mut block = [0; BLOCK];
        let mut length = 0;
        while length < BLOCK {
            match self.input.read(&mut block[length..]) {
                Ok(0) if length == 0 => return Ok(None),
                Ok(0) => return Err(UnpackError::Truncated { what, at_bytes: self.position }),
                Ok(count) => {
                    length += count;
                    self.position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(UnpackError::Read { source }),
            }
        }
        Ok(Some(block))
    }

    fn must_read_block(&mut self, what: &'static str) -> Result<[u8; BLOCK], UnpackError> {
        self.read_block(what)?.ok_or(UnpackError::Truncated { what, at_bytes: self.position })
    }

    /// The data of an extension header, whose length is checked before anything is allocated.
    fn read_extension(&mut self, header: &Header, at_bytes: u64) -> Result<Vec<u8>, UnpackError> {
        let limit = self.limits.extension_bytes;
        let refuse = |source| UnpackError::Header { at_bytes, source };
        let bytes = u64::try_from(header.size).map_err(|_| refuse(HeaderProblem::Number { field: "size" }))?;
        if bytes > limit {
            return Err(refuse(HeaderProblem::ExtensionTooLong { bytes, limit }));
        }
        self.expect_data(bytes);
        let mut data = Vec::with_capacity(bytes as usize);
        self.pass_data(|piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(data)
    }

    fn expect_data(&mut self, bytes: u64) {
        self.data = bytes;
        self.padding = bytes.wrapping_neg() % BLOCK as u64;
    }

    /// Merges header and extensions, and reads the sparse map if there is one.
    fn entry(
        &mut self,
        header: Header,
        block: &[u8; BLOCK],
        extension: Extension,
        at_bytes: u64,
    ) -> Result<TarEntry, UnpackError> {
        let refuse = |source| UnpackError::Header { at_bytes, source };
        let Extension { pax, name, link } = extension;
        let name = name.or(pax.path).unwrap_or(header.name);
        let old_sparse = header.flag == b'S';
        let kind = kind(header.flag, &name).map_err(refuse)?;
        let stored = match kind {
            Type::File => u64::try_from(pax.size.unwrap_or(header.size))
                .map_err(|_| refuse(HeaderProblem::Number { field: "size" }))?,
            // Old tars gave links and directories the size of what they stand for, without storing it.
            Type::HardLink | Type::Symlink | Type::CharDevice | Type::BlockDevice | Type::Directory | Type::Fifo => 0,
        };
        self.expect_data(stored);
        let mut entry = TarEntry {
            kind,
            name,
            link: link.or(pax.link).unwrap_or(header.link),
            mode: (header.mode & 0o7777) as u32,
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            mtime: pax.mtime.unwrap_or(Time { seconds: header.mtime, nanoseconds: 0 }),
            device: (header.major, header.minor),
            size_bytes: stored,
            sparse: None,
            xattrs: pax.xattrs,
        };
        if old_sparse {
            if !header.gnu {
                return Err(refuse(HeaderProblem::SparseMap { what: "the archive is not in GNU's format" }));
            }
            let (map, size) = self.read_old_map(block, at_bytes)?;
            self.expect_data(stored);
            entry.size_bytes = size;
            entry.sparse = Some(sparse::check(map, size, stored).map_err(refuse)?);
        } else if kind == Type::File {
            self.pax_sparse(pax.sparse, &mut entry, at_bytes)?;
        }
        Ok(entry)
    }

    /// The map in an old GNU header and in the blocks behind it.
    fn read_old_map(&mut self, block: &[u8; BLOCK], at_bytes: u64) -> Result<(Vec<Extent>, u64), UnpackError> {
        let refuse = |source| UnpackError::Header { at_bytes, source };
        let (mut map, mut more, size) = sparse::parse_old_header(block).map_err(refuse)?;
        let mut bytes = 0;
        while more {
            bytes += BLOCK as u64;
            self.check_map_length(bytes, at_bytes)?;
            let block = self.must_read_block("a sparse map")?;
            more = sparse::parse_old_block(&block, &mut map).map_err(refuse)?;
        }
        Ok((map, size))
    }

    /// Applies the PAX forms of sparse files.
    fn pax_sparse(&mut self, records: pax::PaxSparse, entry: &mut TarEntry, at_bytes: u64) -> Result<(), UnpackError> {
        let refuse = |source| UnpackError::Header { at_bytes, source };
        let map = match (records.version, records.count, records.map.is_empty()) {
            ((Some(1), Some(0)), _, _) => self.read_new_map(at_bytes)?,
            ((None | Some(0), _), Some(count), _) => {
                if records.map.len() as i64 != count {
                    return Err(refuse(HeaderProblem::SparseMap {
                        what: "it has another number of parts than announced",
                    }));
                }
                records.map
            }
            ((None | Some(0), _), None, false) => records.map,
            ((None | Some(0), _), None, true) => return Ok(()),
            ((Some(_), _), _, _) => return Err(refuse(HeaderProblem::SparseMap { what: "its version is unknown" })),
        };
        if let Some(name) = records.name {
            entry.name = name;
        }
        let size = records.size.ok_or(refuse(HeaderProblem::SparseMap { what: "the file's size is missing" }))?;
        entry.size_bytes = u64::try_from(size).map_err(|_| refuse(HeaderProblem::Number { field: "size" }))?;
        entry.sparse = Some(sparse::check(map, entry.size_bytes, self.data).map_err(refuse)?);
        Ok(())
    }

    /// Format 1.0 has its map before the data: decimal numbers, one a line, filled up to a block.
    fn read_new_map(&mut self, at_bytes: u64) -> Result<Vec<Extent>, UnpackError> {
        let mut lines = MapLines { bytes: 0, line: Vec::new(), block: [0; BLOCK], at: BLOCK };
        let count = self.map_number(&mut lines, at_bytes)?;
        let mut map = Vec::new();
        for _ in 0..count {
            let offset = self.map_number(&mut lines, at_bytes)?;
            map.push(Extent { offset, length: self.map_number(&mut lines, at_bytes)? });
        }
        Ok(map)
    }

    fn map_number(&mut self, lines: &mut MapLines, at_bytes: u64) -> Result<u64, UnpackError> {
        let refuse = |source| UnpackError::Header { at_bytes, source };
        lines.line.clear();
        loop {
            if lines.at == BLOCK {
                lines.bytes += BLOCK as u64;
                self.check_map_length(lines.bytes, at_bytes)?;
                if self.data < BLOCK as u64 {
                    return Err(refuse(HeaderProblem::SparseMap { what: "it is longer than the data" }));
                }
                lines.block = self.must_read_block("a sparse map")?;
                self.data -= BLOCK as u64;
                lines.at = 0;
            }
            let byte = lines.block[lines.at];
            lines.at += 1;
            if byte == b'\n' {
                break;
            }
            // Twenty digits are the longest number of 64 bits.
            if lines.line.len() == 20 {
                return Err(refuse(HeaderProblem::Number { field: "sparse" }));
            }
            lines.line.push(byte);
        }
        pax::unsigned(&lines.line).ok_or(refuse(HeaderProblem::Number { field: "sparse" }))
    }

    fn check_map_length(&self, bytes: u64, at_bytes: u64) -> Result<(), UnpackError> {
        let limit = self.limits.extension_bytes;
        if bytes > limit {
            return Err(UnpackError::Header { at_bytes, source: HeaderProblem::ExtensionTooLong { bytes, limit } });
        }
        Ok(())
    }
}

/// Extension headers seen before their entry.
#[derive(Default)]
struct Extension {
    pax: Pax,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Where we are in a map of format 1.0.
struct MapLines {
    bytes: u64,
    line: Vec<u8>,
    block: [u8; BLOCK],
    at: usize,
}

fn kind(flag: u8, name: &[u8]) -> Result<Type, HeaderProblem> {
    Ok(match flag {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 if name.ends_with(b"/") => Type::Directory,
        0 | b'0' | b'7' | b'S' => Type::File,
        b'1' => Type::HardLink,
        b'2' => Type::Symlink,
        b'3' => Type::CharDevice,
        b'4' => Type::BlockDevice,
        b'5' => Type::Directory,
        b'6' => Type::Fifo,
        _ => return Err(HeaderProblem::Type { flag: char::from(flag) }),
    })
}

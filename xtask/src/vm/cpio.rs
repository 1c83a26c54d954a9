//! Writes a cpio archive in the "newc" form, which the kernel takes for an initial RAM disk
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Pure: entries in, bytes out. Everything belongs to root and has time 0, so equal entries give equal archives.

/// An archive under construction.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

impl Archive {
    /// Adds a directory; the kernel wants parents before their children.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, content);
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of an initial RAM disk is smaller than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        let links = 1;
        // inode, mode, uid, gid, links, mtime, size, device major and minor, special major and minor, name size, checksum.
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_documents_it() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"hi");
        let bytes = archive.finish();
        let first = &bytes[..116];
        assert_eq!(&first[..6], b"070701");
        assert_eq!(&first[14..22], b"000081a4", "a regular file with mode 0644");
        assert_eq!(&first[54..62], b"00000002", "two bytes long");
        assert_eq!(&first[94..102], b"00000002", "the name with its NUL");
        assert_eq!(&first[110..112], b"a\0");
        assert_eq!(&first[112..116], b"hi\0\0");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}

//! Writes tar archives entry by entry, hostile ones too: nothing is checked (POSIX.1-2017, pax, "pax Interchange Format").

/// An archive under construction. Entries belong to root and are of one fixed time unless said otherwise.
#[derive(Debug, Default, Clone)]
pub struct Tarball {
    bytes: Vec<u8>,
}

/// Every field of an entry that a test may want to choose.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// As it stands in the archive; longer than 100 bytes goes to a pax header.
    pub path: &'a str,
    /// POSIX type: `0` file, `1` hard link, `2` symbolic link, `3` character and `4` block device, `5` directory, `6` FIFO.
    pub kind: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Target of a link.
    pub link: &'a str,
    /// Content of a file.
    pub content: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: &'a [(&'a str, &'a [u8])],
}

/// The time of everything that has no other.
pub const MTIME: u64 = 1_600_000_000;

impl Entry<'_> {
    /// An empty file at `path`.
    pub fn at(path: &str) -> Entry<'_> {
        Entry {
            path,
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: MTIME,
            link: "",
            content: b"",
            device: (0, 0),
            xattrs: &[],
        }
    }
}

impl Tarball {
    /// Adds a directory.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(&Entry { kind: b'5', mode, ..Entry::at(path) });
    }

    /// Adds a regular file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(&Entry { mode, content, ..Entry::at(path) });
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(&Entry { kind: b'2', mode: 0o777, link: target, ..Entry::at(path) });
    }

    /// Adds a hard link to an entry.
    pub fn hard_link(&mut self, path: &str, target: &str) {
        self.entry(&Entry { kind: b'1', link: target, ..Entry::at(path) });
    }

    /// Adds the whiteout that hides `name` of a lower layer in `directory` (empty: the top).
    pub fn whiteout(&mut self, directory: &str, name: &str) {
        let slash = if directory.is_empty() { "" } else { "/" };
        self.file(&format!("{directory}{slash}.wh.{name}"), 0o600, b"");
    }

    /// Adds the mark that hides all that lower layers have in `directory`.
    pub fn opaque(&mut self, directory: &str) {
        self.file(&format!("{directory}/.wh..wh..opq"), 0o600, b"");
    }

    /// Adds any entry.
    pub fn entry(&mut self, entry: &Entry<'_>) {
        let mut pax = Vec::new();
        if entry.path.len() > 100 {
            pax_record(&mut pax, "path", entry.path.as_bytes());
        }
        if entry.link.len() > 100 {
            pax_record(&mut pax, "linkpath", entry.link.as_bytes());
        }
        for (field, value) in [("uid", entry.uid), ("gid", entry.gid)] {
            if value > 0o7_777_777 {
                pax_record(&mut pax, field, value.to_string().as_bytes());
            }
        }
        for (name, value) in entry.xattrs {
            pax_record(&mut pax, &format!("SCHILY.xattr.{name}"), value);
        }
        if !pax.is_empty() {
            let header = Entry { kind: b'x', content: &pax, ..Entry::at("PaxHeaders/0") };
            self.block(&header);
        }
        self.block(entry);
    }

    /// Adds bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    fn block(&mut self, entry: &Entry<'_>) {
        let mut header = [0_u8; 512];
        put(&mut header[..100], entry.path.as_bytes());
        octal(&mut header[100..108], u64::from(entry.mode));
        octal(&mut header[108..116], u64::from(entry.uid.min(0o7_777_777)));
        octal(&mut header[116..124], u64::from(entry.gid.min(0o7_777_777)));
        octal(&mut header[124..136], entry.content.len() as u64);
        octal(&mut header[136..148], entry.mtime);
        header[156] = entry.kind;
        put(&mut header[157..257], entry.link.as_bytes());
        put(&mut header[257..265], b"ustar\x0000");
        octal(&mut header[329..337], u64::from(entry.device.0));
        octal(&mut header[337..345], u64::from(entry.device.1));
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(entry.content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

fn put(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    put(field, format!("{value:0width$o}").as_bytes());
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run_with_input;
    use std::process::Command;

    #[test]
    fn gnu_tar_reads_what_we_write() {
        let mut tar = Tarball::default();
        let long = format!("deep/{}", "x".repeat(150));
        tar.directory("deep", 0o755);
        tar.file(&long, 0o644, b"content");
        tar.symlink("deep/link", "../elsewhere");
        tar.hard_link("deep/hard", &long);
        tar.entry(&Entry { kind: b'3', device: (1, 3), ..Entry::at("deep/null") });
        let listed =
            run_with_input(Command::new("tar").args(["--list", "--verbose", "--numeric-owner"]), &tar.finish()).ok();
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 5, "{listed}");
        assert!(lines[0].starts_with("drwxr-xr-x 0/0") && lines[0].ends_with(" deep"), "{listed}");
        assert!(lines[1].ends_with(&long), "{listed}");
        assert!(lines[2].ends_with("deep/link -> ../elsewhere"), "{listed}");
        assert!(lines[3].ends_with(&format!("deep/hard link to {long}")), "{listed}");
        assert!(lines[4].contains("1,3"), "{listed}");
    }
}

//! Makes tar archives for tests, also ones that no tar program would make.

#![allow(dead_code, reason = "each test program uses its part")]

use carrack_layer::Time;
use carrack_layer::tar::{BLOCK, Header};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// One entry to be printed.
#[derive(Debug, Clone)]
pub struct Item {
    pub name: Vec<u8>,
    pub flag: u8,
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    pub mtime: Time,
    pub link: Vec<u8>,
    pub data: Vec<u8>,
    pub device: (i64, i64),
    pub xattrs: Vec<(&'static str, Vec<u8>)>,
}

pub const MTIME: Time = Time { seconds: 1_700_000_000, nanoseconds: 0 };

impl Item {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Item {
        Item {
            name: name.as_ref().to_vec(),
            flag,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: MTIME,
            link: vec![],
            data: vec![],
            device: (0, 0),
            xattrs: vec![],
        }
    }

    pub fn directory(name: impl AsRef<[u8]>) -> Item {
        Item { mode: 0o755, ..Item::new(b'5', name) }
    }

    pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Item {
        Item { data: data.as_ref().to_vec(), ..Item::new(b'0', name) }
    }

    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
        Item { link: target.as_ref().to_vec(), mode: 0o777, ..Item::new(b'2', name) }
    }

    pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
        Item { link: target.as_ref().to_vec(), ..Item::new(b'1', name) }
    }

    pub fn device(flag: u8, name: impl AsRef<[u8]>, major: i64, minor: i64) -> Item {
        Item { device: (major, minor), ..Item::new(flag, name) }
    }

    pub fn mode(self, mode: i64) -> Item {
        Item { mode, ..self }
    }

    pub fn owner(self, uid: i64, gid: i64) -> Item {
        Item { uid, gid, ..self }
    }

    pub fn mtime(self, seconds: i64, nanoseconds: u32) -> Item {
        Item { mtime: Time { seconds, nanoseconds }, ..self }
    }

    pub fn xattr(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Item {
        self.xattrs.push((name, value.as_ref().to_vec()));
        self
    }

    /// Header, extension if it needs one, and data.
    pub fn print(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.name.len() > 100 {
            records.push(record(b"path", &self.name));
        }
        if self.link.len() > 100 {
            records.push(record(b"linkpath", &self.link));
        }
        if self.mtime.nanoseconds != 0 {
            let Time { seconds, nanoseconds } = self.mtime;
            let text = match seconds {
                0.. => format!("{seconds}.{nanoseconds:09}"),
                // The fraction of a negative number counts backwards.
                _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
            };
            records.push(record(b"mtime", text.as_bytes()));
        }
        for (name, value) in &self.xattrs {
            records.push(record(format!("SCHILY.xattr.{name}").as_bytes(), value));
        }
        let mut bytes = Vec::new();
        if !records.is_empty() {
            bytes.extend(extension(b'x', &records.concat()));
        }
        let header = Header {
            name: self.name[..self.name.len().min(100)].to_vec(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.data.len() as i64,
            mtime: self.mtime.seconds,
            flag: self.flag,
            link: self.link[..self.link.len().min(100)].to_vec(),
            major: self.device.0,
            minor: self.device.1,
            gnu: false,
        };
        bytes.extend(header.print().expect("names were cut to fit"));
        bytes.extend(padded(&self.data));
        bytes
    }
}

/// An extension header with its data.
pub fn extension(flag: u8, data: &[u8]) -> Vec<u8> {
    Item { data: data.to_vec(), ..Item::new(flag, "extension") }.print()
}

/// A PAX record.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let bare = key.len() + value.len() + 3;
    let length = (1..).map(|digits| bare + digits).find(|length| length.to_string().len() + bare == *length);
    let length = length.expect("some number of digits fits");
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

pub fn padded(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(data.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A whole archive.
pub fn archive(items: &[Item]) -> Vec<u8> {
    let mut bytes: Vec<u8> = items.iter().flat_map(Item::print).collect();
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// Parts and the closing zeros.
pub fn closed(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat()[..], &[0; 2 * BLOCK]].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// A directory that is removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("carrack-layer-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the name is not taken");
        Scratch(path)
    }

    /// A new directory in it, and its handle.
    pub fn layer(&self, name: &str) -> std::fs::File {
        let path = self.0.join(name);
        std::fs::create_dir(&path).expect("the name is not taken");
        std::fs::File::open(path).expect("it was just made")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("nothing is mounted in it any more");
    }
}

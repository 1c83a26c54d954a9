//! Copies files without filling their holes (lseek(2), `SEEK_DATA`).

use std::fs::File;
use std::io::{self, Read, Seek};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Copies `from` to the empty file `to`; holes stay holes. Returns how many bytes were copied.
///
/// A file of some kilobytes may claim to have terabytes: what it has not got is not written either.
pub fn copy(from: &mut File, to: &mut File) -> io::Result<u64> {
    let size = from.metadata()?.len();
    let (mut position, mut copied) = (0, 0);
    while position < size {
        let data = match seek(&*from, SeekFrom::Data(position)) {
            Ok(data) => data,
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(&*from, SeekFrom::Hole(data))?;
        from.seek(io::SeekFrom::Start(data))?;
        to.seek(io::SeekFrom::Start(data))?;
        copied += io::copy(&mut Read::by_ref(from).take(end - data), to)?;
        position = end;
    }
    to.set_len(size)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    #[test]
    fn holes_stay_holes_and_data_stays_in_its_place() {
        let path = std::env::temp_dir().join(format!("carrack-sys-sparse-{}", std::process::id()));
        let open = |name: &str| {
            fs::create_dir_all(&path).unwrap();
            File::options().read(true).write(true).create(true).truncate(true).open(path.join(name)).unwrap()
        };
        let (mut from, mut to) = (open("from"), open("to"));
        from.set_len(1 << 40).unwrap();
        from.seek(io::SeekFrom::Start(1 << 30)).unwrap();
        from.write_all(b"island").unwrap();
        let copied = copy(&mut from, &mut to).unwrap();
        assert!(copied < 1 << 20, "{copied}");
        assert_eq!(to.metadata().unwrap().len(), 1 << 40);
        let mut found = [0; 6];
        to.seek(io::SeekFrom::Start(1 << 30)).unwrap();
        to.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"island");
        fs::remove_dir_all(path).unwrap();
    }
}

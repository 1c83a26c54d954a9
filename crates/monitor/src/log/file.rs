//! The file of a log.
//!
//! The kubelet renames it and asks for a new one while the container writes; a node's disk may be full for a while; and its directory may
//! be writable by others. So: records are appended whole, a record that could not be written whole is taken back, and only a
//! regular file that is not a link is ever opened (CVE-2025-0750, CVE-2026-53489 were logs elsewhere).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use carrack_sys::rustix::fs::OFlags;
use carrack_words::Kind;

const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o755;

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// Its directory cannot be made.
    #[error("make directory {path} for the log")]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be opened or made.
    #[error("open log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that is not a file stands there.
    #[error("log {path} is not a regular file")]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
}

impl LogFileError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            LogFileError::NotAFile { .. } => Kind::Invalid,
            LogFileError::MakeDirectory { source, .. } | LogFileError::Open { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => Kind::Exhausted,
                io::ErrorKind::PermissionDenied => Kind::Denied,
                _ => Kind::Internal,
            },
        }
    }
}

/// An open log, and how well it can be written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Writes that failed since the last one that did not.
    failures: u64,
}

impl LogFile {
    /// Opens the log for appending, and makes it and the directories above it if they are missing.
    pub fn open(path: &Path) -> Result<Self, LogFileError> {
        Ok(Self { path: path.to_owned(), file: open(path)?, failures: 0 })
    }

    /// Opens the path anew; the old file is kept if that fails.
    pub fn reopen(&mut self) -> Result<(), LogFileError> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole records with one write. If the disk takes only some of them, those are kept and the rest is lost.
    ///
    /// A failure must not stop the container, so it is only told of, and only when it begins and when it is over.
    pub fn append(&mut self, records: &[u8]) -> Option<LogTrouble> {
        match self.write(records) {
            Ok(()) if self.failures == 0 => None,
            Ok(()) => Some(LogTrouble::Over { lost_writes: std::mem::take(&mut self.failures) }),
            Err(source) => {
                self.failures += 1;
                (self.failures == 1).then_some(LogTrouble::Began { source })
            }
        }
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < records.len() {
            match self.file.write(&records[written..]) {
                Ok(0) => return Err(self.take_back(records, written, io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.take_back(records, written, error)),
            }
        }
        Ok(())
    }

    /// Removes the begun record at the end of the file, so that the next one does not continue its line.
    fn take_back(&self, records: &[u8], written: usize, error: io::Error) -> io::Error {
        let whole = records[..written].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let torn = (written - whole) as u64;
        if torn > 0 {
            let shortened =
                self.file.metadata().and_then(|metadata| self.file.set_len(metadata.len().saturating_sub(torn)));
            if let Err(source) = shortened {
                return source;
            }
        }
        error
    }
}

/// What is worth telling about a log's writes.
#[derive(Debug)]
pub enum LogTrouble {
    /// A write failed after one that had not.
    Began {
        /// Why.
        source: io::Error,
    },
    /// A write succeeded after some that had not.
    Over {
        /// How many had failed.
        lost_writes: u64,
    },
}

fn open(path: &Path) -> Result<File, LogFileError> {
    match open_existing_directory(path) {
        Err(LogFileError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(DIRECTORY_MODE)
                    .create(directory)
                    .map_err(|source| LogFileError::MakeDirectory { path: directory.to_owned(), source })?;
            }
            open_existing_directory(path)
        }
        other => other,
    }
}

fn open_existing_directory(path: &Path) -> Result<File, LogFileError> {
    // NONBLOCK: opening a FIFO that somebody put there must not wait for its reader. It means nothing to a regular file.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(|source| LogFileError::Open { path: path.to_owned(), source })?;
    let metadata = file.metadata().map_err(|source| LogFileError::Open { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(LogFileError::NotAFile { path: path.to_owned() });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_missing_directory_is_made_and_the_modes_are_those_the_kubelet_expects() {
        let dir = TestDir::new();
        let path = dir.path().join("pod/container/0.log");
        let mut log = LogFile::open(&path).unwrap();
        assert!(log.append(b"one\n").is_none());
        assert_eq!(fs::read(&path).unwrap(), b"one\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o640, 0o755));
    }

    #[test]
    fn after_a_rotation_records_go_to_a_new_file_at_the_old_path() {
        let dir = TestDir::new();
        let (path, rotated) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
        let mut log = LogFile::open(&path).unwrap();
        log.append(b"one\n");
        fs::rename(&path, &rotated).unwrap();
        log.append(b"two\n");
        log.reopen().unwrap();
        log.append(b"three\n");
        assert_eq!(fs::read(&rotated).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed_and_a_fifo_not_opened() {
        let dir = TestDir::new();
        let (link, target, fifo) = (dir.path().join("link"), dir.path().join("target"), dir.path().join("fifo"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(LogFile::open(&link), Err(LogFileError::Open { .. })));
        assert!(!target.exists());
        use carrack_sys::rustix::fs::{CWD, Mode, mkfifoat};
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        // Without a reader the kernel refuses; with one it opens, and we see that it is no file.
        assert!(matches!(LogFile::open(&fifo), Err(LogFileError::Open { .. })));
        let _reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        assert!(matches!(LogFile::open(&fifo), Err(LogFileError::NotAFile { .. })));
    }

    #[test]
    fn a_begun_record_is_taken_back_when_the_rest_cannot_be_written() {
        let dir = TestDir::new();
        let path = dir.path().join("0.log");
        let log = LogFile::open(&path).unwrap();
        // The file as a full disk leaves it: one record whole, the next one begun.
        fs::write(&path, b"before\none\ntw").unwrap();
        let error = log.take_back(b"one\ntwo\n", 6, io::ErrorKind::StorageFull.into());
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"before\none\n");
    }

    #[test]
    fn a_full_device_is_told_of_once_and_again_when_it_is_over() {
        let mut log = LogFile {
            path: "/dev/full".into(),
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            failures: 0,
        };
        assert!(matches!(log.append(b"one\n"), Some(LogTrouble::Began { .. })));
        assert!(log.append(b"two\n").is_none());
        log.file = OpenOptions::new().write(true).open("/dev/null").unwrap();
        assert!(matches!(log.append(b"three\n"), Some(LogTrouble::Over { lost_writes: 2 })));
        assert!(log.append(b"four\n").is_none());
    }
}

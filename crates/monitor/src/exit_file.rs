//! Writes `exit.json`.

use std::fs::{File, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use carrack_monitor_proto::ExitRecord;

/// The record of an exit could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write the exit of container {id} to {path}")]
pub struct ExitFileError {
    id: carrack_words::ContainerId,
    path: PathBuf,
    source: io::Error,
}

/// Replaces the record at `path`: whoever reads it sees the old one or the new one whole. It is not synced, since it dies with the
/// machine.
pub fn write(path: &Path, record: &ExitRecord) -> Result<(), ExitFileError> {
    try_write(path, record).map_err(|source| ExitFileError { id: record.id.clone(), path: path.to_owned(), source })
}

fn try_write(path: &Path, record: &ExitRecord) -> io::Result<()> {
    let aside = path.with_extension("json.new");
    File::create(&aside)?.write_all(&serde_json::to_vec(record)?)?;
    rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;
    use carrack_words::{ContainerId, Exit, Timestamp};

    #[test]
    fn a_record_replaces_the_one_before_and_leaves_nothing_beside_it() {
        let dir = TestDir::new();
        let path = dir.path().join("exit.json");
        let mut record = ExitRecord {
            version: ExitRecord::VERSION,
            id: ContainerId::new("c").unwrap(),
            exit: Exit::Code(3),
            oom_killed: false,
            started_at: None,
            finished_at: Timestamp::from_nanoseconds(5),
            restart_count: 0,
            will_restart: true,
            error: None,
        };
        write(&path, &record).unwrap();
        record.exit = Exit::Signal(9);
        write(&path, &record).unwrap();
        let read: ExitRecord = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, record);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

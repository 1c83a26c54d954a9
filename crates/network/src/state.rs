//! The network's volatile state on disk, under `<run directory>/network`; it dies with a reboot, as what it describes does.
//!
//! ```text
//! lock                      held while rules change and ports are claimed
//! cursor                    host number of the newest lease, in decimal; its lock is held while one is chosen
//! leases/10.114.0.7         symbolic link whose text is the pod's id: made at once with its content, or not at all
//! ports/tcp-8080/0.0.0.0    symbolic link whose text is the pod's id
//! writing/<pod id>          a record that is being written
//! attaching/<pod id>        record (JSON): what is about to be done; renamed into ...
//! attached/<pod id>         ... this when it is done
//! settings.json             record (JSON): kernel settings as they were found
//! ```
//!
//! A lease is taken first and given back last, so an address is never two pods'. A map element stands in the kernel only while a record names
//! it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use carrack_words::PodId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Attachment, NetworkError};

/// The version of [`Record`] that this program writes and reads.
const RECORD_VERSION: u32 = 1;

/// Which namespace a pod was attached in: device and inode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamespaceId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What is known of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) pod: PodId,
    pub(crate) namespace: NamespaceId,
    /// The host number of its addresses.
    pub(crate) index: u32,
    pub(crate) attachment: Attachment,
}

impl Record {
    pub(crate) fn new(pod: PodId, namespace: NamespaceId, index: u32, attachment: Attachment) -> Self {
        Self { version: RECORD_VERSION, pod, namespace, index, attachment }
    }
}

/// How far an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Attaching,
    Attached,
}

impl Stage {
    fn directory(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
        }
    }
}

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct State {
    root: PathBuf,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

pub(crate) fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::File { doing, path: path.to_owned(), source }
}

/// Success if it worked or if there was nothing to do.
pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl State {
    /// Makes the directories.
    pub(crate) fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let state = Self { root: run_dir.join("network") };
        for name in ["", "leases", "ports", "writing", "attaching", "attached"] {
            let path = state.root.join(name);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(file_error("create directory", &path))?;
        }
        Ok(state)
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Waits for the lock on rules and ports. It is held for moments only: no wait for anything else happens under it.
    pub(crate) fn lock(&self) -> Result<Held, NetworkError> {
        let path = self.path("lock");
        let file = open_to_lock(&path).map_err(file_error("open", &path))?;
        file.lock().map_err(file_error("lock", &path))?;
        Ok(Held(file))
    }

    /// Writes the record of what is about to be done.
    pub(crate) fn begin(&self, record: &Record) -> Result<(), NetworkError> {
        let aside = self.path("writing").join(record.pod.as_str());
        write(&aside, &self.record_path(Stage::Attaching, &record.pod), record)
    }

    /// Turns the record of what is about to be done into that of what is done.
    pub(crate) fn finish(&self, pod: &PodId) -> Result<(), NetworkError> {
        let to = self.record_path(Stage::Attached, pod);
        fs::rename(self.record_path(Stage::Attaching, pod), &to).map_err(file_error("rename record to", &to))
    }

    /// The pod's record and how far it is; `None`: there is none.
    pub(crate) fn record(&self, pod: &PodId) -> Result<Option<(Stage, Record)>, NetworkError> {
        for stage in [Stage::Attached, Stage::Attaching] {
            if let Some(record) = self.read(&self.record_path(stage, pod))? {
                return Ok(Some((stage, record)));
            }
        }
        Ok(None)
    }

    /// All records.
    pub(crate) fn records(&self) -> Result<Vec<Record>, NetworkError> {
        let mut records = Vec::new();
        // In this order: what is finished meanwhile is seen at least once, and twice does no harm.
        for stage in [Stage::Attaching, Stage::Attached] {
            for pod in self.names(stage.directory())?.iter().filter_map(|name| PodId::new(name.as_str()).ok()) {
                records.extend(self.read(&self.record_path(stage, &pod))?);
            }
        }
        Ok(records)
    }

    /// The pods that have a record.
    pub(crate) fn recorded_pods(&self) -> Result<Vec<PodId>, NetworkError> {
        let mut names = self.names(Stage::Attaching.directory())?;
        names.extend(self.names(Stage::Attached.directory())?);
        Ok(names.into_iter().filter_map(|name| PodId::new(name).ok()).collect())
    }

    /// Forgets the pod.
    pub(crate) fn forget(&self, pod: &PodId) -> Result<(), NetworkError> {
        let writing = self.path("writing").join(pod.as_str());
        for path in [writing, self.record_path(Stage::Attaching, pod), self.record_path(Stage::Attached, pod)] {
            absent_is_fine(fs::remove_file(&path)).map_err(file_error("remove record", &path))?;
        }
        Ok(())
    }

    fn record_path(&self, stage: Stage, pod: &PodId) -> PathBuf {
        self.root.join(stage.directory()).join(pod.as_str())
    }

    /// The names in a directory of this one; none if it is absent.
    pub(crate) fn names(&self, directory: &str) -> Result<Vec<String>, NetworkError> {
        let path = self.path(directory);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file_error("list", &path)(error)),
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    /// Reads a record; `None`: there is none.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, NetworkError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| NetworkError::Record { path: path.to_owned(), source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error("read", path)(error)),
        }
    }
}

/// Writes a record aside and puts it in its place. Nothing is synced: it need not outlive a power cut. One writer at a time, by the
/// pod's lock or the network's; so what a crash left aside is overwritten.
pub(crate) fn write<T: Serialize>(aside: &Path, path: &Path, record: &T) -> Result<(), NetworkError> {
    let bytes = serde_json::to_vec(record).map_err(|source| NetworkError::Record { path: path.to_owned(), source })?;
    fs::write(aside, bytes).map_err(file_error("write", aside))?;
    fs::rename(aside, path).map_err(file_error("rename record to", path))
}

/// Opens a file that serves as a lock, or is read and written under one; makes it if need be.
pub(crate) fn open_to_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

//! Starting a monitor from the engine.

use std::ffi::{CString, NulError};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use carrack_monitor_proto::Response;
use carrack_sys::exec::{Strings, spawn};
use carrack_sys::rustix::fs::{Mode, OFlags, open};
use carrack_sys::rustix::io::Errno;
use carrack_sys::rustix::process::{Pid, WaitOptions, waitpid};
use carrack_words::Kind;

use crate::run::{READY, READY_NUMBER};

/// A monitor did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program cannot be run.
    #[error("run {program} as the monitor of {directory}")]
    Run {
        /// `carrack-oci`.
        program: PathBuf,
        /// The pod's run directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended without a word.
    #[error("the monitor of {directory} ended before it was ready")]
    Silent {
        /// The pod's run directory.
        directory: PathBuf,
    },
    /// It says why it cannot run; these are its words.
    #[error("{message}")]
    Refused {
        /// The class of its failure.
        kind: Kind,
        /// Its words.
        message: String,
    },
}

impl StartError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            StartError::Run { .. } | StartError::Silent { .. } => Kind::Internal,
            StartError::Refused { kind, .. } => *kind,
        }
    }
}

/// Starts `program monitor directory` and waits until that monitor takes requests. `program` is `carrack-oci`; `pod.json` is written.
///
/// The monitor belongs to nobody afterwards: it is a child of process 1 or of the nearest subreaper.
pub fn start(program: &Path, directory: &Path) -> Result<(), StartError> {
    let answer = run_and_read(program, directory).map_err(|source| StartError::Run {
        program: program.to_owned(),
        directory: directory.to_owned(),
        source,
    })?;
    if answer == READY.as_bytes() {
        return Ok(());
    }
    match serde_json::from_slice(&answer) {
        Ok(Response::Error { kind, message }) => Err(StartError::Refused { kind, message }),
        // A panic, or a kill, in the middle of it.
        Ok(_) | Err(_) => Err(StartError::Silent { directory: directory.to_owned() }),
    }
}

fn run_and_read(program: &Path, directory: &Path) -> io::Result<Vec<u8>> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|error: NulError| io::Error::from(error));
    let path = text(program.as_os_str().as_bytes())?;
    let arguments = vec![path.clone(), c"monitor".into(), text(directory.as_os_str().as_bytes())?];
    let environment = std::env::vars_os().map(|(name, value)| {
        let variable = [name.into_vec(), vec![b'='], value.into_vec()].concat();
        text(&variable)
    });
    let environment = environment.collect::<io::Result<Vec<_>>>()?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let (mut reader, writer) = io::pipe()?;
    let handles = [(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2), (writer.as_fd(), READY_NUMBER)];
    let pid = spawn(&path, &Strings::new(arguments), &Strings::new(environment), &handles)?;
    drop(writer);
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    // What was started ends as soon as the monitor's own process is there; somebody else may have waited for it.
    while matches!(waitpid(Pid::from_raw(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
    read.map(|_| answer)
}

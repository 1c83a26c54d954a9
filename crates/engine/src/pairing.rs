//! Keeps a root with the one run directory that is used with it.
//!
//! What runs is known in the run directory only. With another one an engine would take all containers of the root for exited, and let
//! them be removed under their processes. So the root remembers its run directory in the file `run-directory`: the path, nothing else. Whoever
//! looks at it or writes it holds a lock on it (flock(2)), so that any number of engines may open at once. A run directory that is gone, as after
//! a reboot, binds nobody.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::engine::create_private_dir;
use crate::error::EngineError;

const FILE: &str = "run-directory";

/// Makes both directories and notes that `root` is used with `run`. Refused while the root is used with another one.
pub(crate) fn pair(root: &Path, run: &Path) -> Result<(), EngineError> {
    create_private_dir(root)?;
    let (mut file, noted) = open(root)?;
    let own = resolved(run)?;
    if let Some(noted) = &noted
        && own.as_ref() != Some(noted)
        && resolved(noted)?.is_some()
    {
        return Err(EngineError::OtherRun { root: root.to_owned(), run: run.to_owned(), noted: noted.clone() });
    }
    create_private_dir(run)?;
    let own = fs::canonicalize(run).map_err(EngineError::io("resolve", run))?;
    if noted.as_ref() != Some(&own) {
        write(&mut file, &own).map_err(EngineError::io("write", root.join(FILE)))?;
    }
    Ok(())
}

/// Forgets the run directory: nothing runs there any more.
pub(crate) fn part(root: &Path) -> Result<(), EngineError> {
    let (file, _) = open(root)?;
    file.set_len(0).map_err(EngineError::io("write", root.join(FILE)))
}

/// The file, locked, and what is in it. A crash between making and writing it leaves it empty.
fn open(root: &Path) -> Result<(File, Option<PathBuf>), EngineError> {
    let path = root.join(FILE);
    let read = || {
        let mut options = File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.lock()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let noted = (!bytes.is_empty()).then(|| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
        io::Result::Ok((file, noted))
    };
    read().map_err(EngineError::io("read", &path))
}

fn write(file: &mut File, run: &Path) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(run.as_os_str().as_bytes())
}

/// A directory's real path; `None` if there is none.
fn resolved(path: &Path) -> Result<Option<PathBuf>, EngineError> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::io("resolve", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("carrack-pairing-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::canonicalize(path).unwrap()
    }

    #[test]
    fn a_root_stays_with_its_run_directory_until_that_is_gone() {
        let place = place("one");
        let (root, one, two) = (place.join("root"), place.join("one"), place.join("two"));
        pair(&root, &one).unwrap();
        pair(&root, &one).unwrap();
        std::os::unix::fs::symlink(&one, place.join("link")).unwrap();
        pair(&root, &place.join("link")).unwrap();
        let error = pair(&root, &two).unwrap_err();
        assert!(matches!(&error, EngineError::OtherRun { noted, .. } if *noted == one), "{error}");
        assert!(!two.exists(), "who is refused leaves nothing behind");
        fs::remove_dir(&one).unwrap();
        pair(&root, &two).unwrap();
        part(&root).unwrap();
        pair(&root, &one).unwrap();
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn of_many_at_once_with_different_directories_one_wins() {
        let place = place("many");
        let root = place.join("root");
        let won = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..10)
                .map(|number| {
                    let (root, run) = (root.clone(), place.join(format!("run{}", number % 5)));
                    scope.spawn(move || pair(&root, &run).is_ok())
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 2);
        fs::remove_dir_all(place).unwrap();
    }
}

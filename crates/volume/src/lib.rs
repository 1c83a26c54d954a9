//! Keeps named volumes.
//!
//! A volume is the directory `volumes/NAME/_data` below the engine's persistent directory; that it exists is the whole truth about it.
//! A new volume is filled from what the image has at its mount point, as docker does: the copy is made aside and renamed into place, so
//! that nobody ever sees half of it.

#![forbid(unsafe_code)]

mod fill;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use carrack_rooted::Root;
use carrack_words::Kind;

pub use carrack_rooted::CopyError;

/// A volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The name is not allowed.
    #[error(
        "invalid volume name {name:?}: want 1 to 255 characters of A-Z a-z 0-9 _ . -, beginning with a letter or digit"
    )]
    Name {
        /// As given, shortened.
        name: String,
    },
    /// There is no such volume.
    #[error("no such volume: {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A directory cannot be made, read or removed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The image's content cannot be copied into a new volume.
    #[error("fill volume {name} from the image")]
    Fill {
        /// The volume.
        name: String,
        /// Why.
        source: CopyError,
    },
}

impl VolumeError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        let full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match self {
            VolumeError::Name { .. } => Kind::Invalid,
            VolumeError::NotFound { .. } => Kind::NotFound,
            VolumeError::Io { source, .. } if full(source) => Kind::Exhausted,
            VolumeError::Fill { source: CopyError { source, .. }, .. } if full(source) => Kind::Exhausted,
            VolumeError::Io { .. } | VolumeError::Fill { .. } => Kind::Internal,
        }
    }
}

/// All volumes of one engine.
#[derive(Debug, Clone)]
pub struct Volumes {
    directory: PathBuf,
}

impl Volumes {
    /// The volumes below the engine's persistent directory `root`.
    pub fn new(root: &Path) -> Self {
        Self { directory: root.join("volumes") }
    }

    /// Whether `name` may name a volume.
    pub fn check_name(name: &str) -> Result<(), VolumeError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        match starts_well && name.len() <= 255 && name.bytes().all(legal) {
            true => Ok(()),
            false => Err(VolumeError::Name { name: name.chars().take(64).collect() }),
        }
    }

    /// The directory of the volume, which is made if it is missing; a new one gets what `image` has at `mount_point`.
    pub fn ensure(&self, name: &str, image: Option<(&Root, &Path)>) -> Result<PathBuf, VolumeError> {
        Self::check_name(name)?;
        let volume = self.directory.join(name);
        let data = volume.join("_data");
        if data.is_dir() {
            return Ok(data);
        }
        create_dir_all(&volume)?;
        let aside = volume.join(format!("making-{}-{:?}", std::process::id(), std::thread::current().id()));
        remove_dir_all(&aside)?;
        create_dir_all(&aside)?;
        if let Some((root, mount_point)) = image {
            fill::fill(root, mount_point, &aside)
                .map_err(|source| VolumeError::Fill { name: name.to_owned(), source })
                .inspect_err(|_| drop(remove_dir_all(&aside)))?;
        }
        match fs::rename(&aside, &data) {
            Ok(()) => Ok(data),
            // Somebody was faster; their volume is as good as ours.
            Err(_) if data.is_dir() => remove_dir_all(&aside).map(|()| data),
            Err(source) => Err(VolumeError::Io { action: "move into place", path: data, source }),
        }
    }

    /// The names of all volumes, sorted.
    pub fn list(&self) -> Result<Vec<String>, VolumeError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(VolumeError::Io { action: "list", path: self.directory.clone(), source }),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("_data").is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Removes a volume and what is in it. The caller makes sure that no container uses it.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        Self::check_name(name)?;
        let volume = self.directory.join(name);
        match volume.join("_data").is_dir() {
            true => remove_dir_all(&volume),
            false => Err(VolumeError::NotFound { name: name.to_owned() }),
        }
    }
}

fn create_dir_all(path: &Path) -> Result<(), VolumeError> {
    fs::create_dir_all(path).map_err(|source| VolumeError::Io { action: "create", path: path.to_owned(), source })
}

fn remove_dir_all(path: &Path) -> Result<(), VolumeError> {
    carrack_rooted::remove_tree(path).map_err(|source| VolumeError::Io {
        action: "remove",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("carrack-volume-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn names_that_are_not_plain_are_refused() {
        for bad in ["", ".", "..", "a/b", "-x", ".x", "a b", "ü"] {
            assert!(matches!(Volumes::check_name(bad), Err(VolumeError::Name { .. })), "{bad:?}");
        }
        Volumes::check_name("data_1.x-y").unwrap();
    }

    #[test]
    fn a_new_volume_gets_the_images_content_and_an_old_one_keeps_its_own() {
        let place = Place::new("fill");
        let image = place.0.join("image");
        fs::create_dir_all(image.join("srv/data/deep")).unwrap();
        fs::write(image.join("srv/data/deep/file"), "from the image").unwrap();
        fs::set_permissions(image.join("srv/data"), fs::Permissions::from_mode(0o1770)).unwrap();
        symlink("/srv/data/deep/file", image.join("srv/data/link")).unwrap();
        symlink("/etc", image.join("out")).unwrap();
        let root = Root::open_host(&image).unwrap();
        let volumes = Volumes::new(&place.0);
        let data = volumes.ensure("v", Some((&root, Path::new("/srv/data")))).unwrap();
        assert_eq!(fs::read_to_string(data.join("deep/file")).unwrap(), "from the image");
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/srv/data/deep/file"));
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o1770);
        fs::write(data.join("own"), "kept").unwrap();
        volumes.ensure("v", Some((&root, Path::new("/srv/data")))).unwrap();
        assert_eq!(fs::read_to_string(data.join("own")).unwrap(), "kept");
        // A link in the image leads inside the image, never to the host's directory of that name.
        let outside = volumes.ensure("w", Some((&root, Path::new("/out")))).unwrap();
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
        assert_eq!(volumes.list().unwrap(), ["v", "w"]);
        volumes.remove("v").unwrap();
        assert!(matches!(volumes.remove("v"), Err(VolumeError::NotFound { .. })));
    }
}

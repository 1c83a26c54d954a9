//! Paths as they are handed to the kernel: relative, and never empty.

use std::path::{Component, Path, PathBuf};

/// A path below a root: no leading slash, no `.` parts, `.` if nothing is left. `..` stays, for the kernel to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelativePath(PathBuf);

impl RelativePath {
    /// Takes any path as one below a root; an absolute one starts there.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let mut parts = PathBuf::new();
        for component in path.as_ref().components() {
            match component {
                Component::RootDir => parts.clear(),
                Component::CurDir | Component::Prefix(_) => {}
                Component::ParentDir | Component::Normal(_) => parts.push(component),
            }
        }
        if parts.as_os_str().is_empty() {
            parts.push(".");
        }
        Self(parts)
    }

    /// The path, not empty, not absolute.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Parent and last name; `None` for the root itself and for a path that ends in `..`.
    pub fn split_last(&self) -> Option<(&Path, &Path)> {
        let name = self.0.file_name()?;
        let parent = self.0.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((parent, Path::new(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_becomes_relative_and_not_empty() {
        for (given, want) in [
            ("", "."),
            ("/", "."),
            (".", "."),
            ("/a//b/./c/", "a/b/c"),
            ("../x", "../x"),
            ("/..", ".."),
            ("a/../b", "a/../b"),
        ] {
            assert_eq!(RelativePath::new(given).as_path(), Path::new(want), "{given}");
        }
    }

    #[test]
    fn the_root_has_no_last_name() {
        assert_eq!(RelativePath::new("/").split_last(), None);
        assert_eq!(RelativePath::new("..").split_last(), None);
        assert_eq!(RelativePath::new("/a").split_last(), Some((Path::new("."), Path::new("a"))));
        assert_eq!(RelativePath::new("/a/b").split_last(), Some((Path::new("a"), Path::new("b"))));
    }
}

//! The path of a group, as `cgroupsPath` gives it.

use std::fmt;

/// A path of checked components: none is empty, `.` or `..`, so it stays below whatever it is joined to.
///
/// An absolute path counts from the root of each hierarchy. A relative one counts from the caller's own group (version 1), or from
/// the parent of that (version 2, where a group with processes cannot have limited children): as runc does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupPath {
    is_absolute: bool,
    /// Components with a slash between them.
    below: String,
}

/// Why a text is no path of a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupPathError {
    /// Nothing, or the root, which belongs to the host.
    #[error("cgroup path {text:?} names no group")]
    Empty {
        /// The text.
        text: String,
    },
    /// A component that would lead elsewhere, or that no group can be called.
    #[error("cgroup path {text:?}: a group cannot be called {component:?}")]
    Component {
        /// The text.
        text: String,
        /// Its faulty component.
        component: String,
    },
}

impl GroupPathError {
    /// The class of this failure.
    pub fn kind(&self) -> carrack_words::Kind {
        carrack_words::Kind::Invalid
    }
}

impl GroupPath {
    /// Reads a path; several slashes in a row count as one.
    pub fn parse(text: &str) -> Result<Self, GroupPathError> {
        let mut below = String::with_capacity(text.len());
        for component in text.split('/').filter(|component| !component.is_empty()) {
            if !is_name(component) {
                return Err(GroupPathError::Component { text: text.to_owned(), component: component.to_owned() });
            }
            if !below.is_empty() {
                below.push('/');
            }
            below.push_str(component);
        }
        if below.is_empty() {
            return Err(GroupPathError::Empty { text: text.to_owned() });
        }
        Ok(Self { is_absolute: text.starts_with('/'), below })
    }

    /// Reads a path as runc does: `.` and `..` are taken out, and above the top there is nothing to go up to.
    pub fn clean(text: &str) -> Result<Self, GroupPathError> {
        let mut components = Vec::new();
        for component in text.split('/') {
            match component {
                "" | "." => {}
                ".." => drop(components.pop()),
                name => components.push(name),
            }
        }
        let top = if text.starts_with('/') { "/" } else { "" };
        Self::parse(&format!("{top}{}", components.join("/")))
    }

    /// Whether the path counts from the root.
    pub fn is_absolute(&self) -> bool {
        self.is_absolute
    }

    /// The path of a group below this one.
    pub fn join(&self, below: &str) -> Result<Self, GroupPathError> {
        Self::parse(&format!("{self}/{below}"))
    }

    /// The group around this one; none around a group of the first level.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.below.rsplit_once('/')?;
        Some(Self { is_absolute: self.is_absolute, below: parent.to_owned() })
    }

    /// The components, without a slash in front.
    pub(crate) fn below(&self) -> &str {
        &self.below
    }
}

impl fmt::Display for GroupPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", if self.is_absolute { "/" } else { "" }, self.below)
    }
}

/// Whether a group can be called so. The kernel refuses a newline itself; its own files hold a dot, but so may groups.
fn is_name(component: &str) -> bool {
    component != "." && component != ".." && component.len() <= 255 && !component.contains(['\0', '\n'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_and_printed() {
        for (text, printed) in
            [("/carrack/a/b", "/carrack/a/b"), ("//x///y/", "/x/y"), ("x/y", "x/y"), ("/a..b", "/a..b")]
        {
            assert_eq!(GroupPath::parse(text).expect(text).to_string(), printed);
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for text in ["", "/", "//", "/a/../b", "..", "./a", "/a/\0", "/a\nb"] {
            GroupPath::parse(text).expect_err(text);
        }
        GroupPath::parse(&format!("/{}", "x".repeat(256))).expect_err("a name too long");
    }

    #[test]
    fn a_cleaned_path_never_leads_above_where_it_counts_from() {
        for (text, printed) in [
            ("/a/../b", "/b"),
            ("/../../a/./b/", "/a/b"),
            ("../a", "a"),
            ("a/../../../b", "b"),
            ("/a..b", "/a..b"),
            ("./a", "a"),
        ] {
            assert_eq!(GroupPath::clean(text).expect(text).to_string(), printed, "{text}");
        }
        for text in ["", "/", "/..", "a/..", "/a/../../"] {
            GroupPath::clean(text).expect_err(text);
        }
    }

    #[test]
    fn children_and_parents() {
        let path = GroupPath::parse("/kubepods/pod1").expect("a path");
        assert_eq!(path.join("c1").expect("a child").to_string(), "/kubepods/pod1/c1");
        assert_eq!(path.parent().map(|parent| parent.to_string()), Some("/kubepods".to_owned()));
        assert_eq!(path.parent().and_then(|parent| parent.parent()), None);
        path.join("../x").expect_err("upwards");
    }

    proptest! {
        #[test]
        fn printing_a_path_and_reading_it_again_changes_nothing(text in "[/a-c.]{0,12}") {
            if let Ok(path) = GroupPath::parse(&text) {
                prop_assert_eq!(GroupPath::parse(&path.to_string()), Ok(path));
            }
        }
    }
}

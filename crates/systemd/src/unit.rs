//! The unit that a container's `cgroupsPath` names.

use carrack_words::Kind;

/// A scope, and the slice that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    slice: String,
    name: String,
}

/// A text names no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not three parts. The words are runc's.
    #[error("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {text:?} instead")]
    Form {
        /// The text.
        text: String,
    },
    /// No name of a slice. The words are runc's.
    #[error("invalid slice name: {slice}")]
    Slice {
        /// The name.
        slice: String,
    },
    /// No name of a scope that can hold a process.
    #[error("invalid unit name: {name}")]
    Name {
        /// The name.
        name: String,
    },
}

impl UnitError {
    /// The class of this failure.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Where a container goes of which nothing is said.
const DEFAULT_SLICE: &str = "system.slice";
/// And how its unit's name begins. It is runc's, since people look for it.
const DEFAULT_PREFIX: &str = "runc";
/// systemd.unit(5).
const MAX_NAME_BYTES: usize = 255;

impl Unit {
    /// Reads `slice:prefix:name`; where there is nothing to read, the container's own id is the name.
    pub fn parse(text: &str, id: &str) -> Result<Self, UnitError> {
        let (slice, prefix, name) = match text.split(':').collect::<Vec<_>>().as_slice() {
            [""] => ("", DEFAULT_PREFIX, id),
            [slice, prefix, name] => (*slice, *prefix, *name),
            _ => return Err(UnitError::Form { text: text.to_owned() }),
        };
        let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
        let name = format!("{prefix}-{name}.scope");
        // A slice holds no processes itself.
        if name.ends_with(".slice.scope") || !is_name(&name) {
            return Err(UnitError::Name { name });
        }
        let unit = Self { slice: slice.to_owned(), name };
        expand(slice).map(|_| unit)
    }

    /// The slice's name.
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// The scope's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of its cgroup, from the root.
    pub fn group_path(&self) -> String {
        let slices = expand(&self.slice).expect("it was expanded when it was read");
        format!("{}/{}", slices.trim_end_matches('/'), self.name)
    }
}

/// `a-b.slice` lies in `a.slice`, and `-.slice` is the root.
fn expand(slice: &str) -> Result<String, UnitError> {
    let invalid = || UnitError::Slice { slice: slice.to_owned() };
    let name = slice.strip_suffix(".slice").filter(|_| is_name(slice)).ok_or_else(invalid)?;
    if name == "-" {
        return Ok("/".to_owned());
    }
    let mut path = String::new();
    for (end, _) in name.match_indices('-').chain([(name.len(), "")]) {
        let above = &name[..end];
        if above.is_empty() || above.ends_with('-') {
            return Err(invalid());
        }
        path += &format!("/{above}.slice");
    }
    Ok(path)
}

/// The letters of systemd.unit(5); none of them leads to another directory.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    !name.starts_with('.') && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_of_three_parts_names_a_scope_in_nested_slices() {
        for (text, name, path) in [
            ("", "runc-c1.scope", "/system.slice/runc-c1.scope"),
            (":docker:abc", "docker-abc.scope", "/system.slice/docker-abc.scope"),
            ("-.slice:x:y", "x-y.scope", "/x-y.scope"),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:ff",
                "cri-containerd-ff.scope",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ff.scope",
            ),
        ] {
            let unit = Unit::parse(text, "c1").expect(text);
            assert_eq!((unit.name(), unit.group_path().as_str()), (name, path), "{text}");
        }
    }

    #[test]
    fn what_names_no_scope_is_refused() {
        let form = |text: &str| {
            format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"{text}\" instead"
            )
        };
        for (text, want) in [
            ("/a/b", form("/a/b")),
            ("a:b", form("a:b")),
            ("a:b:c:d", form("a:b:c:d")),
            ("a:b:c", "invalid slice name: a".into()),
            ("a/b.slice:b:c", "invalid slice name: a/b.slice".into()),
            (".slice:b:c", "invalid slice name: .slice".into()),
            ("a--b.slice:b:c", "invalid slice name: a--b.slice".into()),
            ("-a.slice:b:c", "invalid slice name: -a.slice".into()),
            ("a-.slice:b:c", "invalid slice name: a-.slice".into()),
            ("a.slice:b:../c", "invalid unit name: b-../c.scope".into()),
            ("a.slice:b:c.slice", "invalid unit name: b-c.slice.scope".into()),
            ("a.slice:b:c d", "invalid unit name: b-c d.scope".into()),
            ("a.slice:.b:c", "invalid unit name: .b-c.scope".into()),
        ] {
            assert_eq!(Unit::parse(text, "id").expect_err(text).to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn a_unit_never_leads_out_of_its_slices(text in "[a-c:./\\-]{0,20}(\\.slice)?:[a-c./]{0,5}:[a-c./]{0,5}") {
            if let Ok(unit) = Unit::parse(&text, "id") {
                let path = unit.group_path();
                prop_assert!(path.starts_with('/') && path.ends_with(".scope"));
                let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
                prop_assert!(path[1..].split('/').all(is_plain), "{}", path);
            }
        }
    }
}

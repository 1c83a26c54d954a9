//! Names of entries, cleaned.
//!
//! Where a hostile name ends: what comes out of here is relative, has no `..`, no empty parts and bounded length.

use crate::{EntryProblem, Limits};

/// A path below the layer's root: `a/b/c`, or empty for the root itself.
pub(crate) type CleanPath = Vec<u8>;

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's name says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The layer's root.
    Root,
    /// An ordinary entry.
    Entry(CleanPath),
    /// `.wh.NAME`: the lower layers' NAME, here its whole path, is hidden.
    Whiteout(CleanPath),
    /// `.wh..wh..opq`: all that the lower layers have in this directory is hidden.
    Opaque(CleanPath),
    /// aufs' own bookkeeping.
    Ignored,
}

/// Cleans a name: leading slashes and `.` go, `..` is refused.
pub(crate) fn clean(name: &[u8], limits: &Limits) -> Result<CleanPath, EntryProblem> {
    if name.contains(&0) {
        return Err(EntryProblem::Nul);
    }
    let mut path = Vec::with_capacity(name.len());
    let mut depth = 0;
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(EntryProblem::DotDot),
            // NAME_MAX of every filesystem that can hold a layer.
            _ if part.len() > 255 => return Err(EntryProblem::TooLong),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
        depth += 1;
    }
    if path.len() > limits.path_bytes {
        return Err(EntryProblem::TooLong);
    }
    if depth > limits.depth {
        return Err(EntryProblem::TooDeep { limit: limits.depth });
    }
    Ok(path)
}

/// Cleans an entry's name and finds out what it asks for (OCI image specification, layer.md, "Representing Changes").
pub(crate) fn place(name: &[u8], limits: &Limits) -> Result<Place, EntryProblem> {
    if name.is_empty() {
        return Err(EntryProblem::Empty);
    }
    let path = clean(name, limits)?;
    if path.is_empty() {
        return Ok(Place::Root);
    }
    if !path.starts_with(WHITEOUT) && !path.windows(5).any(|window| window == b"/.wh.") {
        return Ok(Place::Entry(path));
    }
    let (parent, base) = split(&path);
    for part in parent.split(|&byte| byte == b'/') {
        if part.starts_with(AUFS) {
            return Ok(Place::Ignored);
        }
        if part.starts_with(WHITEOUT) {
            return Err(EntryProblem::Whiteout);
        }
    }
    if base == OPAQUE {
        return Ok(Place::Opaque(parent.to_vec()));
    }
    if base.starts_with(AUFS) {
        return Ok(Place::Ignored);
    }
    match base.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => Err(EntryProblem::Whiteout),
        Some(hidden) => Ok(Place::Whiteout(join(parent, hidden))),
        None => Ok(Place::Entry(path)),
    }
}

/// Parent and last part; the parent of a single part is the root, the empty path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// The path of `name` in `parent`.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> CleanPath {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_what_they_ask_for() {
        let limits = Limits::default();
        let entry = |path: &[u8]| Ok(Place::Entry(path.to_vec()));
        let long = [b'x'; 256];
        for (name, want) in [
            (&b"a/b"[..], entry(b"a/b")),
            (b"./a//b/./c/", entry(b"a/b/c")),
            (b"/etc/passwd", entry(b"etc/passwd")),
            (b"./", Ok(Place::Root)),
            (b"/", Ok(Place::Root)),
            (b"", Err(EntryProblem::Empty)),
            (b"..", Err(EntryProblem::DotDot)),
            (b"a/../../b", Err(EntryProblem::DotDot)),
            (b"a\0b", Err(EntryProblem::Nul)),
            (b"...", entry(b"...")),
            (&long, Err(EntryProblem::TooLong)),
            (b"a/.wh.b", Ok(Place::Whiteout(b"a/b".to_vec()))),
            (b".wh.b", Ok(Place::Whiteout(b"b".to_vec()))),
            (b"a/.wh..wh..opq", Ok(Place::Opaque(b"a".to_vec()))),
            (b".wh..wh..opq", Ok(Place::Opaque(vec![]))),
            (b"a/.wh..wh.aufs", Ok(Place::Ignored)),
            (b".wh..wh.plnk/12.34", Ok(Place::Ignored)),
            (b"a/.wh.", Err(EntryProblem::Whiteout)),
            (b"a/.wh..", Err(EntryProblem::Whiteout)),
            (b"a/.wh...", Err(EntryProblem::Whiteout)),
            (b".wh.a/b", Err(EntryProblem::Whiteout)),
            (b"a/x.wh.b", entry(b"a/x.wh.b")),
        ] {
            assert_eq!(place(name, &limits), want, "{}", name.escape_ascii());
        }
        assert_eq!(place(&b"a/".repeat(257), &limits), Err(EntryProblem::TooDeep { limit: 256 }));
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(name in prop::collection::vec(prop::sample::select(b"a./wh\0b".to_vec()), 0..30)) {
            let limits = Limits::default();
            if let Ok(path) = clean(&name, &limits) {
                prop_assert!(path.split(|&b| b == b'/').all(|part| part != b".." && part != b"."));
                prop_assert_eq!(clean(&path, &limits), Ok(path));
            }
        }
    }
}

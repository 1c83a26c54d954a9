//! Names of images, as people and the kubelet write them.
//!
//! Grammar: OCI distribution specification 1.1, "Pulling manifests" (repository and tag), with the shortcuts that Docker Hub's users know:
//!
//! ```text
//! alpine                     → docker.io/library/alpine:latest
//! grafana/loki:3             → docker.io/grafana/loki:3
//! localhost:5000/app         → localhost:5000/app:latest      the first part has a dot or a colon, or is "localhost": a registry
//! name:tag@sha256:…          → the digest decides what is pulled; the tag is only kept for people
//! ```

use std::fmt;

use crate::{Digest, DigestError};

/// Docker Hub's name in references; its API lives on another host, which is the registry client's business.
const DOCKER_HUB: &str = "docker.io";
/// Where Docker Hub keeps the images without an owner in their name.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Host and repository together; the field's limit.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// A string does not name an image. The texts in here are shortened to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// Nothing was given.
    #[error("an image reference must not be empty")]
    Empty,
    /// Host and repository together are too long.
    #[error("image reference {text:?}: the name has more than {LONGEST_NAME} characters")]
    TooLong {
        /// What was given.
        text: String,
    },
    /// The part before the first slash is meant as a registry and is no host name with an optional port.
    #[error("image reference {text:?}: {host:?} is not a registry's host and port")]
    Registry {
        /// What was given.
        text: String,
        /// The host part.
        host: String,
    },
    /// Capital letters, which are allowed in host names and tags only.
    #[error("image reference {text:?}: the repository name must be lower case")]
    UpperCase {
        /// What was given.
        text: String,
    },
    /// The repository breaks the grammar in another way.
    #[error("image reference {text:?}: {repository:?} is not a repository name")]
    Repository {
        /// What was given.
        text: String,
        /// The repository part.
        repository: String,
    },
    /// The tag breaks the grammar.
    #[error("image reference {text:?}: {tag:?} is not a tag")]
    Tag {
        /// What was given.
        text: String,
        /// The tag part.
        tag: String,
    },
    /// What stands after the `@` is not a digest.
    #[error("image reference {text:?} has an invalid digest")]
    Digest {
        /// What was given.
        text: String,
        /// Why.
        source: DigestError,
    },
    /// 64 hexadecimal digits are an image's id and never a name.
    #[error("{text:?} is an image id, not a name")]
    IsId {
        /// What was given.
        text: String,
    },
}

/// A reference to an image in a registry: host, repository, and a tag, a digest or both.
///
/// Prints in full and canonically; [`ImageRef::familiar`] is the short form for people. What is printed parses to the same value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    registry: String,
    repository: String,
    /// Absent only when there is a digest.
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The registry's host with its port, if one was given: `docker.io`, `localhost:5000`, `[::1]:5000`. Lower case.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. Absent when only a digest was given; `latest` when neither was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest. If there is one it decides, whatever the tag says.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and repository, without tag and digest: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, pinned to `digest`; the tag is dropped.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { registry: self.registry.clone(), repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// The same repository and tag without the digest; none if there is no tag.
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }

    /// The form for people: Docker Hub's host and `library/` are left out. `alpine:latest`, `quay.io/app:1`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// [`ImageRef::familiar`] without tag and digest, as the REPOSITORY column of a table has it.
    pub fn familiar_name(&self) -> String {
        if self.registry != DOCKER_HUB {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL) {
            // Otherwise `docker.io/library/a/b` would read `a/b`, which is another image. The same goes for what would read as a registry.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ if first_part_is_host(&self.repository) => self.name(),
            _ => self.repository.clone(),
        }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        if text.is_empty() {
            return Err(ImageRefError::Empty);
        }
        if is_hex(text, 64) {
            return Err(ImageRefError::IsId { text: text.to_owned() });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest =
                    digest.parse().map_err(|source| ImageRefError::Digest { text: shortened(text), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the host.
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(&rest[colon + 1..])),
            _ => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ImageRefError::Tag { text: shortened(text), tag: shortened(tag) });
        }
        let (registry, repository) = split_host(name);
        let registry = check_host(&registry)
            .ok_or_else(|| ImageRefError::Registry { text: shortened(text), host: shortened(&registry) })?;
        check_repository(text, &repository)?;
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(ImageRefError::TooLong { text: shortened(text) });
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageRefError;
    fn try_from(text: String) -> Result<Self, ImageRefError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> String {
        reference.to_string()
    }
}

/// What a person may mean who names an image that is already here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageQuery {
    /// A name, with a tag or a digest.
    Name(ImageRef),
    /// A whole image id, with or without `sha256:`.
    Id(Digest),
    /// Both are possible (`cafe`, `sha256:0a1b`): an image of this name comes first, then the one whose id starts so.
    NameOrIdPrefix {
        /// Read as a name.
        name: ImageRef,
        /// Read as the first hexadecimal digits of an id.
        prefix: String,
    },
}

impl std::str::FromStr for ImageQuery {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if is_hex(hex, 64) {
            // Both forms fit the digest's grammar, so the parse cannot fail; if it ever did, the text would be no name either.
            return match format!("sha256:{hex}").parse() {
                Ok(id) => Ok(Self::Id(id)),
                Err(source) => Err(ImageRefError::Digest { text: shortened(text), source }),
            };
        }
        let name = text.parse()?;
        if !hex.is_empty() && hex.len() < 64 && is_hex(hex, hex.len()) {
            return Ok(Self::NameOrIdPrefix { name, prefix: hex.to_owned() });
        }
        Ok(Self::Name(name))
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn first_part_is_host(name: &str) -> bool {
    name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost"))
}

/// Splits off the registry, or puts Docker Hub there; `library/` is added for its official images.
fn split_host(name: &str) -> (String, String) {
    let (host, repository) = match name.split_once('/') {
        Some((first, rest)) if first_part_is_host(name) => (first, rest),
        _ => (DOCKER_HUB, name),
    };
    let is_hub = host.eq_ignore_ascii_case(DOCKER_HUB) || host.eq_ignore_ascii_case("index.docker.io");
    match (is_hub, repository.contains('/')) {
        (true, false) => (DOCKER_HUB.to_owned(), format!("{OFFICIAL}{repository}")),
        (true, true) => (DOCKER_HUB.to_owned(), repository.to_owned()),
        (false, _) => (host.to_owned(), repository.to_owned()),
    }
}

/// `name`, `name:port`, `[v6]` or `[v6]:port`, made lower case; none if it is nothing of these.
fn check_host(host: &str) -> Option<String> {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (None, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        }
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.is_some_and(|name| !name.split('.').all(is_label)) {
        return None;
    }
    // Leading zeros would give one registry two names.
    let is_port = |port: &str| !port.starts_with('0') && !port.starts_with('+') && port.parse::<u16>().is_ok();
    if port.is_some_and(|port| !is_port(port)) {
        return None;
    }
    Some(host.to_ascii_lowercase())
}

fn check_repository(text: &str, repository: &str) -> Result<(), ImageRefError> {
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    if repository.to_ascii_lowercase().split('/').all(is_path_component) {
        return Err(ImageRefError::UpperCase { text: shortened(text) });
    }
    Err(ImageRefError::Repository { text: shortened(text), repository: shortened(repository) })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().copied().is_some_and(is_word) || !bytes.last().copied().is_some_and(is_word) {
        return false;
    }
    bytes
        .chunk_by(|a, b| is_word(*a) == is_word(*b))
        .all(|run| is_word(run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn every_spelling_has_one_canonical_and_one_familiar_form() {
        let at = format!("@sha256:{HEX}");
        for (given, canonical, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("DOCKER.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("grafana/loki", "docker.io/grafana/loki:latest", "grafana/loki:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("quay.io/app", "quay.io/app:latest", "quay.io/app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("host:80/a/b/c:T_1.x-y", "host:80/a/b/c:T_1.x-y", "host:80/a/b/c:T_1.x-y"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("127.0.0.1:5000/a__b/c---d.e", "127.0.0.1:5000/a__b/c---d.e:latest", "127.0.0.1:5000/a__b/c---d.e:latest"),
            (&format!("alpine{at}"), &format!("docker.io/library/alpine{at}"), &format!("alpine{at}")),
            (&format!("alpine:3{at}"), &format!("docker.io/library/alpine:3{at}"), &format!("alpine:3{at}")),
            (&format!("h:1/a:3{at}"), &format!("h:1/a:3{at}"), &format!("h:1/a:3{at}")),
        ] {
            let parsed: ImageRef = given.parse().unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!(parsed.to_string(), canonical, "{given}");
            assert_eq!(parsed.familiar(), familiar, "{given}");
            assert_eq!(familiar.parse(), Ok(parsed), "{given}");
        }
    }

    #[test]
    fn the_parts_of_a_reference_are_told_apart() {
        let parsed: ImageRef = format!("localhost:5000/team/app:1.2@sha256:{HEX}").parse().unwrap();
        assert_eq!(parsed.registry(), "localhost:5000");
        assert_eq!(parsed.repository(), "team/app");
        assert_eq!(parsed.tag(), Some("1.2"));
        assert_eq!(parsed.digest(), Some(&format!("sha256:{HEX}").parse().unwrap()));
        assert_eq!(parsed.without_digest().unwrap().to_string(), "localhost:5000/team/app:1.2");
        let pinned = parsed.with_digest(Digest::from_sha256([7; 32]));
        assert_eq!((pinned.tag(), pinned.without_digest()), (None, None));
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        let long = format!("a.b/{}", "x".repeat(252));
        for (given, want) in [
            ("", "an image reference must not be empty"),
            ("Alpine", "image reference \"Alpine\": the repository name must be lower case"),
            ("Foo/bar", "image reference \"Foo/bar\": the repository name must be lower case"),
            (":x", "image reference \":x\": \"library/\" is not a repository name"),
            ("a//b", "image reference \"a//b\": \"a//b\" is not a repository name"),
            ("/a", "image reference \"/a\": \"/a\" is not a repository name"),
            ("a/", "image reference \"a/\": \"a/\" is not a repository name"),
            ("a___b", "image reference \"a___b\": \"library/a___b\" is not a repository name"),
            ("a.-b", "image reference \"a.-b\": \"library/a.-b\" is not a repository name"),
            ("a/../b", "image reference \"a/../b\": \"a/../b\" is not a repository name"),
            ("../b", "image reference \"../b\": \"..\" is not a registry's host and port"),
            ("-a.b/c", "image reference \"-a.b/c\": \"-a.b\" is not a registry's host and port"),
            ("a:/b", "image reference \"a:/b\": \"a:\" is not a registry's host and port"),
            ("a:080/b", "image reference \"a:080/b\": \"a:080\" is not a registry's host and port"),
            ("a:65536/b", "image reference \"a:65536/b\": \"a:65536\" is not a registry's host and port"),
            ("u@a.b/c", "image reference \"u@a.b/c\" has an invalid digest"),
            ("http://a/b", "image reference \"http://a/b\": \"http:\" is not a registry's host and port"),
            ("a:", "image reference \"a:\": \"\" is not a tag"),
            ("a:-b", "image reference \"a:-b\": \"-b\" is not a tag"),
            ("a:b c", "image reference \"a:b c\": \"b c\" is not a tag"),
            ("ä", "image reference \"ä\": \"library/ä\" is not a repository name"),
            ("a@sha256:../../etc", "image reference \"a@sha256:../../etc\" has an invalid digest"),
            ("a@", "image reference \"a@\" has an invalid digest"),
        ] {
            assert_eq!(given.parse::<ImageRef>().map_err(|e| e.to_string()), Err(want.to_owned()), "{given}");
        }
        assert!(matches!(long.parse::<ImageRef>(), Err(ImageRefError::TooLong { .. })));
        assert!(matches!(HEX.parse::<ImageRef>(), Err(ImageRefError::IsId { .. })));
        assert!(matches!(format!("a:{}", "x".repeat(129)).parse::<ImageRef>(), Err(ImageRefError::Tag { .. })));
    }

    #[test]
    fn a_query_is_a_name_an_id_or_the_start_of_one() {
        let id: Digest = format!("sha256:{HEX}").parse().unwrap();
        let name = |text: &str| text.parse::<ImageRef>().unwrap();
        let both =
            |text: &str, prefix: &str| ImageQuery::NameOrIdPrefix { name: name(text), prefix: prefix.to_owned() };
        for (given, want) in [
            (HEX, ImageQuery::Id(id)),
            (&format!("sha256:{HEX}"), ImageQuery::Id(id)),
            ("cafe", both("cafe", "cafe")),
            ("sha256:0a1b", both("sha256:0a1b", "0a1b")),
            ("alpine", ImageQuery::Name(name("alpine"))),
            (&format!("alpine@sha256:{HEX}"), ImageQuery::Name(name(&format!("alpine@sha256:{HEX}")))),
        ] {
            assert_eq!(given.parse(), Ok(want), "{given}");
        }
        assert!("CAFE".parse::<ImageQuery>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_reference(
            host in proptest::option::of("([a-z0-9]{1,5}\\.){0,2}[a-zA-Z0-9]{1,5}(:[1-9][0-9]{0,3})?"),
            path in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,3}",
            tag in proptest::option::of("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}"),
            digest in proptest::option::of(any::<[u8; 32]>()),
        ) {
            let mut text = host.map(|host| format!("{host}/")).unwrap_or_default() + &path;
            if let Some(tag) = tag { text += &format!(":{tag}"); }
            if let Some(bytes) = digest { text += &format!("@{}", Digest::from_sha256(bytes)); }
            // Refused in this grammar: capitals in a first part that is no host, and an underscore in one that is.
            if let Ok(parsed) = text.parse::<ImageRef>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed.clone()));
                prop_assert_eq!(parsed.familiar().parse(), Ok(parsed.clone()));
                prop_assert_eq!(serde_json::from_str::<ImageRef>(&serde_json::to_string(&parsed).unwrap()).unwrap(), parsed);
            } else {
                let first = text.split('/').next().unwrap_or_default();
                prop_assert!(first.bytes().any(|b| b.is_ascii_uppercase()) || first.contains(['.', '_']), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic_or_print_something_else(text in "\\PC{0,40}|[a-z:/@.\\[\\]0-9_-]{0,40}") {
            if let Ok(parsed) = text.parse::<ImageRef>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
            }
        }
    }
}

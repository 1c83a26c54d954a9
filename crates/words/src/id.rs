//! Names of containers, pods and exec sessions.

use std::fmt;

/// A string is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {text:?}: an id has 1 to 255 characters of A-Z a-z 0-9 _ + - . and is not . or ..")]
pub struct IdError {
    /// What was given, shortened to 64 characters.
    pub text: String,
}

fn check(text: &str) -> Result<(), IdError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    if text.is_empty() || text.len() > 255 || text == "." || text == ".." || !text.bytes().all(legal) {
        return Err(IdError { text: text.chars().take(64).collect() });
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`; the rule is that of OCI runtimes, so every id is also a safe file name.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve characters, which is what tables show.
            pub fn short(&self) -> &str {
                &self.0[..self.0.len().min(12)]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id! {
    /// A container of the engine or of the low-level runtime (runc's rule for ids).
    ContainerId
}
id! {
    /// A pod sandbox; a container run without a pod is a pod of one and has a pod id of its own.
    PodId
}
id! {
    /// One exec session inside a container.
    ExecId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_always_a_safe_file_name() {
        for bad in ["", ".", "..", "a/b", "a\0", "a b", "ü", &"x".repeat(256)] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "...", "A_b+c-d.e", &"x".repeat(255)] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }
}

//! An image's configuration (OCI image specification 1.1, config.md; Docker's, which has the same fields and more).
//!
//! Hostile input: it is bounded by [`LONGEST_CONFIG`], and what comes out are still only wishes of the image. Users, paths and signals in it are
//! checked by whoever acts on them, inside the container's root.

use std::collections::BTreeMap;

use carrack_words::{Digest, Kind, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Platform;

/// No configuration may be longer.
pub const LONGEST_CONFIG: usize = 8 << 20;

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No JSON of the right form.
    #[error("the image's configuration is malformed")]
    Malformed {
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field that must be there is not.
    #[error("the image's configuration has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A root filesystem that is not made of layers.
    #[error("the image's configuration has a root filesystem of type {given:?}: only layers are supported")]
    RootfsType {
        /// Its type, shortened.
        given: String,
    },
    /// A NUL byte would cut the text short wherever the kernel reads it.
    #[error("the image's configuration has a NUL byte in {field}")]
    Nul {
        /// The field.
        field: &'static str,
    },
}

impl ConfigError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::RootfsType { .. } => Kind::Unsupported,
            Self::Malformed { .. } | Self::Missing { .. } | Self::Nul { .. } => Kind::Invalid,
        }
    }
}

/// What we take from a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// When the image was made; none if it does not say, or not in UTC.
    pub created: Option<Timestamp>,
    /// For which machine.
    pub platform: Platform,
    /// The layers' uncompressed digests, bottom first.
    pub diff_ids: Vec<Digest>,
    /// How containers of it are run if nobody says otherwise.
    pub run: RunDefaults,
}

/// What the image wishes for its containers. Empty means that it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunDefaults {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program if there is no entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, `uid:gid`.
    pub user: String,
    /// Where the process starts.
    pub working_dir: String,
    /// Paths that want a volume.
    pub volumes: Vec<String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Name or number of the signal that asks the process to end.
    pub stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    created: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    config: Option<WireRun>,
    rootfs: Option<WireRootfs>,
}

#[derive(Deserialize)]
struct WireRootfs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct WireRun {
    entrypoint: Option<OneOrMany>,
    cmd: Option<OneOrMany>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    labels: Option<BTreeMap<String, Option<String>>>,
    stop_signal: Option<String>,
}

/// Old images have a bare string where a list belongs.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<String>),
    One(String),
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::Many(list) => list,
            Self::One(text) => vec![text],
        }
    }
}

/// Reads a configuration.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, ConfigError> {
    let wire: Wire = serde_json::from_slice(bytes).map_err(|source| ConfigError::Malformed { source })?;
    let missing = |field| move || ConfigError::Missing { field };
    let rootfs = wire.rootfs.ok_or_else(missing("rootfs"))?;
    match rootfs.kind.as_deref() {
        Some("layers") => {}
        other => {
            let given = other.unwrap_or_default().chars().take(100).collect();
            return Err(ConfigError::RootfsType { given });
        }
    }
    let os = wire.os.ok_or_else(missing("os"))?;
    let architecture = wire.architecture.ok_or_else(missing("architecture"))?;
    let run = run_defaults(wire.config.unwrap_or_default());
    refuse_nul(&run)?;
    Ok(ImageConfig {
        created: wire.created.and_then(|text| text.parse().ok()),
        platform: Platform::new(&os, &architecture, wire.variant.as_deref()),
        // An image without layers may leave the list away.
        diff_ids: rootfs.diff_ids.unwrap_or_default(),
        run,
    })
}

fn run_defaults(wire: WireRun) -> RunDefaults {
    let keys = |map: Option<BTreeMap<String, IgnoredAny>>| map.unwrap_or_default().into_keys().collect();
    let labels = wire.labels.unwrap_or_default();
    RunDefaults {
        entrypoint: wire.entrypoint.map(OneOrMany::into_list).unwrap_or_default(),
        cmd: wire.cmd.map(OneOrMany::into_list).unwrap_or_default(),
        env: wire.env.unwrap_or_default(),
        user: wire.user.unwrap_or_default(),
        working_dir: wire.working_dir.unwrap_or_default(),
        volumes: keys(wire.volumes),
        exposed_ports: keys(wire.exposed_ports),
        labels: labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
        stop_signal: wire.stop_signal.filter(|text| !text.is_empty()),
    }
}

fn refuse_nul(run: &RunDefaults) -> Result<(), ConfigError> {
    let user = std::slice::from_ref(&run.user);
    let working_dir = std::slice::from_ref(&run.working_dir);
    let fields: [(&'static str, &[String]); 6] = [
        ("Entrypoint", &run.entrypoint),
        ("Cmd", &run.cmd),
        ("Env", &run.env),
        ("User", user),
        ("WorkingDir", working_dir),
        ("Volumes", &run.volumes),
    ];
    match fields.into_iter().find(|(_, texts)| texts.iter().any(|text| text.contains('\0'))) {
        Some((field, _)) => Err(ConfigError::Nul { field }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_docker_configuration_is_read_with_its_nulls() {
        let text = format!(
            r#"{{"architecture":"arm64","os":"linux","variant":"v8","created":"2016-09-21T09:09:29.669794202Z","id":"x",
                "config":{{"Hostname":"h","Entrypoint":null,"Cmd":["sh","-c"],"Env":["A=b"],"User":"1:2","WorkingDir":"/w",
                  "Volumes":{{"/data":{{}}}},"ExposedPorts":{{"80/tcp":{{}},"53/udp":{{}}}},"Labels":{{"k":"v","n":null}},
                  "StopSignal":"SIGQUIT","OnBuild":null,"Healthcheck":{{"Test":["NONE"]}}}},
                "rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},"history":[]}}"#,
            "0".repeat(64)
        );
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let want = ImageConfig {
            created: Some(Timestamp::from_nanoseconds(1_474_448_969_669_794_202)),
            platform: Platform::new("linux", "arm64", None),
            diff_ids: vec![Digest::from_sha256([0; 32])],
            run: RunDefaults {
                entrypoint: vec![],
                cmd: list(&["sh", "-c"]),
                env: list(&["A=b"]),
                user: "1:2".into(),
                working_dir: "/w".into(),
                volumes: list(&["/data"]),
                exposed_ports: list(&["53/udp", "80/tcp"]),
                labels: [("k", "v"), ("n", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                stop_signal: Some("SIGQUIT".into()),
            },
        };
        assert_eq!(parse_config(text.as_bytes()).unwrap(), want);
    }

    #[test]
    fn the_least_configuration_wishes_nothing() {
        let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null},"config":{"Cmd":"old"}}"#;
        let config = parse_config(text.as_bytes()).unwrap();
        assert_eq!((config.created, config.diff_ids, config.run.cmd), (None, vec![], vec!["old".to_owned()]));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let with = |rest: &str| format!(r#"{{"architecture":"amd64","os":"linux",{rest}}}"#);
        for (text, want) in [
            ("{}".to_owned(), "the image's configuration has no rootfs"),
            (
                r#"{"rootfs":{"type":"layers"},"os":"linux"}"#.to_owned(),
                "the image's configuration has no architecture",
            ),
            (
                with(r#""rootfs":{"type":"qcow2"}"#),
                "the image's configuration has a root filesystem of type \"qcow2\": only layers are supported",
            ),
            (
                with(r#""rootfs":{"type":"layers","diff_ids":["sha256:../x"]}"#),
                "the image's configuration is malformed",
            ),
            (
                with(r#""rootfs":{"type":"layers"},"config":{"Env":["A=\u0000"]}"#),
                "the image's configuration has a NUL byte in Env",
            ),
        ] {
            assert_eq!(
                parse_config(text.as_bytes()).map_err(|error| error.to_string()),
                Err(want.to_owned()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_config(&bytes);
        }
    }
}

//! For which machines an image is made, and which one of an index to take (OCI image specification 1.1, image-index.md, "platform").
//!
//! Pure. Names are normalised as the field does: `x86_64` is `amd64`, `aarch64` is `arm64`, and arm64's only variant `v8` is left out.

use std::fmt;

/// Operating system, processor architecture and its variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7` of arm, `v3` of amd64; absent means the architecture's least one (arm: v7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {text:?}: want os/architecture[/variant], like linux/arm64")]
pub struct PlatformError {
    /// What was given, shortened.
    pub text: String,
}

impl Platform {
    /// A platform with its names normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, implied) = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => ("amd64".to_owned(), None),
            "aarch64" => ("arm64".to_owned(), None),
            "armhf" => ("arm".to_owned(), Some("v7")),
            "armel" => ("arm".to_owned(), Some("v6")),
            "i386" | "i486" | "i586" | "i686" => ("386".to_owned(), None),
            other => (other.to_owned(), None),
        };
        let variant =
            variant.filter(|text| !text.is_empty()).map(str::to_ascii_lowercase).or(implied.map(str::to_owned));
        let variant = match (architecture.as_str(), variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) | ("arm", Some("v7" | "7")) => None,
            ("arm", Some("5" | "6" | "8")) => variant.map(|digit| format!("v{digit}")),
            _ => variant,
        };
        Self { os: os.to_ascii_lowercase(), architecture, variant }
    }

    /// The platform that this program was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// How well `offered` serves a machine that wants `self`: smaller is better, none is not at all. Lower variants of the same architecture are
    /// fallbacks, the nearest first.
    pub fn distance(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        self.level()?.checked_sub(offered.level()?)
    }

    /// The variant as a number that grows with what the processor can do; none if this architecture's variants have no such order.
    fn level(&self) -> Option<u32> {
        let least = match self.architecture.as_str() {
            "amd64" => 1,
            "arm" => 7,
            "arm64" => 8,
            _ => return None,
        };
        match &self.variant {
            None => Some(least),
            Some(variant) => variant.strip_prefix('v')?.parse().ok(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl std::str::FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`; an architecture alone means Linux.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_name = |part: &&str| {
            part.len() <= 32
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let error = || PlatformError { text: text.chars().take(64).collect() };
        if !parts.iter().all(is_name) {
            return Err(error());
        }
        match parts[..] {
            ["linux"] => Ok(Self::host()),
            [architecture] => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

/// Which of several offers to take: the nearest, of equally near ones the first. Offers without a platform come last, the first of them.
pub fn choose<'a, T>(wanted: &Platform, offers: impl IntoIterator<Item = (Option<Platform>, &'a T)>) -> Option<&'a T> {
    let ranked = offers.into_iter().filter_map(|(platform, offer)| match platform {
        Some(platform) => wanted.distance(&platform).map(|distance| (distance, offer)),
        None => Some((u32::MAX, offer)),
    });
    ranked.min_by_key(|(distance, _)| *distance).map(|(_, offer)| offer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_of_a_platform_has_one_form() {
        for (given, want) in [
            ("linux/amd64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
        ] {
            assert_eq!(platform(given).to_string(), want, "{given}");
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_variant_is_taken_and_the_first_of_equals() {
        let offers = |list: &[&'static str]| -> Vec<(Option<Platform>, &'static str)> {
            list.iter().map(|text| ((*text != "-").then(|| platform(text)), *text)).collect()
        };
        let pick = |wanted: &str, list: &[&'static str]| {
            choose(&platform(wanted), offers(list).iter().map(|(p, name)| (p.clone(), name))).copied()
        };
        for (wanted, list, want) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64", "linux/amd64"][..], Some("linux/amd64")),
            ("linux/arm64", &["linux/amd64", "linux/arm64/v8"], Some("linux/arm64/v8")),
            ("linux/arm", &["linux/arm/v5", "linux/arm/v6"], Some("linux/arm/v6")),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], Some("linux/arm/v5")),
            ("linux/arm/v5", &["linux/arm/v7", "linux/arm/v6"], None),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some("linux/amd64/v2")),
            ("linux/amd64", &["linux/amd64/v2"], None),
            ("linux/amd64", &["windows/amd64"], None),
            ("linux/amd64", &["-", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &["linux/arm64", "-"], Some("-")),
            ("linux/amd64", &[], None),
        ] {
            assert_eq!(pick(wanted, list), want, "{wanted} of {list:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_platform(text in "(linux|windows)/[a-zA-Z0-9][a-zA-Z0-9_]{0,7}(/v?[0-9])?") {
            let parsed = platform(&text);
            prop_assert_eq!(platform(&parsed.to_string()), parsed);
        }
    }
}

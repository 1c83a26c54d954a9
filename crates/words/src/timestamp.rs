//! Points in time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A text is not an RFC 3339 time in UTC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid time {text:?}: want RFC 3339 in UTC, like 2026-01-02T03:04:05.000000006Z")]
pub struct TimestampError {
    /// What was given.
    pub text: String,
}

/// Wall-clock time in nanoseconds since 1970 (UTC); the unit of CRI. Prints as RFC 3339 with nine fraction digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The system's clock now.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// From nanoseconds since 1970.
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since 1970.
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(after.as_nanos().min(i64::MAX as u128) as i64),
            Err(before) => Self(-(before.duration().as_nanos().min(i64::MAX as u128) as i64)),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Before 1970 the formatter refuses; such a clock is shown as the epoch.
        humantime::format_rfc3339_nanos(SystemTime::from(Timestamp(self.0.max(0)))).fmt(f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        humantime::parse_rfc3339(text).map(Into::into).map_err(|_| TimestampError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_fraction_digits_in_utc() {
        let time = Timestamp::from_nanoseconds(1_474_448_969_669_794_202);
        assert_eq!(time.to_string(), "2016-09-21T09:09:29.669794202Z");
        assert_eq!(time.to_string().parse(), Ok(time));
    }
}

//! When to try again, and how often.

use std::time::{Duration, SystemTime};

/// How patient the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For resolving a name and connecting to all of its addresses, and again for the TLS handshake.
    pub connect: Duration,
    /// For the answer's head, and for each further piece of its body: no bytes for so long is a broken connection.
    pub progress: Duration,
    /// Tries of one request, the first included. A blob starts to count anew whenever bytes have arrived.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer, except one that the registry asked for.
    pub longest_pause: Duration,
    /// A registry that asks for a longer pause than this (`Retry-After`) gets no further request.
    pub longest_retry_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            progress: Duration::from_secs(60),
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// The pause after the failed attempt number `attempt` (from 1); none if it was the last one or the registry asks for too much.
    ///
    /// `asked` is the registry's `Retry-After`. `jitter` in 0..1 spreads callers that failed together over half of the pause.
    pub fn pause_after(&self, attempt: u32, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.longest_retry_after).then_some(asked);
        }
        let doubled = self.first_pause.saturating_mul(1 << (attempt.saturating_sub(1)).min(16));
        Some(doubled.min(self.longest_pause).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0))
    }
}

/// Reads `Retry-After`: seconds or a date (RFC 9110, 10.2.3). None if it is neither.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let at = httpdate::parse_http_date(value.trim()).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

/// A number in 0..1 that differs between processes and calls; spreading needs no better one.
pub(crate) fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_attempts() {
        let patience = Patience {
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_millis(500),
            ..Patience::default()
        };
        let pauses: Vec<_> = (1..=5).map(|attempt| patience.pause_after(attempt, None, 0.0)).collect();
        assert_eq!(
            pauses,
            [200, 400, 500, 500]
                .map(|ms| Some(Duration::from_millis(ms)))
                .into_iter()
                .chain([None])
                .collect::<Vec<_>>()
        );
        assert_eq!(patience.pause_after(1, None, 1.0), Some(Duration::from_millis(100)));
    }

    #[test]
    fn the_registry_decides_the_pause_unless_it_asks_for_too_much() {
        let patience = Patience::default();
        assert_eq!(patience.pause_after(1, Some(Duration::from_secs(7)), 0.5), Some(Duration::from_secs(7)));
        assert_eq!(patience.pause_after(1, Some(Duration::from_secs(61)), 0.5), None);
        assert_eq!(patience.pause_after(5, Some(Duration::ZERO), 0.5), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        for (value, want) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999", None),
        ] {
            assert_eq!(parse_retry_after(value, now), want.map(Duration::from_secs), "{value}");
        }
    }
}

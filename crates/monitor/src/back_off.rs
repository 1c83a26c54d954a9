//! How long a restart waits.

use std::time::Duration;

/// The first delay.
pub const FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
pub const LONGEST: Duration = Duration::from_secs(60);
/// A container that ran this long is taken for healthy: its next restart waits for [`FIRST`] again.
pub const HEALTHY: Duration = Duration::from_secs(10);

/// Delays that double, as Docker's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    next: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl BackOff {
    /// The delay after a run that took `ran`.
    pub fn delay(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            *self = Self::default();
        }
        let delay = self.next;
        self.next = (self.next * 2).min(LONGEST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_a_healthy_run() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let delays: Vec<u128> = (0..12).map(|_| back_off.delay(short).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(back_off.delay(HEALTHY), FIRST);
        assert_eq!(back_off.delay(short), FIRST * 2);
    }
}

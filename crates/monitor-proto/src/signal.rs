//! Signal numbers.

/// The number is not one a process can be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal {number}: want 1 to 64")]
pub struct SignalError {
    /// What was given.
    pub number: i32,
}

/// A Linux signal, 1 to 64. Zero, which only asks whether a process exists, is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(u8);

impl Signal {
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);

    /// The number, as kill(2) wants it.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl TryFrom<i32> for Signal {
    type Error = SignalError;

    fn try_from(number: i32) -> Result<Self, SignalError> {
        match u8::try_from(number) {
            Ok(small @ 1..=64) => Ok(Signal(small)),
            _ => Err(SignalError { number }),
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.number()
    }
}

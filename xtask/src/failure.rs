//! Why a verb of the build tool could not be carried out: one sentence for the person in front of it.

use std::fmt;
use std::io;

/// A sentence which names what was tried and on what.
#[derive(Debug)]
pub struct Failure {
    message: String,
    source: Option<io::Error>,
}

impl Failure {
    /// A failure that has no cause below it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// For `map_err`: the sentence, with the kernel's answer as its cause.
    pub fn because(message: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let message = message.into();
        move |source| Self { message, source: Some(source) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(out, "{}: {source}", self.message),
            None => out.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

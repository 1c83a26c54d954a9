//! When a container that exited is started again.

use carrack_words::Exit;

/// The recorded policy; the monitor carries it out, whether or not an engine runs.
///
/// A manual stop ends restarts under every policy until the container is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// After every exit, and after a reboot of the node.
    Always,
    /// After every exit, and after a reboot unless it was stopped before. Within one run of a monitor the same as `Always`.
    UnlessStopped,
    /// After an exit that is not code 0.
    OnFailure {
        /// How often at most since the start by hand; absent means without end.
        max_retries: Option<u32>,
    },
}

impl RestartPolicy {
    /// Whether a container that ended with `exit` is started again after `restarts` restarts so far.
    pub fn wants_restart(self, exit: Exit, restarts: u32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { max_retries } => {
                exit != Exit::Code(0) && max_retries.is_none_or(|limit| restarts < limit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_restarts_after_exactly_these_exits() {
        use RestartPolicy::*;
        let (fine, failed, killed) = (Exit::Code(0), Exit::Code(1), Exit::Signal(9));
        for (policy, exit, restarts, wanted) in [
            (No, failed, 0, false),
            (Always, fine, 1000, true),
            (UnlessStopped, killed, 0, true),
            (OnFailure { max_retries: None }, fine, 0, false),
            (OnFailure { max_retries: None }, killed, 1000, true),
            (OnFailure { max_retries: Some(3) }, failed, 2, true),
            (OnFailure { max_retries: Some(3) }, failed, 3, false),
            (OnFailure { max_retries: Some(0) }, failed, 0, false),
        ] {
            assert_eq!(policy.wants_restart(exit, restarts), wanted, "{policy:?} {exit:?} {restarts}");
        }
    }
}

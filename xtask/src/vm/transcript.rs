//! Reads what the guest's init wrote on the serial line: marks, and between them the output of each command.

use super::{GuestCommand, GuestOutcome};

/// Splits a transcript. Commands that were not reached have no code and no output.
pub fn parse(transcript: &str, commands: &[GuestCommand]) -> Vec<GuestOutcome> {
    let mut outcomes: Vec<GuestOutcome> = commands
        .iter()
        .map(|command| GuestOutcome { name: command.name.clone(), code: None, output: String::new() })
        .collect();
    let mut current: Option<usize> = None;
    for line in transcript.lines() {
        let line = line.trim_end_matches('\r');
        match mark(line) {
            Some(Mark::Begin(index)) => current = Some(index),
            Some(Mark::End(index, code)) => {
                if let Some(outcome) = outcomes.get_mut(index) {
                    outcome.code = Some(code);
                }
                current = None;
            }
            None => {
                if let Some(outcome) = current.and_then(|index| outcomes.get_mut(index)) {
                    outcome.output.push_str(line);
                    outcome.output.push('\n');
                }
            }
        }
    }
    outcomes
}

enum Mark {
    Begin(usize),
    End(usize, i32),
}

fn mark(line: &str) -> Option<Mark> {
    let mut words = line.strip_prefix("@@vm ")?.split(' ');
    let kind = words.next()?;
    let index = words.next()?.parse().ok()?;
    match kind {
        "begin" => Some(Mark::Begin(index)),
        "end" => Some(Mark::End(index, words.next()?.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_command_that_the_machine_did_not_survive_has_no_code() {
        let command = |name: &str| GuestCommand {
            name: name.into(),
            argv: vec![],
            environment: vec![],
            limit: Duration::from_secs(1),
        };
        let transcript = "noise\n@@vm begin 0\nhello\r\n\n@@vm end 0 3\n@@vm begin 1\nhalf";
        assert_eq!(
            parse(transcript, &[command("a"), command("b"), command("c")]),
            [
                GuestOutcome { name: "a".into(), code: Some(3), output: "hello\n\n".into() },
                GuestOutcome { name: "b".into(), code: None, output: "half\n".into() },
                GuestOutcome { name: "c".into(), code: None, output: String::new() },
            ]
        );
    }
}

//! Counts what test programs report: passed, failed, skipped, each by name.
//!
//! Reads the text of Rust's test programs (`test NAME ... ok`, and the captured output after `--show-output`). A test that
//! cannot run where it is says so itself with a line `SKIPPED: NAME: REASON` and returns; the harness takes that for a pass,
//! and here it is taken out again.

use std::fmt;

/// The counts of one or more test programs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// How many passed, without the skipped ones.
    pub passed: usize,
    /// The names of those that failed.
    pub failed: Vec<String>,
    /// `NAME: REASON` of those that could not run here.
    pub skipped: Vec<String>,
}

impl Counts {
    /// Reads the output of test programs.
    pub fn parse(output: &str) -> Self {
        let mut counts = Self::default();
        let mut ok = 0;
        for line in output.lines() {
            if let Some(reason) = line.trim_start().strip_prefix("SKIPPED: ") {
                counts.skipped.push(reason.trim().to_owned());
            } else if let Some(result) = line.strip_prefix("test result: ") {
                ok += count_before(result, " passed");
            } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                counts.failed.push(name.to_owned());
            }
        }
        counts.skipped.sort();
        counts.skipped.dedup();
        counts.passed = ok.saturating_sub(counts.skipped.len());
        counts
    }

    /// Adds what another program reported.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len())
    }
}

/// How much of what a failed stage said is worth repeating, in lines.
const REPEATED_LINES: usize = 150;

/// What the output of a failed stage says of the failure: the captured output of the failed tests, or else its end.
pub fn failure_in(output: &str) -> String {
    let mut lines = vec![];
    let mut is_inside = false;
    for line in output.lines() {
        match line {
            "failures:" => is_inside = true,
            _ if line.starts_with("test result: ") => is_inside = false,
            _ if is_inside => lines.push(line),
            _ => {}
        }
    }
    if lines.is_empty() {
        lines = output.lines().collect();
    }
    lines[lines.len().saturating_sub(REPEATED_LINES)..].join("\n")
}

/// `7` of `ok. 7 passed; 0 failed`, for ` passed`.
fn count_before(text: &str, word: &str) -> usize {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_the_failed_tests_or_by_the_end() {
        let tests = "successes:\n\n---- a stdout ----\nfine\n\nfailures:\n\n---- b stdout ----\nbroken\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed\nmore\n";
        assert_eq!(failure_in(tests), "\n---- b stdout ----\nbroken\n\n    b\n");
        let compiler = (0..200).map(|line| format!("line {line}\n")).collect::<String>();
        let said = failure_in(&compiler);
        assert_eq!((said.lines().count(), said.lines().last()), (REPEATED_LINES, Some("line 199")));
    }

    #[test]
    fn several_programs_are_counted_together_and_the_skipped_are_no_passes() {
        let output = "
running 3 tests
test plan::a_mount_is_planned ... ok
test root_limits_hold ... ok
test root_exec_fails ... FAILED

successes:

---- root_limits_hold stdout ----
SKIPPED: root_limits_hold: no swap controller

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";
        assert_eq!(
            Counts::parse(output),
            Counts {
                passed: 41,
                failed: vec!["root_exec_fails".into()],
                skipped: vec!["root_limits_hold: no swap controller".into()],
            }
        );
    }
}

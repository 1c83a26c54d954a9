//! What was seen with one runtime, and how it differs from what was seen with the other.
//!
//! A scenario writes down what it sees under labels. What cannot be the same twice (identifiers, pids, times, sizes of memory) is
//! made the same first; all other lines must be equal, but for those that the callers' list of accepted differences names. An accepted
//! difference that is no longer there fails as well: `docs/conformance/runc.md` shall stay true.

use std::path::Path;

use carrack_tests::command::Ran;

use crate::accepted::RACES;

/// What the scenarios of one caller saw with one runtime.
#[derive(Debug)]
pub struct Notes {
    runtime: String,
    scenario: &'static str,
    entries: Vec<(String, String)>,
}

impl Notes {
    /// Of the runtime at this path, which callers print.
    pub fn new(runtime: &Path) -> Self {
        Self { runtime: runtime.display().to_string(), scenario: "", entries: vec![] }
    }

    /// What follows is seen by `scenario`.
    pub fn begin(&mut self, scenario: &'static str) {
        self.scenario = scenario;
    }

    /// Writes down `text` under the scenario's name and `label`.
    pub fn note(&mut self, label: &str, text: impl Into<String>) {
        let text = text.into().replace(&self.runtime, "<runtime>");
        self.entries.push((format!("{}/{label}", self.scenario), alike(&text)));
    }

    /// Writes down all that a command did.
    pub fn ran(&mut self, label: &str, ran: &Ran) {
        self.note(&format!("{label}/code"), ran.code.to_string());
        self.note(&format!("{label}/out"), ran.stdout.clone());
        self.note(&format!("{label}/error"), ran.stderr.clone());
    }

    /// Writes down what [`crate::probe::INSIDE`] printed, each file under its own label.
    pub fn inside(&mut self, label: &str, ran: &Ran) {
        self.note(&format!("{label}/code"), ran.code.to_string());
        self.note(&format!("{label}/error"), ran.stderr.clone());
        for section in ran.stdout.replace('\r', "").split("=== ").skip(1) {
            let (name, text) = section.split_once('\n').unwrap_or((section, ""));
            self.note(&format!("{label}/{name}"), crate::probe::normal(name, text));
        }
    }
}

/// Something that is done with a caller `C`, and written down.
pub type Scenario<C> = fn(&C, &mut Notes);

/// What the scenarios of a caller see, one after the other.
pub fn look<C>(caller: &C, runtime: &Path, scenarios: &[(&'static str, Scenario<C>)]) -> Notes {
    let mut notes = Notes::new(runtime);
    for (name, scenario) in scenarios {
        notes.begin(name);
        scenario(caller, &mut notes);
    }
    notes
}

/// A difference that is meant. Patterns take any text for each `*`.
#[derive(Debug)]
pub struct Accepted {
    /// Where: `scenario/label`.
    pub at: &'static str,
    /// The line that only runc gives; empty for none.
    pub runc: &'static str,
    /// The line that only carrack-oci gives; empty for none.
    pub ours: &'static str,
}

/// Panics with every difference between runc and ours that is not accepted, and every accepted one that is not there. `look` tells what was seen with
/// runc, and with ours.
///
/// Callers have races of their own, which show on a busy machine: what is there only the first time of two does not count.
pub fn assert_alike(caller: &str, accepted: &[Accepted], look: impl Fn() -> [Notes; 2]) {
    let mut said = differences(&look(), accepted);
    if !said.is_empty() {
        println!("{caller} is looked at once more:\n{}", said.join("\n"));
        let again = differences(&look(), accepted);
        said.retain(|one| again.contains(one));
    }
    assert!(said.is_empty(), "{caller} tells the runtimes apart in {} places:\n{}", said.len(), said.join("\n"));
}

fn differences([runc, ours]: &[Notes; 2], accepted: &[Accepted]) -> Vec<String> {
    let mut used = vec![false; accepted.len()];
    let mut said = vec![];
    let labels = |notes: &Notes| notes.entries.iter().map(|(label, _)| label.clone()).collect::<Vec<_>>();
    if labels(runc) != labels(ours) {
        said.push(format!("what was looked at\n  runc: {:?}\n  ours: {:?}", labels(runc), labels(ours)));
    }
    for (label, theirs) in &runc.entries {
        let Some((_, mine)) = ours.entries.iter().find(|(name, _)| name == label) else { continue };
        if theirs == mine {
            continue;
        }
        let (mut missing, mut added) = (lines_beyond(theirs, mine), lines_beyond(mine, theirs));
        if missing.is_empty() && added.is_empty() {
            said.push(format!("{label}: the order of the lines\n  runc: {theirs}\n  ours: {mine}"));
        }
        for (entry, used) in accepted.iter().zip(&mut used).filter(|(entry, _)| matches(entry.at, label)) {
            while takes(entry, &mut missing, &mut added) {
                *used = true;
            }
        }
        for entry in RACES.iter().filter(|entry| matches(entry.at, label)) {
            while takes(entry, &mut missing, &mut added) {}
        }
        said.extend(missing.iter().map(|line| format!("{label}\n  runc: {line}")));
        said.extend(added.iter().map(|line| format!("{label}\n  ours: {line}")));
    }
    for (entry, used) in accepted.iter().zip(used) {
        if !used {
            said.push(format!("accepted, but there is no such difference any more: {entry:?}"));
        }
    }
    said
}

/// Removes one line of each side that `entry` accepts, if all it names are there.
fn takes(entry: &Accepted, missing: &mut Vec<String>, added: &mut Vec<String>) -> bool {
    let find = |pattern: &str, lines: &[String]| lines.iter().position(|line| matches(pattern, line));
    let (theirs, mine) = (find(entry.runc, missing), find(entry.ours, added));
    if (!entry.runc.is_empty() && theirs.is_none()) || (!entry.ours.is_empty() && mine.is_none()) {
        return false;
    }
    if let Some(at) = theirs {
        missing.remove(at);
    }
    if let Some(at) = mine {
        added.remove(at);
    }
    theirs.is_some() || mine.is_some()
}

/// The lines of `text` that `other` has not, or has less often.
fn lines_beyond(text: &str, other: &str) -> Vec<String> {
    let mut rest: Vec<&str> = other.lines().collect();
    let mut beyond = vec![];
    for line in text.lines() {
        match rest.iter().position(|candidate| *candidate == line) {
            Some(at) => drop(rest.swap_remove(at)),
            None => beyond.push(line.to_owned()),
        }
    }
    beyond
}

/// Whether `text` is `pattern`, where each `*` stands for anything. No pattern but the empty one is the empty text's.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    if rest.is_empty() {
        return true;
    }
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
}

/// Words that runc puts around what went wrong. carrack-oci says only what went wrong.
const FRAMES: &[&str] = &[
    "runc create failed: ",
    "runc run failed: ",
    "exec failed: ",
    "unable to start container process: ",
    "error during container init: ",
];

/// Identifiers of 64 and of 12 hexadecimal digits, and times in RFC 3339's form, are other ones each time.
fn alike(text: &str) -> String {
    let text = FRAMES.iter().fold(without_times(text), |text, frame| text.replace(frame, ""));
    let mut out = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\0']) {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        // The names that these programs give to directories of the moment.
        for program in ["buildah", "podman"] {
            let number = word.strip_prefix(program).unwrap_or_default();
            if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
                word = format!("{program}<number>");
            }
        }
        let is_hex = word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_id = is_hex && (word.len() == 64 || word.len() == 12);
        out.push_str(if is_id { "<id>" } else { &word });
        word.clear();
        if letter != '\0' {
            out.push(letter);
        }
    }
    out.trim_end().to_owned()
}

fn without_times(text: &str) -> String {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let is_time = |rest: &str| {
        rest.len() >= FORM.len()
            && FORM.iter().zip(rest.bytes()).all(
                |(form, byte)| {
                    if *form == b'0' { byte.is_ascii_digit() } else { byte == *form }
                },
            )
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if is_time(rest) {
            out.push_str("<time>");
            let is_of_time = |letter: char| letter.is_ascii_digit() || ".:+-Z".contains(letter);
            rest = rest[FORM.len()..].trim_start_matches(is_of_time);
        } else {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    out
}

#[test]
fn what_cannot_be_the_same_twice_is_made_the_same() {
    let id = "0123456789abcdef".repeat(4);
    assert_eq!(
        alike(&format!("at=2026-11-21T17:53:07.123+01:00 {id} x{id} beef\n")),
        format!("at=<time> <id> x{id} beef")
    );
    assert_eq!(alike("runc create failed: unable to start container process: exec: \"a\": no"), "exec: \"a\": no");
}

#[test]
fn a_star_stands_for_anything() {
    assert!(matches("a*c*", "abcd") && matches("*", "") && matches("*/error", "a/b/error") && matches("", ""));
    assert!(!matches("a*c", "abd") && !matches("a", "") && !matches("", "a"));
}

#[test]
fn a_difference_is_told_unless_it_is_accepted() {
    let notes = |text: &str| {
        let mut notes = Notes::new(Path::new("/bin/runtime"));
        notes.begin("one");
        notes.note("out", text);
        notes
    };
    let accepted = Accepted { at: "one/*", runc: "x=*", ours: "y=*" };
    let verdict = |ours: &str, accepted: &[Accepted]| differences(&[notes("a\nx=1"), notes(ours)], accepted).is_empty();
    assert!(verdict("a\nx=1", &[]));
    assert!(verdict("a\ny=2", &[accepted]));
    let accepted = || Accepted { at: "one/*", runc: "x=*", ours: "y=*" };
    assert!(!verdict("a\nx=1", &[accepted()]), "an accepted difference that is not there");
    assert!(!verdict("a\ny=2", &[]));
    assert!(!verdict("x=1\na", &[]), "the order");
    assert!(!verdict("a\ny=2\nz", &[accepted()]));

    let looks = std::cell::Cell::new(0);
    assert_alike("nobody", &[], || {
        looks.set(looks.get() + 1);
        [notes("a"), notes(if looks.get() == 1 { "a\nnow and then" } else { "a" })]
    });
    assert_eq!(looks.get(), 2, "what comes and goes is looked at twice");
}

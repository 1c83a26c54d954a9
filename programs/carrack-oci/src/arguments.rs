//! Command lines in runc's form: `[global flags] verb [flags] positionals`.
//!
//! A flag is `--name value`, `--name=value` or `--name`, with one dash or two. A table says which flags a verb has and which of them take a value;
//! any other is refused by name. Pure.

/// One flag that a verb has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its one-letter name, if it has one.
    pub short: Option<char>,
    /// Whether it takes a value.
    pub takes_value: bool,
}

/// A flag without a value.
pub const fn switch(name: &'static str, short: Option<char>) -> Flag {
    Flag { name, short, takes_value: false }
}

/// A flag with a value; a repeat adds another one.
pub const fn value(name: &'static str, short: Option<char>) -> Flag {
    Flag { name, short, takes_value: true }
}

/// A command line cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(pub String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Flags and positionals, told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is no flag, in order.
    pub positionals: Vec<String>,
}

/// Whether flags may follow the first positional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// They may.
    Flags,
    /// Everything from the first positional on belongs to somebody else.
    Rest,
}

impl Parsed {
    /// Reads a command line by a table of flags.
    pub fn parse(arguments: &[String], flags: &[Flag], after: After) -> Result<Self, UsageError> {
        let mut parsed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                parsed.positionals.extend(rest.cloned());
                break;
            }
            let Some(text) = argument.strip_prefix('-').filter(|text| !text.is_empty()) else {
                parsed.positionals.push(argument.clone());
                if after == After::Rest {
                    parsed.positionals.extend(rest.cloned());
                    break;
                }
                continue;
            };
            let text = text.strip_prefix('-').unwrap_or(text);
            let (name, given) = match text.split_once('=') {
                Some((name, given)) => (name, Some(given.to_owned())),
                None => (text, None),
            };
            let found = flags.iter().find(|flag| {
                flag.name == name || flag.short.is_some_and(|short| name.len() == 1 && name.starts_with(short))
            });
            let Some(flag) = found else {
                // As with runc, where `kill ID -1` has two arguments.
                if !parsed.positionals.is_empty() {
                    parsed.positionals.push(argument.clone());
                    continue;
                }
                return Err(UsageError(format!("flag provided but not defined: -{name}")));
            };
            let one = match (flag.takes_value, given) {
                (true, Some(given)) => given,
                (true, None) => {
                    rest.next().cloned().ok_or_else(|| UsageError(format!("flag needs an argument: -{name}")))?
                }
                (false, None) => "true".to_owned(),
                (false, Some(given)) if matches!(given.as_str(), "true" | "false") => given,
                (false, Some(given)) => {
                    return Err(UsageError(format!("invalid boolean value {given:?} for -{name}")));
                }
            };
            parsed.values.push((flag.name, one));
        }
        Ok(parsed)
    }

    /// The last value of a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a switch is on.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<Option<u32>, UsageError> {
        self.value(name)
            .map(|text| text.parse().map_err(|_| UsageError(format!("invalid value {text:?} for flag -{name}"))))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[value("bundle", Some('b')), switch("detach", Some('d')), value("env", Some('e'))];

    fn parse(line: &str, after: After) -> Result<Parsed, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Parsed::parse(&words, FLAGS, after).map_err(|error| error.0)
    }

    #[test]
    fn every_form_of_a_flag_is_understood() {
        for line in ["--bundle /b -d c", "-bundle=/b --detach=true c", "-b /b -d c", "-b=/b c --detach"] {
            let parsed = parse(line, After::Flags).unwrap();
            assert_eq!(
                (parsed.value("bundle"), parsed.is_set("detach"), parsed.positionals.clone()),
                (Some("/b"), true, vec!["c".to_owned()]),
                "{line}"
            );
        }
        assert!(!parse("-d --detach=false c", After::Flags).unwrap().is_set("detach"));
        assert_eq!(parse("-e A=1 -e B=2 c", After::Flags).unwrap().all("env"), ["A=1", "B=2"]);
    }

    #[test]
    fn the_command_of_exec_keeps_its_own_flags() {
        let parsed = parse("-d c ls -l --bundle x", After::Rest).unwrap();
        assert_eq!(parsed.positionals, ["c", "ls", "-l", "--bundle", "x"]);
        assert_eq!(parse("-- -d", After::Flags).unwrap().positionals, ["-d"]);
    }

    #[test]
    fn unknown_flags_and_missing_values_are_refused_by_name() {
        assert_eq!(parse("--nope c", After::Flags), Err("flag provided but not defined: -nope".into()));
        assert_eq!(parse("c -1 -d", After::Flags).unwrap().positionals, ["c", "-1"]);
        assert_eq!(parse("c --bundle", After::Flags), Err("flag needs an argument: -bundle".into()));
        assert_eq!(parse("--detach=maybe c", After::Flags), Err("invalid boolean value \"maybe\" for -detach".into()));
    }
}

//! How docker's users expect a command line to be read, where clap reads it otherwise.
//!
//! A switch may be given a value (`--rm=false`), and of a flag that takes one value and is given twice the last one counts. Pure.

use std::ffi::OsString;

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use crate::args::CommandLine;

/// Reads a command line, the program's name included.
pub fn parse(arguments: &[OsString]) -> Result<CommandLine, clap::Error> {
    let matches = with_docker_habits(CommandLine::command()).try_get_matches_from(arguments)?;
    CommandLine::from_arg_matches(&matches)
}

/// The text that `error` shows, which asks for help or the version. Help shows switches as they are mostly given, without a value.
pub fn help(error: &clap::Error, arguments: &[OsString]) -> String {
    match CommandLine::command().try_get_matches_from(arguments) {
        Err(plain) if plain.kind() == error.kind() => plain.to_string(),
        _ => error.to_string(),
    }
}

/// All commands.
pub fn overview() -> String {
    CommandLine::command().render_help().to_string()
}

/// The command on a command line; absent if a flag that belongs to none comes before it.
pub fn verb(arguments: &[OsString]) -> Option<&str> {
    let mut words = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    while let Some(word) = words.next() {
        match word {
            "--root" | "--run" => drop(words.next()),
            flag if flag.starts_with("--root=") || flag.starts_with("--run=") => {}
            flag if flag.starts_with('-') => return None,
            verb => return Some(verb),
        }
    }
    None
}

fn with_docker_habits(command: Command) -> Command {
    command.args_override_self(true).mut_args(switch).mut_subcommands(with_docker_habits)
}

/// A switch may be given a value after an equals sign; without one it is on.
fn switch(argument: Arg) -> Arg {
    match argument.get_action() {
        ArgAction::SetTrue => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(clap::builder::StringValueParser::new().try_map(|text| truth(&text))),
        _ => argument,
    }
}

/// The words that Go's `strconv.ParseBool` knows.
fn truth(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("want true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn run(arguments: &[&str]) -> args::Run {
        let words: Vec<OsString> = ["carrack", "run"].iter().chain(arguments).map(OsString::from).collect();
        match parse(&words).unwrap_or_else(|error| panic!("{arguments:?}: {error}")).command {
            args::Command::Run(flags) => *flags,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn switches_may_be_given_a_value_and_joined() {
        for (words, want) in [
            (&["alpine"][..], (false, false, false)),
            (&["-it", "alpine"], (true, true, false)),
            (&["-it", "--rm", "alpine"], (true, true, true)),
            (&["-i=false", "-t=1", "--rm=T", "alpine"], (false, true, true)),
            (&["--rm", "--rm=false", "alpine"], (false, false, false)),
        ] {
            let flags = run(words);
            assert_eq!((flags.interactive, flags.tty, flags.rm), want, "{words:?}");
        }
        assert!(parse(&["carrack", "run", "--rm=maybe", "alpine"].map(OsString::from)).is_err());
    }

    #[test]
    fn the_last_of_several_values_counts_and_lists_are_kept() {
        let flags = run(&["--name", "a", "-m", "1g", "-e", "A=1", "--name=b", "-e", "B=2", "--memory=2g", "alpine"]);
        assert_eq!((flags.name.as_deref(), flags.memory.as_deref()), (Some("b"), Some("2g")));
        assert_eq!(flags.env, ["A=1", "B=2"]);
    }

    #[test]
    fn what_follows_the_image_is_the_container_s() {
        let flags = run(&["-h", "flagship", "alpine", "ls", "--rm", "-h", "--name"]);
        assert_eq!((flags.hostname.as_deref(), flags.rm), (Some("flagship"), false));
        assert_eq!(flags.command, ["ls", "--rm", "-h", "--name"]);
    }

    #[test]
    fn help_shows_switches_without_a_value() {
        let words = ["carrack", "run", "--help"].map(OsString::from);
        let help = help(&parse(&words).unwrap_err(), &words);
        assert!(help.contains("--rm\n") && !help.contains("--rm["), "{help}");
    }

    #[test]
    fn the_verb_is_no_flag_s_value() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(verb(&words("carrack --root ps --run=x exec run")), Some("exec"));
        assert_eq!(verb(&words("carrack --help")), None);
    }
}

//! Where errors and warnings go: standard error, and the file of `--log` (runc-like: text or one JSON object a line).

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use carrack_words::Timestamp;

/// The form of a line in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `time="…" level=… msg="…"`.
    #[default]
    Text,
    /// An object with `level`, `msg`, `time`.
    Json,
}

/// A line on standard error. Where that takes none there is nobody left to tell.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The log of this command.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The file of `--log`.
    pub file: Option<PathBuf>,
    /// Its form.
    pub format: Format,
    /// Whether debug lines are wanted.
    pub is_debug: bool,
}

impl Log {
    /// What made the command fail: on standard error as it is, since callers look for its words, and in the file.
    pub fn error(&self, message: &str) {
        say(message);
        self.append("error", message);
    }

    /// What went another way than asked for.
    pub fn warning(&self, message: &str) {
        match self.file {
            Some(_) => self.append("warning", message),
            None => say(&format!("warning: {message}")),
        }
    }

    /// What is done, if somebody wants to know.
    pub fn debug(&self, message: &str) {
        match (self.is_debug, &self.file) {
            (false, _) => {}
            (true, Some(_)) => self.append("debug", message),
            (true, None) => say(&format!("debug: {message}")),
        }
    }

    fn append(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let line = line(self.format, level, message, Timestamp::now());
        let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            say(&format!("write log {}: {error}", path.display()));
        }
    }
}

fn line(format: Format, level: &str, message: &str, time: Timestamp) -> String {
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
        Format::Json => {
            let [level, message] = [level, message].map(|text| serde_json::Value::from(text).to_string());
            format!("{{\"level\":{level},\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_message_is() {
        let time = Timestamp::from_nanoseconds(0);
        assert_eq!(
            line(Format::Json, "error", "exec: \"x\":\nno", time),
            "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\":\\nno\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n"
        );
        assert_eq!(
            line(Format::Text, "error", "a\nb", time),
            "time=\"1970-01-01T00:00:00.000000000Z\" level=error msg=\"a\\nb\"\n"
        );
    }
}

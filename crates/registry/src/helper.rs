//! Docker's credential helpers: `docker-credential-<suffix> get`, the server on standard input, JSON on standard output.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{Credentials, Secret};

/// Helpers ask key rings and clouds; one that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_OUTPUT: u64 = 64 * 1024;
/// What a helper prints if it has nothing, with exit code 1 (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A credential helper did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The name in `config.json` is none.
    #[error("credential helper {suffix:?} is not a program's name")]
    Name {
        /// What stands in the file.
        suffix: String,
    },
    /// It cannot be run.
    #[error("run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It hangs.
    #[error("{program} did not answer within {seconds} s")]
    TimedOut {
        /// The program.
        program: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It says that it failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: String,
        /// The first line that it printed.
        message: String,
    },
    /// What it prints is not what was agreed; it may hold a secret and is not shown.
    #[error("{program} printed no credentials")]
    Malformed {
        /// The program.
        program: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: Secret,
}

/// Asks the helper for `server`'s credentials; none if it has none. Dropping the future kills the helper.
pub(crate) async fn ask(suffix: &str, server: &str) -> Result<Option<Credentials>, HelperError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if suffix.is_empty() || !suffix.chars().all(is_name) {
        return Err(HelperError::Name { suffix: suffix.chars().take(64).collect() });
    }
    let program = format!("docker-credential-{suffix}");
    let (succeeded, output) = timeout(PATIENCE, run(&program, server))
        .await
        .map_err(|_| HelperError::TimedOut { program: program.clone(), seconds: PATIENCE.as_secs() })?
        .map_err(|source| HelperError::Run { program: program.clone(), source })?;
    parse(program, succeeded, &output)
}

async fn run(program: &str, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(server.as_bytes()).await {
            // It may know its answer without reading.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST_OUTPUT).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}

fn parse(program: String, succeeded: bool, output: &[u8]) -> Result<Option<Credentials>, HelperError> {
    if !succeeded {
        let text = String::from_utf8_lossy(output);
        let line = text.trim().lines().next().unwrap_or_default();
        if line.starts_with(NOT_FOUND) {
            return Ok(None);
        }
        return Err(HelperError::Failed {
            program,
            message: line.chars().filter(|c| !c.is_control()).take(200).collect(),
        });
    }
    let answer: Answer = serde_json::from_slice(output).map_err(|_| HelperError::Malformed { program })?;
    if answer.username.is_empty() && answer.secret.expose().is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials::basic(answer.username, answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helpers_answer_is_credentials_nothing_or_an_error_without_secrets() {
        let parse = |succeeded, text: &str| {
            parse("docker-credential-x".into(), succeeded, text.as_bytes()).map_err(|e| e.to_string())
        };
        let basic = Credentials::Basic { user: "u".into(), password: Secret::new("p") };
        assert_eq!(parse(true, r#"{"ServerURL":"s","Username":"u","Secret":"p"}"#), Ok(Some(basic)));
        let token = Credentials::IdentityToken(Secret::new("t"));
        assert_eq!(parse(true, r#"{"ServerURL":"s","Username":"<token>","Secret":"t"}"#), Ok(Some(token)));
        assert_eq!(parse(false, "credentials not found in native keychain\n"), Ok(None));
        assert_eq!(parse(true, r#"{"Username":"","Secret":""}"#), Ok(None));
        assert_eq!(
            parse(false, "key ring is locked\nsecret"),
            Err("docker-credential-x failed: key ring is locked".into())
        );
        assert_eq!(parse(true, "secret"), Err("docker-credential-x printed no credentials".into()));
    }

    #[tokio::test]
    async fn a_path_is_no_helpers_name_and_a_missing_helper_is_named() {
        for bad in ["", "../x", "a b", "/bin/sh"] {
            assert!(matches!(ask(bad, "s").await, Err(HelperError::Name { .. })), "{bad}");
        }
        let error = ask("carrack-test-missing", "s").await.unwrap_err();
        assert_eq!(error.to_string(), "run docker-credential-carrack-test-missing");
    }
}

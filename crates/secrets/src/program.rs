use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::process::Command;
use tokio::time::timeout;

/// In what surroundings commands run that know secrets.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The project's folder, which is their working directory.
    pub project: &'a Path,
    /// Their environment.
    pub environment: &'a BTreeMap<String, String>,
    /// How long one of them may take; it may ask a person for a password.
    pub command_timeout: Duration,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It did not start.
    #[error("cannot start `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long and was ended.
    #[error("`{program}` did not end within {} s", limit.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It printed something that is not UTF-8, or holds the character NUL.
    #[error("the output of `{program}` is not text")]
    NotText {
        /// The program.
        program: String,
    },
}

/// What a program printed and how it ended.
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    stdout: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Returns what it printed, without the last line break.
    pub(crate) fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.stdout).ok().filter(|text| !text.contains('\0'))?;
        Some(text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r'])).unwrap_or(text))
    }
}

/// What becomes of a program's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorOutput {
    /// A person reads it: questions and complaints.
    Shown,
    /// Nobody does: the program is only asked whether it is there or logged in.
    Hidden,
}

/// A program with its arguments.
pub(crate) struct Call<'a> {
    pub(crate) program: &'a str,
    pub(crate) arguments: Vec<&'a str>,
    /// Variables beside those of the surroundings. A secret that a program needs goes here, never in an argument.
    pub(crate) variables: Vec<(&'a str, &'a str)>,
    pub(crate) errors: ErrorOutput,
}

impl Surroundings<'_> {
    /// Runs a program with the terminal's input. Dropping the future ends it.
    pub(crate) async fn run(&self, call: &Call<'_>) -> Result<Answer, ProgramError> {
        let program = || call.program.to_owned();
        let started = |source| ProgramError::Start { program: program(), source };
        let mut command = Command::new(call.program);
        command
            .args(&call.arguments)
            .current_dir(self.project)
            .env_clear()
            .envs(self.environment)
            .envs(call.variables.iter().copied())
            .stdin(Stdio::inherit())
            .stdout(Stdio::piped())
            .stderr(if call.errors == ErrorOutput::Shown { Stdio::inherit() } else { Stdio::null() })
            .kill_on_drop(true);
        let child = command.spawn().map_err(started)?;
        let output = timeout(self.command_timeout, child.wait_with_output())
            .await
            .map_err(|_| ProgramError::TimedOut { program: program(), limit: self.command_timeout })?
            .map_err(started)?;
        Ok(Answer { status: output.status, stdout: Zeroizing::new(output.stdout) })
    }

    /// Runs a command of a secrets file. Returns its output without the last line break, and how it ended.
    ///
    /// The command is an argument of `sh` and so visible in the list of processes, as with Kamal: a secrets file
    /// names where secrets are, it should not hold them. Dropping the future ends the shell; a program that the shell
    /// started stays in the terminal's foreground group, so that it can ask for a password, and ends by itself.
    pub(crate) async fn shell(&self, command: &str) -> Result<(SecretString, ExitStatus), ProgramError> {
        let call = Call {
            program: "/bin/sh",
            arguments: vec!["-c", command],
            variables: Vec::new(),
            errors: ErrorOutput::Shown,
        };
        let answer = self.run(&call).await?;
        let not_text = || ProgramError::NotText { program: "/bin/sh".to_owned() };
        Ok((SecretString::from(answer.text().ok_or_else(not_text)?), answer.status))
    }
}

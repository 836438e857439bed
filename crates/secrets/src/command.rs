use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::process::Command;
use tokio::time::timeout;

use crate::error::{Place, SecretsError};

/// In what surroundings the commands of secrets files run.
pub(crate) struct Shell<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) limit: Duration,
}

impl Shell<'_> {
    /// Runs a command with the terminal's input and error output. Returns its output without the last line break.
    ///
    /// The command is an argument of `sh` and so visible in the list of processes, as with Kamal: a secrets file
    /// names where secrets are, it should not hold them. Dropping the future ends the shell; a program that the shell
    /// started stays in the terminal's foreground group, so that it can ask for a password, and ends by itself.
    pub(crate) async fn run(
        &self,
        command: &str,
        place: &Place,
    ) -> Result<Result<SecretString, ExitStatus>, SecretsError> {
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(self.folder)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::inherit())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| SecretsError::Shell { place: place.clone(), source })?;
        let output = timeout(self.limit, child.wait_with_output())
            .await
            .map_err(|_| SecretsError::TimedOut { place: place.clone(), limit: self.limit })?
            .map_err(|source| SecretsError::Shell { place: place.clone(), source })?;
        let stdout = Zeroizing::new(output.stdout);
        if !output.status.success() {
            return Ok(Err(output.status));
        }
        let text = std::str::from_utf8(&stdout).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| SecretsError::NotText { place: place.clone() })?;
        let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r'])).unwrap_or(text);
        Ok(Ok(SecretString::from(text)))
    }
}

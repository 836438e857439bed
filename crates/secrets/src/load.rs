use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_model::{Destination, SecretName, SecretValues};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::command::Shell;
use crate::dotenv::{self, Definition};
use crate::error::{FailedCommand, Place, SecretsError};
use crate::substitute::{LineBreaks, Part, parts};

/// Where the secrets files of a project are, and how they are read.
#[derive(Debug, Clone)]
pub struct SecretFiles<'a> {
    /// The project's folder, in which commands run.
    pub project: &'a Path,
    /// The base name of the files, relative to the project: `.kamal/secrets`.
    pub base: &'a Path,
    /// The chosen destination.
    pub destination: Option<&'a Destination>,
    /// How long one command may take; it may ask a person for a password.
    pub command_timeout: Duration,
}

impl SecretFiles<'_> {
    /// Returns the files, relative to the project: the common one, then that of the destination, or without one the
    /// plain one. A later file wins.
    #[must_use]
    pub fn paths(&self) -> [PathBuf; 2] {
        let with = |suffix: &str| {
            let mut name = self.base.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let second = self.destination.map_or_else(|| self.base.to_owned(), |name| with(&format!(".{name}")));
        [with("-common"), second]
    }
}

/// What a name of a file stands for.
#[derive(Clone)]
enum Outcome {
    Known(SecretString),
    /// The value needs a command that failed. That matters only if the value is needed.
    Failed(FailedCommand),
}

/// Reads the secrets files, runs their commands, and returns the values that are needed.
///
/// `environment` is what `$NAME` finds beside the names of the file itself, and what commands see; the destination is
/// added as `KAMAL_DESTINATION`. Nothing is read or run if nothing is needed. Every command of the files is run, one
/// after another; unlike in Kamal one that fails is an error, but only if a value that is needed depends on it.
///
/// # Errors
/// [`SecretsError`]: a file that cannot be read, a command that cannot run or takes too long, or all needed secrets
/// without a value at once. No error holds a value.
///
/// # Cancel safety
/// Dropping the future ends the running command; nothing else is left behind.
pub async fn load(
    files: &SecretFiles<'_>,
    environment: &BTreeMap<String, String>,
    needed: &[SecretName],
) -> Result<SecretValues, SecretsError> {
    if needed.is_empty() {
        return Ok(SecretValues::default());
    }
    let mut environment = environment.clone();
    match files.destination {
        Some(destination) => environment.insert("KAMAL_DESTINATION".to_owned(), destination.to_string()),
        None => environment.remove("KAMAL_DESTINATION"),
    };
    let shell = Shell { folder: files.project, environment: &environment, limit: files.command_timeout };
    let mut outcomes = BTreeMap::new();
    let mut looked_at = Vec::new();
    for path in files.paths() {
        let text = read(files.project, &path)?;
        looked_at.push((path.clone(), text.is_some()));
        if let Some(text) = text {
            let file = Reading { path, shell: &shell, outcomes: BTreeMap::new() };
            outcomes.extend(file.evaluate(&text).await?);
        }
    }
    select(&outcomes, needed, looked_at)
}

fn select(
    outcomes: &BTreeMap<String, Outcome>,
    needed: &[SecretName],
    looked_at: Vec<(PathBuf, bool)>,
) -> Result<SecretValues, SecretsError> {
    let mut values = BTreeMap::new();
    let (mut missing, mut failed) = (Vec::new(), Vec::new());
    for name in needed {
        match outcomes.get(name.as_str()) {
            Some(Outcome::Known(value)) => {
                values.insert(name.clone(), value.clone());
            }
            Some(Outcome::Failed(command)) => failed.push((name.clone(), command.clone())),
            None => missing.push(name.clone()),
        }
    }
    if missing.is_empty() && failed.is_empty() {
        return Ok(SecretValues::new(values));
    }
    missing.sort();
    missing.dedup();
    Err(SecretsError::Unresolved { missing, failed, looked_at })
}

/// Reads a file; none if there is none.
fn read(project: &Path, path: &Path) -> Result<Option<Zeroizing<String>>, SecretsError> {
    match fs_err::read_to_string(project.join(path)) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretsError::Read { file: path.to_owned(), source }),
    }
}

/// One file while it is evaluated. Its names are not seen by the other file.
struct Reading<'a> {
    path: PathBuf,
    shell: &'a Shell<'a>,
    outcomes: BTreeMap<String, Outcome>,
}

impl Reading<'_> {
    async fn evaluate(mut self, text: &str) -> Result<BTreeMap<String, Outcome>, SecretsError> {
        let file = dotenv::parse(text);
        for line in file.ignored {
            tracing::warn!(file = %self.path.display(), line, "this line of a secrets file defines nothing");
        }
        for definition in file.definitions {
            let place = Place { file: self.path.clone(), line: definition.line };
            let outcome = self.define(&definition, &place).await?;
            self.outcomes.extend(outcome.map(|outcome| (definition.key, outcome)));
        }
        Ok(self.outcomes)
    }

    async fn define(&self, definition: &Definition, place: &Place) -> Result<Option<Outcome>, SecretsError> {
        let Some(value) = &definition.value else {
            if !definition.is_export {
                return Ok(Some(Outcome::Known(SecretString::from(""))));
            }
            let name = definition.key.clone();
            return if self.outcomes.contains_key(&name) {
                Ok(None)
            } else {
                Err(SecretsError::UnsetExport { place: place.clone(), name })
            };
        };
        let mut text = Zeroizing::new(String::new());
        for part in parts(value, self.line_breaks()) {
            let outcome = match part {
                Part::Text(part) => {
                    text.push_str(&part);
                    continue;
                }
                Part::Variable(name) => self.variable(&name),
                Part::Command(parts) => self.command(&parts, place).await?,
            };
            match outcome {
                Outcome::Known(part) => text.push_str(part.expose_secret()),
                failed @ Outcome::Failed(_) => return Ok(Some(failed)),
            }
        }
        Ok(Some(Outcome::Known(SecretString::from(text.as_str()))))
    }

    fn line_breaks(&self) -> LineBreaks {
        match self.variable("DOTENV_LINEBREAK_MODE") {
            Outcome::Known(mode) if mode.expose_secret() == "legacy" => LineBreaks::Legacy,
            _ => LineBreaks::Kept,
        }
    }

    /// A name of this file, else of the environment, else empty.
    fn variable(&self, name: &str) -> Outcome {
        let of_environment = || {
            let value = self.shell.environment.get(name).map_or("", String::as_str);
            Outcome::Known(SecretString::from(value))
        };
        self.outcomes.get(name).cloned().unwrap_or_else(of_environment)
    }

    async fn command(&self, parts: &[Part], place: &Place) -> Result<Outcome, SecretsError> {
        let mut command = Zeroizing::new(String::new());
        for part in parts {
            match part {
                Part::Text(text) => command.push_str(text),
                Part::Variable(name) => match self.variable(name) {
                    Outcome::Known(value) => command.push_str(value.expose_secret()),
                    failed @ Outcome::Failed(_) => return Ok(failed),
                },
                // Commands inside a command are the shell's.
                Part::Command(_) => {}
            }
        }
        let mut words = command.split_ascii_whitespace();
        if (words.next(), words.next()) == (Some("kamal"), Some("secrets")) {
            return Err(SecretsError::KamalCommand { place: place.clone() });
        }
        let outcome = match self.shell.run(&command, place).await? {
            Ok(value) => Outcome::Known(value),
            Err(status) => Outcome::Failed(FailedCommand { place: place.clone(), status }),
        };
        Ok(outcome)
    }
}

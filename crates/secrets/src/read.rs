use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use freehold_model::Destination;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::definitions::{Defined, Definitions, FailedCommand, Source};
use crate::dotenv::{self, Definition};
use crate::error::{Place, SecretsError};
use crate::inline;
use crate::program::Surroundings;
use crate::substitute::{LineBreaks, Part, parts};

/// Where the secrets files of a project are.
#[derive(Debug, Clone, Copy)]
pub struct SecretFiles<'a> {
    /// The base name of the files, relative to the project: `.kamal/secrets`.
    pub base: &'a Path,
    /// The chosen destination.
    pub destination: Option<&'a Destination>,
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

/// Reads the secrets files and runs their commands, one after another.
///
/// `$NAME` finds the names of the file itself, then the environment of the surroundings, which commands see too; the
/// destination is added to it as `KAMAL_DESTINATION`. A command that ends with another code than 0 is no error, as in
/// Kamal: its value is what it printed, and [`Definitions::failures`] tells of it.
///
/// # Errors
/// [`SecretsError`]: a file that cannot be read, a command that cannot run, takes too long or prints no text, a
/// `$(kamal secrets …)` that fails. No error holds a value.
///
/// # Cancel safety
/// Dropping the future ends the running command; nothing else is left behind.
pub async fn read(
    files: SecretFiles<'_>,
    surroundings: Surroundings<'_>,
) -> Result<Definitions, SecretsError> {
    let mut environment = surroundings.environment.clone();
    match files.destination {
        Some(destination) => environment.insert("KAMAL_DESTINATION".to_owned(), destination.to_string()),
        None => environment.remove("KAMAL_DESTINATION"),
    };
    let surroundings = Surroundings { environment: &environment, ..surroundings };
    let mut definitions = Definitions::default();
    for path in files.paths() {
        let text = read_text(surroundings.project, &path)?;
        definitions.looked_at(path.clone(), text.is_some());
        if let Some(text) = text {
            let file = Reading { path, surroundings, defined: BTreeMap::new() };
            file.evaluate(&text, &mut definitions).await?;
        }
    }
    Ok(definitions)
}

/// Reads a file; none if there is none.
fn read_text(project: &Path, path: &Path) -> Result<Option<Zeroizing<String>>, SecretsError> {
    match fs_err::read_to_string(project.join(path)) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretsError::Read { file: path.to_owned(), source }),
    }
}

/// One file while it is evaluated. Its names are not seen by the other file.
struct Reading<'a> {
    path: PathBuf,
    surroundings: Surroundings<'a>,
    defined: BTreeMap<String, Defined>,
}

/// A value while it is put together.
struct Draft {
    text: Zeroizing<String>,
    source: Source,
    failed: Vec<FailedCommand>,
}

impl Draft {
    fn add(&mut self, part: &Defined) {
        self.text.push_str(part.value.expose_secret());
        self.take(part);
    }

    /// Remembers where a part comes from.
    fn take(&mut self, part: &Defined) {
        self.source = self.source.max(part.source);
        for failed in &part.failed {
            if !self.failed.contains(failed) {
                self.failed.push(failed.clone());
            }
        }
    }
}

impl Reading<'_> {
    async fn evaluate(mut self, text: &str, definitions: &mut Definitions) -> Result<(), SecretsError> {
        let file = dotenv::parse(text);
        for line in file.ignored {
            definitions.ignored(Place { file: self.path.clone(), line });
        }
        for definition in file.definitions {
            let place = Place { file: self.path.clone(), line: definition.line };
            if let Some(defined) = self.define(&definition, &place).await? {
                definitions.define(&definition.key, defined.clone());
                self.defined.insert(definition.key, defined);
            }
        }
        Ok(())
    }

    async fn define(&self, definition: &Definition, place: &Place) -> Result<Option<Defined>, SecretsError> {
        let mut draft =
            Draft { text: Zeroizing::new(String::new()), source: Source::File, failed: Vec::new() };
        let Some(value) = &definition.value else {
            let name = definition.key.clone();
            return match (definition.is_export, self.defined.contains_key(&name)) {
                (false, _) => Ok(Some(finished(&draft, place))),
                (true, true) => Ok(None),
                (true, false) => Err(SecretsError::UnsetExport { place: place.clone(), name }),
            };
        };
        for part in parts(value, self.line_breaks()) {
            match part {
                Part::Text(part) => draft.text.push_str(&part),
                Part::Variable(name) => draft.add(&self.variable(&name, place)),
                Part::Command(parts) => self.command(&parts, place, &mut draft).await?,
            }
        }
        Ok(Some(finished(&draft, place)))
    }

    fn line_breaks(&self) -> LineBreaks {
        let name = "DOTENV_LINEBREAK_MODE";
        let defined = self.defined.get(name).map(|defined| defined.value.expose_secret());
        let mode = defined.or_else(|| self.surroundings.environment.get(name).map(String::as_str));
        if mode == Some("legacy") { LineBreaks::Legacy } else { LineBreaks::Kept }
    }

    /// A name of this file, else of the environment, else empty.
    fn variable(&self, name: &str, place: &Place) -> Defined {
        let of_environment = || {
            let value = self.surroundings.environment.get(name);
            let source = if value.is_some() { Source::Environment } else { Source::File };
            let value = SecretString::from(value.map_or("", String::as_str));
            Defined { value, place: place.clone(), source, failed: Vec::new() }
        };
        self.defined.get(name).cloned().unwrap_or_else(of_environment)
    }

    async fn command(&self, parts: &[Part], place: &Place, draft: &mut Draft) -> Result<(), SecretsError> {
        let mut command = Zeroizing::new(String::new());
        for part in parts {
            match part {
                Part::Text(text) => command.push_str(text),
                Part::Variable(name) => {
                    let value = self.variable(name, place);
                    command.push_str(value.value.expose_secret());
                    draft.take(&value);
                }
                // Commands inside a command are the shell's.
                Part::Command(_) => {}
            }
        }
        if inline::is_inline(&command) {
            let value = inline::run(&command, self.surroundings)
                .await
                .map_err(|source| SecretsError::Inline { place: place.clone(), source })?;
            draft.text.push_str(value.expose_secret());
            draft.source = Source::PasswordManager;
            return Ok(());
        }
        let (value, status) = self
            .surroundings
            .shell(&command)
            .await
            .map_err(|source| SecretsError::Command { place: place.clone(), source })?;
        draft.text.push_str(value.expose_secret());
        draft.source = draft.source.max(Source::Command);
        if !status.success() {
            draft.failed.push(FailedCommand { place: place.clone(), status });
        }
        Ok(())
    }
}

fn finished(draft: &Draft, place: &Place) -> Defined {
    Defined {
        value: SecretString::from(draft.text.as_str()),
        place: place.clone(),
        source: draft.source,
        failed: draft.failed.clone(),
    }
}

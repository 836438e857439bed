use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;

use freehold_model::{SecretName, SecretValues};
use secrecy::SecretString;

use crate::error::{Place, SecretsError};

/// Where a value comes from, the farthest place if there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It stands in the file.
    File,
    /// A variable of the environment.
    Environment,
    /// What a command printed.
    Command,
    /// A password manager, by `kamal secrets`.
    PasswordManager,
}

/// A command of a secrets file that ended with another code than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCommand {
    /// Where it stands.
    pub place: Place,
    /// How it ended.
    pub status: ExitStatus,
}

/// What a name of a secrets file stands for.
#[derive(Debug, Clone)]
pub struct Defined {
    /// The value.
    pub value: SecretString,
    /// Where it is defined.
    pub place: Place,
    /// Where the value comes from.
    pub source: Source,
    /// The commands that gave a part of it and failed.
    pub failed: Vec<FailedCommand>,
}

/// Everything that the secrets files of a project define.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// In the order in which the names first appear.
    order: Vec<String>,
    defined: BTreeMap<String, Defined>,
    looked_at: Vec<(PathBuf, bool)>,
    ignored: Vec<Place>,
}

impl Definitions {
    /// Notes a file and whether it exists.
    pub(crate) fn looked_at(&mut self, file: PathBuf, exists: bool) {
        self.looked_at.push((file, exists));
    }

    /// Notes a line that defines nothing.
    pub(crate) fn ignored(&mut self, place: Place) {
        self.ignored.push(place);
    }

    /// Defines a name; the last definition counts, the first decides upon its place in the order.
    pub(crate) fn define(&mut self, name: &str, defined: Defined) {
        if self.defined.insert(name.to_owned(), defined).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// Returns every name with what it stands for, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Defined)> {
        self.order.iter().filter_map(|name| Some((name.as_str(), self.defined.get(name)?)))
    }

    /// Returns what a name stands for.
    #[must_use]
    pub fn get(&self, name: &SecretName) -> Option<&Defined> {
        self.defined.get(name.as_str())
    }

    /// Returns the lines that are neither definition, comment nor blank. They are passed over.
    #[must_use]
    pub fn ignored_lines(&self) -> &[Place] {
        &self.ignored
    }

    /// Returns the values that are needed.
    ///
    /// # Errors
    /// [`SecretsError::Undefined`] with all that are missing at once.
    pub fn select(&self, needed: &[SecretName]) -> Result<SecretValues, SecretsError> {
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        for name in needed {
            match self.get(name) {
                Some(defined) => {
                    values.insert(name.clone(), defined.value.clone());
                }
                None => missing.push(name.clone()),
            }
        }
        if missing.is_empty() {
            return Ok(SecretValues::new(values));
        }
        missing.sort();
        missing.dedup();
        Err(SecretsError::Undefined { missing, looked_at: self.looked_at.clone() })
    }

    /// Returns everything that is defined.
    #[must_use]
    pub fn all(&self) -> SecretValues {
        let value = |(name, defined): (&str, &Defined)| {
            // Every key of the files' grammar is a secret's name.
            Some((SecretName::parse(name).ok()?, defined.value.clone()))
        };
        SecretValues::new(self.iter().filter_map(value).collect())
    }

    /// Returns the failed commands that names depend on, each with those names.
    #[must_use]
    pub fn failures(&self, names: &[SecretName]) -> Vec<(FailedCommand, Vec<SecretName>)> {
        let mut failures: Vec<(FailedCommand, Vec<SecretName>)> = Vec::new();
        for name in names {
            for command in self.get(name).map(|defined| defined.failed.as_slice()).unwrap_or_default() {
                match failures.iter_mut().find(|(known, _)| known == command) {
                    Some((_, names)) if !names.contains(name) => names.push(name.clone()),
                    Some(_) => {}
                    None => failures.push((command.clone(), vec![name.clone()])),
                }
            }
        }
        failures
    }
}

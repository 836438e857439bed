use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, SecretName};

/// A line of a secrets file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the project.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file.display(), self.line)
    }
}

/// A command of a secrets file that ended with another code than 0. Its output is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCommand {
    /// Where it stands.
    pub place: Place,
    /// How it ended.
    pub status: ExitStatus,
}

/// Why the secrets of a project are not known. No variant holds a value, or the text of a file.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A secrets file is there and cannot be read.
    #[error("cannot read the secrets file `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `export NAME` without a value, of a name that was not defined before.
    #[error("{place}: `export {name}` has no value")]
    UnsetExport {
        /// Where it stands.
        place: Place,
        /// The name.
        name: String,
    },
    /// A command that is Kamal's own.
    #[error("{place}: `$(kamal secrets …)` is not supported by this version of freehold")]
    KamalCommand {
        /// Where it stands.
        place: Place,
    },
    /// The shell did not start.
    #[error("{place}: cannot start `/bin/sh`")]
    Shell {
        /// Where the command stands.
        place: Place,
        /// Why.
        source: std::io::Error,
    },
    /// A command took too long and was ended.
    #[error("{place}: the command did not end within {} s", limit.as_secs())]
    TimedOut {
        /// Where the command stands.
        place: Place,
        /// The limit.
        limit: Duration,
    },
    /// A command printed something that is not UTF-8, or holds the character NUL.
    #[error("{place}: the output of the command is not text")]
    NotText {
        /// Where the command stands.
        place: Place,
    },
    /// Secrets that are needed have no value.
    #[error("{}", describe_unresolved(missing, failed, looked_at))]
    Unresolved {
        /// Those that no file defines.
        missing: Vec<SecretName>,
        /// Those whose command failed.
        failed: Vec<(SecretName, FailedCommand)>,
        /// The files, relative to the project, and whether they exist.
        looked_at: Vec<(PathBuf, bool)>,
    },
}

fn describe_unresolved(
    missing: &[SecretName],
    failed: &[(SecretName, FailedCommand)],
    looked_at: &[(PathBuf, bool)],
) -> String {
    let mut sentences = Vec::new();
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
        let (noun, verb) = if missing.len() == 1 { ("secret", "is") } else { ("secrets", "are") };
        let list = |wanted: bool| {
            let files = looked_at.iter().filter(|(_, exists)| *exists == wanted);
            files.map(|(file, _)| format!("`{}`", file.display())).collect::<Vec<_>>()
        };
        let place = match list(true).as_slice() {
            [] => format!("anywhere: there is no {}", list(false).join(" and no ")),
            files => format!("in {}", files.join(" or ")),
        };
        sentences.push(format!("the {noun} {} {verb} not defined {place}", names.join(", ")));
    }
    let mut commands: Vec<(&FailedCommand, Vec<String>)> = Vec::new();
    for (name, command) in failed {
        match commands.iter_mut().find(|(known, _)| *known == command) {
            Some((_, names)) => names.push(format!("`{name}`")),
            None => commands.push((command, vec![format!("`{name}`")])),
        }
    }
    for (FailedCommand { place, status }, names) in commands {
        sentences.push(format!("{place}: the command that gives {} failed ({status})", names.join(", ")));
    }
    sentences.join("; ")
}

impl Diagnose for SecretsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Shell { .. } | Self::TimedOut { .. } => ErrorKind::Failed,
            _ => ErrorKind::Configuration,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::KamalCommand { .. } => {
                vec![
                    "call the password manager itself, such as `$(op read op://vault/item/field)`".to_owned(),
                ]
            }
            Self::UnsetExport { name, .. } => {
                vec![format!("write `{name}=…`, or `{name}=${name}` for the variable of the environment")]
            }
            Self::NotText { .. } => {
                vec!["let the command print base64, and decode it in the application".to_owned()]
            }
            Self::Unresolved { missing, failed, looked_at } => {
                let mut help = Vec::new();
                if let (Some(name), Some((file, _))) = (missing.first(), looked_at.last()) {
                    help.push(format!("add `{name}=…` to `{}`", file.display()));
                    help.extend(unread_file(looked_at, file));
                }
                if !failed.is_empty() {
                    help.push(
                        "run the command by hand in the project's folder to see what it says".to_owned(),
                    );
                }
                help
            }
            Self::Read { .. } | Self::Shell { .. } | Self::TimedOut { .. } => Vec::new(),
        }
    }
}

/// With a destination the plain file, in which people expect their secrets, is not read.
fn unread_file(looked_at: &[(PathBuf, bool)], last: &Path) -> Option<String> {
    let plain = looked_at.first()?.0.to_str()?.strip_suffix("-common")?;
    let is_read = Path::new(plain) == last;
    (!is_read).then(|| {
        format!(
            "with a destination, `{plain}` is not read; what all destinations share goes to `{plain}-common`"
        )
    })
}

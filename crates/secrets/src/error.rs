use std::fmt;
use std::path::{Path, PathBuf};

use freehold_model::{Diagnose, ErrorKind, SecretName};

use crate::inline::InlineError;
use crate::program::ProgramError;

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
    /// A `$(kamal secrets …)` failed.
    #[error("{place}: a command of freehold's own failed")]
    Inline {
        /// Where it stands.
        place: Place,
        /// Why.
        source: InlineError,
    },
    /// A command gave no answer that could be a value.
    #[error("{place}: the command gives no value")]
    Command {
        /// Where it stands.
        place: Place,
        /// Why.
        source: ProgramError,
    },
    /// Secrets that are needed are not defined.
    #[error("{}", describe_undefined(missing, looked_at))]
    Undefined {
        /// Their names.
        missing: Vec<SecretName>,
        /// The files, relative to the project, and whether they exist.
        looked_at: Vec<(PathBuf, bool)>,
    },
}

fn describe_undefined(missing: &[SecretName], looked_at: &[(PathBuf, bool)]) -> String {
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
    format!("the {noun} {} {verb} not defined {place}", names.join(", "))
}

impl Diagnose for SecretsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Command { source: ProgramError::NotText { .. }, .. } => ErrorKind::Configuration,
            Self::Command { .. } => ErrorKind::Failed,
            Self::Inline { source: InlineError::Fetch(error), .. } if error.kind() == ErrorKind::Failed => {
                ErrorKind::Failed
            }
            _ => ErrorKind::Configuration,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::UnsetExport { name, .. } => {
                vec![format!("write `{name}=…`, or `{name}=${name}` for the variable of the environment")]
            }
            Self::Command { source: ProgramError::NotText { .. }, .. } => {
                vec!["let the command print base64, and decode it in the application".to_owned()]
            }
            Self::Inline { source: InlineError::Fetch(error), .. } => error.help(),
            Self::Inline { source: InlineError::Extract(error), .. } => error.help(),
            Self::Undefined { missing, looked_at } => {
                let mut help = Vec::new();
                if let (Some(name), Some((file, _))) = (missing.first(), looked_at.last()) {
                    help.push(format!("add `{name}=…` to `{}`", file.display()));
                    help.extend(unread_file(looked_at, file));
                }
                help
            }
            Self::Inline { .. } | Self::Read { .. } | Self::Command { .. } => Vec::new(),
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

use std::path::PathBuf;
use std::time::Duration;

/// Which images may run: those that one of these has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The files of the public keys, relative to the project. Never empty where there is no `keyless`.
    pub keys: Vec<PathBuf>,
    /// Somebody whom an authority knows.
    pub keyless: Option<Keyless>,
    /// A folder with signatures, relative to the project, beside those in the registry.
    pub signatures: Option<PathBuf>,
}

/// Who signs without a key of their own: with a certificate that was made for the occasion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// The file with the authorities and logs that are trusted, relative to the project.
    pub trusted_root: PathBuf,
    /// Who signs: an e-mail address or a URI.
    pub identity: TextPattern,
    /// Who vouches for that: the URL of an OpenID provider.
    pub issuer: TextPattern,
}

/// What a text has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPattern {
    /// This very text.
    Exactly(String),
    /// A text that a regular expression matches from beginning to end.
    Matching(String),
}

/// What looks for known flaws in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// A command line for `/bin/sh`.
    pub command: String,
    /// The least severity of a flaw in its report that stops a rollout; without one only its exit status counts.
    pub fail_on: Option<Severity>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Scan {
    /// How long it may take if nothing else is said: the first call of a scanner fetches what is known of flaws.
    pub const TIMEOUT: Duration = Duration::from_secs(15 * 60);
}

/// How bad a known flaw is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not yet rated, or without consequences.
    Negligible,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// Returns the severity for any of the names that scanners write, whatever their case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "critical" => Self::Critical,
            "high" => Self::High,
            "medium" => Self::Medium,
            "low" => Self::Low,
            "negligible" | "unknown" => Self::Negligible,
            _ => return None,
        })
    }

    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Negligible => "negligible",
        }
    }
}

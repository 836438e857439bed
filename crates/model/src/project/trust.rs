use std::path::PathBuf;

/// Which images may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The files of the public keys, relative to the project; a signature by one of them suffices. Never empty.
    pub keys: Vec<PathBuf>,
    /// A folder with signatures, relative to the project, beside those in the registry.
    pub signatures: Option<PathBuf>,
}

/// What looks for known flaws in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// A command line for `/bin/sh`.
    pub command: String,
    /// The least severity of a flaw in its report that stops a rollout; without one only its exit status counts.
    pub fail_on: Option<Severity>,
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

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use freehold_model::{Diagnose, ErrorKind, HostName};
use russh::keys::{PublicKey, PublicKeyOrCertificate};

use crate::deadline::Deadline;
use crate::environment::{FirstUse, Prompt};
use crate::route::{HostKeyPolicy, StrictHostKeys};
use known::{Verdict, fingerprint};

pub(crate) use known::Known;
pub use known::KnownKey;

mod known;
mod line;

/// A host's key that was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostKeyError {
    /// No file knows a key of this type for the host, and nobody said yes to it.
    #[error("the {algorithm} key of `{name}` is not known: {fingerprint}{}", seen.words())]
    Unknown {
        /// The host's name in known hosts files.
        name: String,
        /// The type of the key.
        algorithm: String,
        /// The SHA-256 fingerprint.
        fingerprint: String,
        /// What is known of the host instead.
        seen: Box<KnownOfHost>,
    },
    /// The host showed another key than the one that is known.
    #[error(
        "the key of `{name}` has changed: it is now {fingerprint}, but {} says {}",
        place(old),
        known_fingerprint(old)
    )]
    Changed {
        /// The host's name in known hosts files.
        name: String,
        /// The SHA-256 fingerprint of the new key.
        fingerprint: String,
        /// The known keys of the same type.
        old: Vec<KnownKey>,
    },
    /// The key, or the authority that signed it, is revoked.
    #[error("the key of `{name}`, {fingerprint}, is revoked by {}:{}", by.file.display(), by.line)]
    Revoked {
        /// The host's name in known hosts files.
        name: String,
        /// The SHA-256 fingerprint.
        fingerprint: String,
        /// Where that is said.
        by: KnownKey,
    },
    /// A known authority signed the host's certificate, but it is not valid.
    #[error("the certificate of `{name}` is not valid: {reason}")]
    Certificate {
        /// The host's name in known hosts files.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A line that may speak of the host cannot be read, so that nothing is certain.
    #[error("{}:{} may speak of `{name}` but cannot be read", at.file.display(), at.line)]
    Unreadable {
        /// The host's name in known hosts files.
        name: String,
        /// The line.
        at: KnownKey,
    },
}

/// What known hosts files say of a host whose key none of them names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOfHost {
    /// Keys of other types that are known for the host.
    pub others: Vec<KnownKey>,
    /// Authorities that may sign its certificates.
    pub authorities: Vec<KnownKey>,
    /// The fingerprint of the authority that signed the certificate which the host showed, if it showed one.
    pub signed_by: Option<String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl KnownOfHost {
    /// Says which lines were considered, or that there are none.
    fn words(&self) -> String {
        let mut words = String::new();
        if !self.others.is_empty() {
            words.push_str(&format!(" (keys of other types are: {})", place(&self.others)));
        }
        match (self.authorities.is_empty(), &self.signed_by) {
            (false, Some(signer)) => words.push_str(&format!(
                "; its certificate is signed by {signer}, which is none of the authorities known for it: {}",
                place(&self.authorities)
            )),
            (false, None) => words.push_str(&format!(
                "; it shows no certificate of the authorities known for it: {}",
                place(&self.authorities)
            )),
            (true, _) if !self.others.is_empty() => {}
            (true, _) => {
                let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
                words.push_str(&match files.as_slice() {
                    [] => "; there is no file of known hosts".to_owned(),
                    files => format!("; no line of {} is about it", files.join(", ")),
                });
            }
        }
        words
    }
}

fn place(keys: &[KnownKey]) -> String {
    keys.iter().map(|key| format!("{}:{}", key.file.display(), key.line)).collect::<Vec<_>>().join(", ")
}

fn known_fingerprint(keys: &[KnownKey]) -> String {
    keys.iter().filter_map(|key| key.fingerprint.clone()).collect::<Vec<_>>().join(", ")
}

impl Diagnose for HostKeyError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unreachable
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Unknown { .. } => vec![
                "compare the fingerprint with the host's: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there"
                    .to_owned(),
                "then connect once on a terminal and say yes, or add the key to known_hosts".to_owned(),
            ],
            Self::Changed { name, old, .. } => {
                let mut files: Vec<_> = old.iter().map(|key| &key.file).collect();
                files.dedup();
                let mut help =
                    vec!["someone may be in between; or the host was installed anew: ask who runs it".to_owned()];
                help.extend(files.iter().map(|file| {
                    let (name, file) = (crate::quote(name), crate::quote(&file.to_string_lossy()));
                    format!("if the new key is right: `ssh-keygen -R {name} -f {file}`")
                }));
                help
            }
            Self::Revoked { .. } => vec!["the host needs a new key".to_owned()],
            Self::Certificate { .. } => vec!["the host needs a new certificate of its authority".to_owned()],
            Self::Unreadable { at, .. } => {
                vec![format!("correct or remove line {} of {}", at.line, at.file.display())]
            }
        }
    }
}

/// Decides about the key of one host.
pub(crate) struct Checker {
    pub(crate) host: HostName,
    pub(crate) known: Known,
    pub(crate) policy: HostKeyPolicy,
    pub(crate) first_use: FirstUse,
    pub(crate) prompt: Arc<dyn Prompt>,
    pub(crate) deadline: Arc<Deadline>,
}

impl Checker {
    /// Returns the key if it may be used.
    pub(crate) async fn check(&self, presented: &PublicKeyOrCertificate) -> Result<PublicKey, HostKeyError> {
        let key = presented.public_key();
        let verdict = match presented {
            PublicKeyOrCertificate::PublicKey { .. } => self.known.judge(&key),
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.known.judge_certificate(certificate, SystemTime::now())
            }
        };
        let name = self.known.name().to_owned();
        let fingerprint = fingerprint(&key);
        match verdict {
            Verdict::Trusted => {
                tracing::debug!(host = %self.host, fingerprint, "host key known");
                Ok(key)
            }
            Verdict::Unknown(others) => {
                if self.accepts_unknown(&key, &others).await {
                    return Ok(key);
                }
                let algorithm = key.algorithm().to_string();
                let seen = Box::new(self.known.seen(others, presented));
                Err(HostKeyError::Unknown { name, algorithm, fingerprint, seen })
            }
            Verdict::Changed(old) => Err(HostKeyError::Changed { name, fingerprint, old }),
            Verdict::Revoked(by) => Err(HostKeyError::Revoked { name, fingerprint, by }),
            Verdict::Unreadable(at) => Err(HostKeyError::Unreadable { name, at }),
            Verdict::InvalidCertificate(reason) => Err(HostKeyError::Certificate { name, reason }),
        }
    }

    async fn accepts_unknown(&self, key: &PublicKey, others: &[KnownKey]) -> bool {
        let decision = match self.policy.strict {
            StrictHostKeys::Ask => self.first_use,
            StrictHostKeys::Refuse => FirstUse::Refuse,
            StrictHostKeys::Accept => FirstUse::Accept,
        };
        let accepted = match decision {
            FirstUse::Refuse => false,
            // A host whose other keys are known should have shown one of those; that it does not is suspicious.
            FirstUse::Accept => others.is_empty(),
            FirstUse::Ask => {
                let _pause = self.deadline.pause();
                self.prompt.confirm(&self.question(key, others)).await
            }
        };
        if accepted {
            match self.store(key) {
                Ok(()) => tracing::info!(host = %self.host, "host key stored"),
                Err(error) => tracing::warn!(host = %self.host, %error, "host key not stored"),
            }
        }
        accepted
    }

    fn question(&self, key: &PublicKey, others: &[KnownKey]) -> String {
        let mut question = format!(
            "The host `{}` is not known. Its {} key is {}.",
            self.known.name(),
            key.algorithm(),
            fingerprint(key)
        );
        if !others.is_empty() {
            question.push_str(&format!(" It is known by keys of other types ({}).", place(others)));
        }
        question.push_str(" Connect and remember the key?");
        question
    }

    fn store(&self, key: &PublicKey) -> std::io::Result<()> {
        let Some(file) = self.policy.user_files.first().filter(|file| *file != Path::new("/dev/null")) else {
            return Ok(());
        };
        let name = if self.policy.hash_names {
            let mut salt = [0; 20];
            getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
            line::hashed(&salt, self.known.name()).ok_or_else(|| std::io::Error::other("no HMAC"))?
        } else {
            self.known.name().to_owned()
        };
        let key = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(std::io::Error::other)?;
        append(file, &format!("{name} {}\n", key.trim()))
    }
}

/// Appends a line to a file of the person alone, by a single write so that lines of others stay whole.
fn append(file: &Path, line: &str) -> std::io::Result<()> {
    if let Some(directory) = file.parent().filter(|directory| !directory.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let before = fs_err::read(file).unwrap_or_default();
    let separator = if before.last().is_some_and(|byte| *byte != b'\n') { "\n" } else { "" };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(file)?;
    file.write_all(format!("{separator}{line}").as_bytes())
}

use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind};
use russh::client::{AuthResult, Handle};
use russh::keys::HashAlg;
use russh::{MethodKind, MethodSet};
use secrecy::{ExposeSecret, SecretString};

use crate::client::Client;
use crate::deadline::Deadline;
use crate::environment::Prompt;
use crate::memory::Memory;
use crate::route::Hop;
use candidate::{Candidate, Proof};

mod agent;
mod candidate;
mod interactive;
mod key;
mod signer;

/// How a connection got in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// By nothing: the host knows us by other means, as Tailscale SSH does.
    None,
    /// By a key or a certificate.
    PublicKey {
        /// Where it is from, such as `key file ~/.ssh/id_ed25519`.
        origin: String,
        /// The SHA-256 fingerprint of the key.
        fingerprint: String,
    },
    /// By a password.
    Password,
    /// By answers to the host's questions.
    KeyboardInteractive,
}

impl std::fmt::Display for Authentication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::PublicKey { origin, fingerprint } => write!(formatter, "{origin} ({fingerprint})"),
            Self::Password => formatter.write_str("password"),
            Self::KeyboardInteractive => formatter.write_str("keyboard-interactive"),
        }
    }
}

/// A host did not let us in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// Everything that we have was tried.
    #[error("user `{user}` was refused; tried {}; the host accepts {}", list(tried), list(accepts))]
    Refused {
        /// The user.
        user: String,
        /// What was tried, in order, with what became of it where that is not a plain refusal.
        tried: Vec<String>,
        /// The methods that the host accepts.
        accepts: Vec<String>,
    },
    /// The host ended the connection before everything was tried.
    #[error("the host closed the connection after {} tries as user `{user}` ({reason}); tried {}", tried.len(), list(tried))]
    TooManyTries {
        /// The user.
        user: String,
        /// What was tried, in order.
        tried: Vec<String>,
        /// What the host said.
        reason: String,
    },
}

impl AuthenticationError {
    /// Adds what the host said when it closed the connection.
    pub(crate) fn because(mut self, said: Option<String>) -> Self {
        if let (Self::TooManyTries { reason, .. }, Some(said)) = (&mut self, said) {
            *reason = said;
        }
        self
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

impl Diagnose for AuthenticationError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unreachable
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Refused { user, tried, accepts } => {
                let mut help = Vec::new();
                if tried.is_empty() && accepts.iter().any(|method| method == "publickey") {
                    help.push(
                        "there is no key to try: start an agent (`ssh-add`), or name one under `ssh: keys:`"
                            .to_owned(),
                    );
                } else {
                    help.push(format!(
                        "add one of these keys to `~/.ssh/authorized_keys` of `{user}` on the host"
                    ));
                }
                help.push("is the user right? Set `ssh: user:` in the deploy file".to_owned());
                help
            }
            Self::TooManyTries { .. } => vec![
                "name the right key under `ssh: keys:` and set `ssh: keys_only: true`".to_owned(),
                "or raise `MaxAuthTries` in the host's sshd_config".to_owned(),
            ],
        }
    }
}

/// What one try came to.
enum Outcome {
    In(Authentication),
    /// It was right, but the host wants more.
    Partial,
    Refused,
    /// Nobody answered the host's questions. It waits for that, and takes nothing else.
    Unanswered,
}

/// The methods that prove who we are, in the order in which they are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    PublicKey,
    KeyboardInteractive,
    Password,
}

impl Method {
    const ALL: [Self; 3] = [Self::PublicKey, Self::KeyboardInteractive, Self::Password];

    fn kind(self) -> MethodKind {
        match self {
            Self::PublicKey => MethodKind::PublicKey,
            Self::KeyboardInteractive => MethodKind::KeyboardInteractive,
            Self::Password => MethodKind::Password,
        }
    }
}

/// How often a person may try a password. OpenSSH's default of `NumberOfPasswordPrompts`.
const PASSWORD_TRIES: usize = 3;

/// Proves to one host who we are.
pub(crate) struct Authenticator<'a> {
    pub(crate) handle: &'a mut Handle<Client>,
    pub(crate) hop: &'a Hop,
    pub(crate) key_data: &'a [SecretString],
    pub(crate) prompt: Arc<dyn Prompt>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) deadline: Arc<Deadline>,
    tried: Vec<String>,
    accepts: Option<MethodSet>,
    rsa_hash: Option<Option<HashAlg>>,
    none_tried: bool,
}

/// What an [`Authenticator`] works with, beside the connection.
pub(crate) struct Means<'a> {
    pub(crate) hop: &'a Hop,
    pub(crate) key_data: &'a [SecretString],
    pub(crate) prompt: Arc<dyn Prompt>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) deadline: Arc<Deadline>,
}

impl<'a> Authenticator<'a> {
    pub(crate) fn new(handle: &'a mut Handle<Client>, means: Means<'a>) -> Self {
        let Means { hop, key_data, prompt, memory, deadline } = means;
        let tried = Vec::new();
        let (accepts, rsa_hash, none_tried) = (None, None, false);
        Self { handle, hop, key_data, prompt, memory, deadline, tried, accepts, rsa_hash, none_tried }
    }

    /// Tries everything that the host accepts, until it lets us in.
    pub(crate) async fn run(mut self) -> Result<Authentication, AuthenticationError> {
        if self.hop.identities.none_first
            && let Outcome::In(way) = self.none().await?
        {
            return Ok(way);
        }
        let mut candidates = self.candidates().await.into_iter();
        // Each round ends with something that the host took as a part of what it wants.
        let mut again = true;
        let mut is_asked = false;
        while std::mem::take(&mut again) {
            for method in Method::ALL {
                if !(self.is_enabled(method) && self.may_help(method)) {
                    continue;
                }
                let outcome = match method {
                    Method::PublicKey => self.public_keys(&mut candidates).await?,
                    Method::KeyboardInteractive => self.keyboard_interactive().await?,
                    Method::Password => self.password().await?,
                };
                match outcome {
                    Outcome::In(way) => return Ok(way),
                    Outcome::Partial => {
                        again = true;
                        break;
                    }
                    Outcome::Refused => {}
                    Outcome::Unanswered => {
                        is_asked = true;
                        break;
                    }
                }
            }
        }
        // Last, because some servers punish a failed `none` by a delay of seconds. One that ends the connection for it
        // has told before what it thinks of the rest.
        if !self.none_tried && !is_asked {
            match self.none().await {
                Ok(Outcome::In(way)) => return Ok(way),
                Err(error) if self.accepts.is_none() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        let methods = self.accepts.as_deref().unwrap_or_default();
        let accepts = methods.iter().map(String::from).collect();
        Err(AuthenticationError::Refused { user: self.hop.user.clone(), tried: self.tried, accepts })
    }

    fn is_enabled(&self, method: Method) -> bool {
        let identities = &self.hop.identities;
        match method {
            Method::PublicKey => identities.public_key,
            Method::KeyboardInteractive => identities.keyboard_interactive,
            Method::Password => identities.password,
        }
    }

    /// Says whether the host accepts a method, as far as it has told.
    fn may_help(&self, method: Method) -> bool {
        self.accepts.as_ref().is_none_or(|methods| methods.contains(&method.kind()))
    }

    async fn none(&mut self) -> Result<Outcome, AuthenticationError> {
        self.none_tried = true;
        let result = self.handle.authenticate_none(self.hop.user.clone()).await;
        self.judge(result, || Authentication::None)
    }

    async fn public_keys(
        &mut self,
        candidates: &mut std::vec::IntoIter<Candidate>,
    ) -> Result<Outcome, AuthenticationError> {
        for candidate in candidates.by_ref() {
            if !self.may_help(Method::PublicKey) {
                break;
            }
            match self.public_key(candidate).await? {
                Outcome::Refused => {}
                outcome => return Ok(outcome),
            }
        }
        Ok(Outcome::Refused)
    }

    async fn public_key(&mut self, candidate: Candidate) -> Result<Outcome, AuthenticationError> {
        let hash = if candidate.proof.is_rsa() {
            match self.rsa_hash().await {
                Some(hash) => Some(hash),
                None => {
                    self.tried.push(format!("{} (the host takes RSA keys by SHA-1 only)", candidate.origin));
                    return Ok(Outcome::Refused);
                }
            }
        } else {
            None
        };
        let Candidate { origin, proof, mut signer } = candidate;
        self.tried.push(origin.clone());
        tracing::debug!(host = %self.hop.name, key = origin, "offering a key");
        signer.prepare(&self.prompt, &self.memory, &self.deadline);
        let user = self.hop.user.clone();
        let fingerprint = proof.fingerprint();
        let result = match proof {
            Proof::Key(key) => self.handle.authenticate_publickey_with(user, key, hash, &mut signer).await,
            Proof::Certificate(certificate) => {
                self.handle.authenticate_certificate_with(user, *certificate, hash, &mut signer).await
            }
        };
        match result {
            Ok(result) => self.judge(Ok(result), || Authentication::PublicKey { origin, fingerprint }),
            Err(error) => {
                if let Some(last) = self.tried.last_mut() {
                    last.push_str(&format!(" ({error})"));
                }
                self.check_open()?;
                Ok(Outcome::Refused)
            }
        }
    }

    /// Returns the hash for RSA signatures, or none if the host takes only SHA-1.
    async fn rsa_hash(&mut self) -> Option<HashAlg> {
        if let Some(hash) = self.rsa_hash {
            return hash;
        }
        let hash = match self.handle.best_supported_rsa_hash().await {
            Ok(Some(hash)) => hash,
            Ok(None) | Err(_) => Some(HashAlg::Sha512),
        };
        self.rsa_hash = Some(hash);
        hash
    }

    async fn password(&mut self) -> Result<Outcome, AuthenticationError> {
        if self.accepts.is_none() {
            // Nobody should type a password for a host that does not want one.
            match self.none().await? {
                Outcome::Refused => {}
                outcome => return Ok(outcome),
            }
        }
        for attempt in 1..=PASSWORD_TRIES {
            if !self.may_help(Method::Password) {
                break;
            }
            let question =
                interactive::numbered(&format!("Password of {}@{}", self.hop.user, self.hop.name), attempt);
            let pause = self.deadline.pause();
            let answer = self.prompt.secret(&question).await;
            drop(pause);
            let Some(password) = answer else { break };
            self.tried.push("password".to_owned());
            tracing::debug!(host = %self.hop.name, attempt, "giving a password");
            let user = self.hop.user.clone();
            let result = self.handle.authenticate_password(user, password.expose_secret()).await;
            match self.judge(result, || Authentication::Password)? {
                Outcome::Refused => {}
                outcome => return Ok(outcome),
            }
        }
        Ok(Outcome::Refused)
    }

    fn judge(
        &mut self,
        result: Result<AuthResult, russh::Error>,
        way: impl FnOnce() -> Authentication,
    ) -> Result<Outcome, AuthenticationError> {
        match result {
            Ok(AuthResult::Success) => Ok(Outcome::In(way())),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                self.refused(remaining_methods, partial_success)
            }
            Err(error) => Err(self.closed(error.to_string())),
        }
    }

    fn refused(&mut self, methods: MethodSet, partial: bool) -> Result<Outcome, AuthenticationError> {
        // russh reports a connection that ended meanwhile as a failure with no methods left.
        if methods.is_empty() {
            self.check_open()?;
        }
        self.accepts = Some(methods);
        Ok(if partial { Outcome::Partial } else { Outcome::Refused })
    }

    fn check_open(&self) -> Result<(), AuthenticationError> {
        if self.handle.is_closed() { Err(self.closed("no reason given".to_owned())) } else { Ok(()) }
    }

    fn closed(&self, reason: String) -> AuthenticationError {
        AuthenticationError::TooManyTries { user: self.hop.user.clone(), tried: self.tried.clone(), reason }
    }
}

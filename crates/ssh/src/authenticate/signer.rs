use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Error, HashAlg, PrivateKey, ssh_key};

use super::agent::Agent;
use super::interactive::numbered;
use super::key::KeyText;
use crate::deadline::Deadline;
use crate::environment::Prompt;
use crate::memory::Memory;

/// Signs for one key, once the host has said that it would accept that key.
pub(super) struct Signer {
    source: Source,
    person: Option<Person>,
}

enum Source {
    /// An agent, with what it holds: that may be the plain key of a certificate that it does not know.
    Agent(Agent, Box<AgentIdentity>),
    Key(KeyText),
}

struct Person {
    prompt: Arc<dyn Prompt>,
    memory: Arc<Memory>,
    deadline: Arc<Deadline>,
}

/// Why a key that the host would accept could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("the connection ended")]
    Connection(#[from] russh::SendError),
    #[error("the agent did not sign: {0}")]
    Agent(Error),
    #[error("it is encrypted and no passphrase was given")]
    NoPassphrase,
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    #[error("it cannot sign: {0}")]
    Key(ssh_key::Error),
}

impl From<ssh_key::Error> for SignError {
    fn from(error: ssh_key::Error) -> Self {
        Self::Key(error)
    }
}

/// How often a person may try a passphrase.
const PASSPHRASE_TRIES: usize = 3;

impl Signer {
    pub(super) fn agent(agent: Agent, holds: AgentIdentity) -> Self {
        Self { source: Source::Agent(agent, Box::new(holds)), person: None }
    }

    pub(super) fn key(text: KeyText) -> Self {
        Self { source: Source::Key(text), person: None }
    }

    /// Says whom to ask for a passphrase.
    pub(super) fn prepare(
        &mut self,
        prompt: &Arc<dyn Prompt>,
        memory: &Arc<Memory>,
        deadline: &Arc<Deadline>,
    ) {
        self.person = Some(Person {
            prompt: Arc::clone(prompt),
            memory: Arc::clone(memory),
            deadline: Arc::clone(deadline),
        });
    }

    async fn unlock(&self, text: &KeyText) -> Result<Arc<PrivateKey>, SignError> {
        if let Some(key) = text.open() {
            return Ok(key);
        }
        let person = self.person.as_ref().ok_or(SignError::NoPassphrase)?;
        let origin = text.origin();
        let _pause = person.deadline.pause();
        for attempt in 1..=PASSPHRASE_TRIES {
            if let Some(key) = person.memory.key(&origin) {
                return Ok(key);
            }
            let question = numbered(&format!("Passphrase of {origin}"), attempt);
            let passphrase = person.prompt.secret(&question).await.ok_or(SignError::NoPassphrase)?;
            if let Ok(key) = text.decrypt(passphrase).await {
                let key = Arc::new(key);
                person.memory.keep_key(&origin, Arc::clone(&key));
                return Ok(key);
            }
        }
        Err(SignError::WrongPassphrase)
    }
}

impl russh::Signer for Signer {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _identity: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        match &self.source {
            Source::Agent(agent, holds) => agent.sign(holds, hash, data).await.map_err(SignError::Agent),
            Source::Key(text) => {
                let key = self.unlock(text).await?;
                let signature = sign(&key, hash, &data)?;
                signature.encode_prefixed(&mut data).map_err(ssh_key::Error::from)?;
                Ok(data)
            }
        }
    }
}

fn sign(key: &PrivateKey, hash: Option<HashAlg>, data: &[u8]) -> Result<ssh_key::Signature, ssh_key::Error> {
    let signature = match key.key_data() {
        // Without a hash this would be SHA-1, which is never wanted.
        KeypairData::Rsa(pair) => (pair, Some(hash.unwrap_or(HashAlg::Sha512))).try_sign(data),
        _ => key.try_sign(data),
    };
    signature.map_err(ssh_key::Error::from)
}

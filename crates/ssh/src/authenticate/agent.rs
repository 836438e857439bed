use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use russh::keys::{Error, HashAlg};
use tokio::net::UnixStream;

use super::candidate::Proof;

/// A connection to an SSH agent, shared by the keys that it holds.
#[derive(Clone)]
pub(super) struct Agent(Arc<tokio::sync::Mutex<AgentClient<UnixStream>>>);

/// A key that an agent holds.
pub(super) struct Held {
    pub(super) origin: String,
    pub(super) proof: Proof,
    pub(super) agent: Agent,
    pub(super) identity: AgentIdentity,
}

impl Agent {
    pub(super) async fn sign(
        &self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        self.0.lock().await.sign_request(identity, hash, data).await
    }
}

/// Returns what an agent holds.
pub(super) async fn identities(
    socket: &Path,
    binding: Option<&AgentSessionBinding>,
) -> Result<Vec<Held>, Error> {
    let mut client = AgentClient::connect_uds(PathBuf::from(socket)).await?;
    if let Some(binding) = binding
        && let Err(error) = client.bind_session(binding, false).await
    {
        // Agents other than OpenSSH's do not know the request; keys that depend on it will fail to sign.
        tracing::debug!(%error, "agent not bound to the session");
    }
    let found = client.request_identities().await?;
    let agent = Agent(Arc::new(tokio::sync::Mutex::new(client)));
    let held = found.into_iter().map(|identity| {
        let (proof, what, comment) = match &identity {
            AgentIdentity::PublicKey { key, comment } => (Proof::Key(key.clone()), "key", comment),
            AgentIdentity::Certificate { certificate, comment } => {
                (Proof::Certificate(Box::new(certificate.clone())), "certificate", comment)
            }
        };
        let origin = format!("agent {what} `{}`", crate::text::printable(comment));
        Held { origin, proof, agent: agent.clone(), identity }
    });
    Ok(held.collect())
}

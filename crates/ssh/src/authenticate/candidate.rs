use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use super::Authenticator;
use super::agent::{self, Held};
use super::key::{self, KeyText};
use super::signer::Signer;

/// Something to prove who we are by, with who can sign for it.
pub(super) struct Candidate {
    /// Where it is from, for a person.
    pub(super) origin: String,
    pub(super) proof: Proof,
    pub(super) signer: Signer,
}

pub(super) enum Proof {
    Key(PublicKey),
    Certificate(Box<Certificate>),
}

impl Proof {
    pub(super) fn is_rsa(&self) -> bool {
        match self {
            Self::Key(key) => key.algorithm().is_rsa(),
            Self::Certificate(certificate) => certificate.algorithm().is_rsa(),
        }
    }

    fn key(&self) -> PublicKey {
        match self {
            Self::Key(key) => key.clone(),
            Self::Certificate(certificate) => PublicKey::new(certificate.public_key().clone(), ""),
        }
    }

    pub(super) fn fingerprint(&self) -> String {
        self.key().fingerprint(HashAlg::Sha256).to_string()
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(one), Self::Key(other)) => one.key_data() == other.key_data(),
            (Self::Certificate(one), Self::Certificate(other)) => one == other,
            _ => false,
        }
    }
}

impl Authenticator<'_> {
    /// Returns everything to try, in OpenSSH's order: certificates, the agent's keys that are named, the agent's other
    /// keys, the key files. Keys that the deploy file names go before the agent's other keys, so that these cannot use
    /// up the tries that the host allows.
    pub(super) async fn candidates(&mut self) -> Vec<Candidate> {
        let identities = &self.hop.identities;
        if !identities.public_key {
            return Vec::new();
        }
        let named = key::load(identities, self.key_data, self.tried.as_mut()).await;
        let certificates = key::certificates(identities).await;
        let mut held = Vec::new();
        for socket in &identities.agents {
            let binding = self.handle.agent_session_binding();
            match self.deadline.within(agent::identities(socket, binding)).await {
                Some(Ok(found)) => held.extend(found),
                Some(Err(error)) => tracing::warn!(socket = %socket.display(), %error, "agent not usable"),
                None => return Vec::new(),
            }
        }
        order(named, certificates, held, identities.only, identities.files_first)
    }
}

fn order(
    named: Vec<KeyText>,
    certificates: Vec<(String, Certificate)>,
    held: Vec<Held>,
    only: bool,
    files_first: bool,
) -> Vec<Candidate> {
    let is_named = |proof: &Proof| {
        let key = proof.key();
        named.iter().any(|text| text.public().is_some_and(|public| public.key_data() == key.key_data()))
    };
    // An agent that holds a certificate holds its key too, but signs only for what it lists.
    let holder = |key: &PublicKey, certificate: Option<&Certificate>| -> Option<&Held> {
        held.iter().find(|held| match (&held.proof, certificate) {
            (Proof::Key(listed), _) => listed.key_data() == key.key_data(),
            (Proof::Certificate(listed), Some(certificate)) => **listed == *certificate,
            (Proof::Certificate(_), None) => false,
        })
    };
    let mut signed = Vec::new();
    for (origin, certificate) in certificates {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let text = named.iter().find(|text| {
            text.is_private() && text.public().is_some_and(|public| public.key_data() == key.key_data())
        });
        let signer = match (holder(&key, Some(&certificate)), text) {
            (Some(held), _) => Signer::agent(held.agent.clone(), held.identity.clone()),
            (None, Some(text)) => Signer::key(text.clone()),
            (None, None) => continue,
        };
        signed.push(Candidate { origin, proof: Proof::Certificate(Box::new(certificate)), signer });
    }
    let mut from_files = Vec::new();
    for text in &named {
        let Some(public) = text.public() else { continue };
        if holder(public, None).is_none() && text.is_private() && !needs_hardware(public) {
            let signer = Signer::key(text.clone());
            from_files.push(Candidate { origin: text.origin(), proof: Proof::Key(public.clone()), signer });
        }
    }
    let from_agent = |held: Held| Candidate {
        origin: held.origin,
        proof: held.proof,
        signer: Signer::agent(held.agent, held.identity),
    };
    let (mine, others): (Vec<Held>, Vec<Held>) = held.into_iter().partition(|held| is_named(&held.proof));
    let mut ordered = signed;
    ordered.extend(mine.into_iter().map(from_agent));
    let others = others.into_iter().filter(|_| !only).map(from_agent);
    if files_first {
        ordered.extend(from_files);
        ordered.extend(others);
    } else {
        ordered.extend(others);
        ordered.extend(from_files);
    }
    without_repetitions(ordered)
}

/// Says whether the private file is only a handle of a security key, which we reach through an agent alone.
fn needs_hardware(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

fn without_repetitions(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if !kept.iter().any(|earlier| earlier.proof.is(&candidate.proof)) {
            kept.push(candidate);
        }
    }
    kept
}

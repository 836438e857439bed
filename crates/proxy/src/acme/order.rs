//! One order, from the request for a certificate to the certificate.

use std::net::IpAddr;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};

use super::challenge::{Challenges, ProofError};
use super::dns::{DnsError, TextRecords};
use super::fleet::{Fleet, Message, Proven};
use super::store::Proof;

/// An authority looks for a proof from several places, and is asked about once a second for the result.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What is ordered.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    /// The proof to try, where the authority offers it.
    pub(super) proof: Proof,
    /// The certificate in whose place it comes.
    pub(super) replaces: Option<CertificateIdentifier<'static>>,
}

/// Where proofs are shown.
pub(super) struct Stage<'a> {
    pub(super) challenges: &'a Challenges,
    /// Those who show them, too.
    pub(super) fleet: Option<&'a Fleet>,
    /// Who puts them into the DNS.
    pub(super) dns: Option<&'a dyn TextRecords>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Issued {
    /// The private key, in PEM.
    pub(super) key: String,
    /// The certificate and its chain, in PEM.
    pub(super) chain: String,
    /// The proof that was asked for; none where an earlier one was enough.
    pub(super) proof: Option<Proof>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("the certificate authority did not take the order")]
    Authority(#[from] instant_acme::Error),
    #[error("the certificate authority could not verify by {proof} that the name leads here: {detail}", proof = proof.name())]
    Proof { proof: Proof, detail: String },
    #[error("the proof cannot be put into the DNS")]
    Dns(#[from] DnsError),
    #[error("the certificate authority offers no proof that can be given here")]
    NoProof,
    #[error("an authorization of the name is {status:?}")]
    Authorization { status: AuthorizationStatus },
    #[error("the key of the external account is not URL-safe base64")]
    ExternalAccount,
    #[error(transparent)]
    Own(#[from] ProofError),
}

impl OrderError {
    /// Says whether the authority told this problem, by its name in RFC 8555, section 6.7.
    pub(super) fn is_problem(&self, name: &str) -> bool {
        matches!(self, Self::Authority(Error::Api(problem)) if is(problem, &[name]))
    }
}

fn is(problem: &Problem, names: &[&str]) -> bool {
    let name = problem.r#type.as_deref().and_then(|text| text.strip_prefix("urn:ietf:params:acme:error:"));
    name.is_some_and(|name| names.contains(&name))
}

impl Proof {
    /// Returns its name in the standards.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP-01",
            Self::Tls => "TLS-ALPN-01",
            Self::Dns => "DNS-01",
        }
    }

    /// Returns the other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Http => Self::Tls,
            Self::Tls => Self::Http,
            Self::Dns => Self::Dns,
        }
    }

    fn kind(self) -> ChallengeType {
        match self {
            Self::Http => ChallengeType::Http01,
            Self::Tls => ChallengeType::TlsAlpn01,
            Self::Dns => ChallengeType::Dns01,
        }
    }
}

/// Orders a certificate and waits for it.
///
/// # Cancel safety
/// Dropped half-way, the order is left at the authority, which forgets it by itself.
pub(super) async fn order(
    account: &Account,
    wanted: &Wanted<'_>,
    stage: &Stage<'_>,
) -> Result<Issued, OrderError> {
    let identifier = match wanted.name.parse::<IpAddr>() {
        Ok(ip) => Identifier::Ip(ip),
        Err(_) => Identifier::Dns(wanted.name.to_owned()),
    };
    let identifiers = [identifier];
    let fresh = NewOrder::new(&identifiers);
    let mut order = match &wanted.replaces {
        None => account.new_order(&fresh).await?,
        Some(replaced) => {
            // An authority that does not know renewals this way, or the certificate, takes it as a new order.
            let renewal = NewOrder::new(&identifiers).replaces(replaced.clone());
            match account.new_order(&renewal).await {
                Ok(order) => order,
                Err(Error::Api(problem))
                    if is(&problem, &["rateLimited", "badNonce", "accountDoesNotExist"]) =>
                {
                    return Err(Error::Api(problem).into());
                }
                Err(_) => account.new_order(&fresh).await?,
            }
        }
    };
    let proof = prove(&mut order, wanted, stage).await?;
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&POLL).await?;
    Ok(Issued { key, chain, proof })
}

/// Shows the proofs that the authority asks for, until it has looked at them.
async fn prove(
    order: &mut Order,
    wanted: &Wanted<'_>,
    stage: &Stage<'_>,
) -> Result<Option<Proof>, OrderError> {
    let mut shown = Vec::new();
    let mut used = None;
    let mut in_dns = None;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status => return Err(OrderError::Authorization { status }),
        }
        let is_offered =
            |proof: &Proof| authorization.challenges.iter().any(|offered| offered.r#type == proof.kind());
        let proof = [wanted.proof, wanted.proof.other()].into_iter().find(is_offered);
        let proof = proof.ok_or(OrderError::NoProof)?;
        let mut challenge = authorization.challenge(proof.kind()).ok_or(OrderError::NoProof)?;
        let text = challenge.key_authorization();
        match proof {
            Proof::Dns => {
                let dns = stage.dns.ok_or(OrderError::NoProof)?;
                let name = format!("_acme-challenge.{}", wanted.name.trim_start_matches("*."));
                let value = text.dns_value();
                dns.put(&name, &value).await?;
                in_dns = Some((dns, name, value));
            }
            Proof::Http => shown.push(stage.challenges.show_text(&challenge.token, text.as_str())),
            Proof::Tls => {
                shown.push(stage.challenges.show_certificate(wanted.name, text.digest().as_ref())?);
            }
        }
        if let Some(fleet) = stage.fleet.filter(|_| proof != Proof::Dns) {
            // The authority may look for it at any of them.
            let proven = Proven {
                name: wanted.name.to_owned(),
                token: challenge.token.clone(),
                text: text.as_str().to_owned(),
                digest: text.digest().as_ref().to_vec(),
            };
            fleet.tell(&Message::Prove(proven)).await;
        }
        used = Some(proof);
        challenge.set_ready().await?;
    }
    let outcome = order.poll_ready(&POLL).await;
    if let Some((dns, name, value)) = in_dns {
        // What is left behind proves nothing later.
        dns.remove(&name, &value).await.ok();
    }
    match (outcome, used) {
        (Ok(OrderStatus::Ready), _) => Ok(used),
        (Err(instant_acme::Error::Api(problem)), Some(proof)) => {
            let detail = refusal(order, proof).await.unwrap_or_else(|| explain(&problem));
            Err(OrderError::Proof { proof, detail })
        }
        (Ok(_), Some(proof)) => {
            let detail = refusal(order, proof).await.unwrap_or_else(|| "it gives no reason".to_owned());
            Err(OrderError::Proof { proof, detail })
        }
        (Ok(_), None) => Err(OrderError::Authorization { status: AuthorizationStatus::Invalid }),
        (Err(error), _) => Err(error.into()),
    }
}

/// Asks the authority what was wrong with a proof.
async fn refusal(order: &mut Order, proof: Proof) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        let challenge = state.challenges.iter().find(|challenge| challenge.r#type == proof.kind());
        if let Some(problem) = challenge.and_then(|challenge| challenge.error.as_ref()) {
            return Some(explain(problem));
        }
    }
    None
}

/// Writes what an authority says is wrong.
pub(super) fn explain(problem: &Problem) -> String {
    let details =
        problem.detail.iter().chain(problem.subproblems.iter().filter_map(|sub| sub.detail.as_ref()));
    let text = details.map(String::as_str).collect::<Vec<_>>().join("; ");
    if text.is_empty() { problem.to_string() } else { text }
}

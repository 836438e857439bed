//! How long the proxy waits.

use std::time::Duration;

/// How long the proxy waits for clients and targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the next request on an open connection.
    pub idle: Duration,
    /// For a whole request head, from its first byte.
    pub head: Duration,
    /// For the next piece of a request's body.
    pub upload: Duration,
    /// The least rate at which a request's body must come once [`Limits::upload`] has been waited for in all.
    pub least_upload_bytes_per_second: u32,
    /// For a client that takes nothing of its answer.
    pub stalled_client: Duration,
    /// For a connection to a target.
    pub connect: Duration,
    /// For a client to agree on an encrypted connection.
    pub handshake: Duration,
    /// For a password to be looked at, while others are.
    pub password: Duration,
    /// Between two looks at the files of certificates.
    pub certificates: Duration,
    /// Between two looks at targets that are tried and compared.
    pub verdicts: Duration,
    /// For one answer of a certificate authority.
    pub acme_request: Duration,
    /// For an answer by which the proxy finds out that a name leads to itself.
    pub reach: Duration,
    /// For a client to wait for a certificate that is just being ordered for the first time.
    pub first_certificate: Duration,
    /// For the answer whether a certificate may be ordered on demand.
    pub question: Duration,
    /// From a denial to the next question about the same name.
    pub denial: Duration,
    /// For a whole order of a certificate.
    pub order: Duration,
    /// From the beginning of an order that failed to the next one, at first; later ones wait for longer.
    pub order_retry: Duration,
    /// From an order that succeeded to the next one for the same name, whatever dates and authority say.
    pub reorder: Duration,
    /// From one look at what the others of a fleet do to the next one.
    pub fleet_poll: Duration,
    /// From the last that was heard of a proxy that orders for its fleet until another one does.
    pub fleet_claim: Duration,
    /// For a client to take an answer that came before its upload ended.
    pub linger: Duration,
    /// For a new process to take over.
    pub hand_over: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(120),
            head: Duration::from_secs(60),
            upload: Duration::from_secs(120),
            least_upload_bytes_per_second: 500,
            stalled_client: Duration::from_secs(120),
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            password: Duration::from_secs(10),
            certificates: Duration::from_secs(10),
            verdicts: Duration::from_secs(1),
            acme_request: Duration::from_secs(30),
            reach: Duration::from_secs(5),
            first_certificate: Duration::from_secs(60),
            question: Duration::from_secs(2),
            denial: Duration::from_secs(5),
            order: Duration::from_secs(5 * 60),
            order_retry: Duration::from_secs(60),
            reorder: Duration::from_secs(12 * 60 * 60),
            fleet_poll: Duration::from_secs(2),
            fleet_claim: Duration::from_secs(15),
            linger: Duration::from_secs(2),
            hand_over: Duration::from_secs(30),
        }
    }
}

//! Proofs in the DNS (DNS-01, RFC 8555, section 8.4), the only ones for wildcards: a text under a name, put there by whoever
//! can change the zone.

mod update;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use freehold_wire::{Reason, TargetAddress};

use crate::acme::client::describe;

pub(super) use update::NameServer;

/// Whoever can put texts into the DNS.
pub(super) trait TextRecords: Send + Sync {
    /// Puts a text under a name, beside those that are there.
    fn put<'a>(&'a self, name: &'a str, text: &'a str) -> Change<'a>;

    /// Takes it away again.
    fn remove<'a>(&'a self, name: &'a str, text: &'a str) -> Change<'a>;
}

/// A change of the DNS under way.
pub(super) type Change<'a> = Pin<Box<dyn Future<Output = Result<(), DnsError>> + Send + 'a>>;

/// The name server that takes changes (RFC 2136), and the key with which they are signed (RFC 8945, HMAC-SHA256).
#[derive(Clone)]
pub struct DnsConfig {
    /// Where it is; the usual port is 53.
    pub server: TargetAddress,
    /// The name of the key.
    pub key_name: String,
    /// The key itself.
    pub key: Vec<u8>,
    /// How long other name servers take to have a change, too.
    pub pause: Duration,
}

impl fmt::Debug for DnsConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = formatter.debug_struct("DnsConfig");
        lines.field("server", &self.server).field("key_name", &self.key_name).finish_non_exhaustive()
    }
}

/// The DNS was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    #[error("cannot reach the name server `{server}`: {}", describe(*reason))]
    Connect { server: TargetAddress, reason: Reason },
    #[error("the name server at {address} did not answer as it should")]
    Exchange { address: SocketAddr, source: std::io::Error },
    #[error("the name server at {address} answers with nonsense")]
    Nonsense { address: SocketAddr },
    #[error("the name server at {address} has no zone for `{name}`")]
    NoZone { address: SocketAddr, name: String },
    #[error("the name server at {address} refuses to change `{name}`: {}", describe_code(*code))]
    Refused { address: SocketAddr, name: String, code: u8 },
    #[error("`{name}` is not a name")]
    Name { name: String },
    #[error("the name server did not answer in time")]
    Late,
}

/// What a code says, RFC 6895, section 2.3.
fn describe_code(code: u8) -> String {
    match code {
        5 => "it is not allowed (REFUSED)".to_owned(),
        9 => "the key is not known, or it is not in charge of the zone (NOTAUTH)".to_owned(),
        10 => "the name is not in the zone (NOTZONE)".to_owned(),
        other => format!("code {other}"),
    }
}

//! What the two processes of a hand-over say to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use freehold_model::ProxyServiceName;
use freehold_wire::InFlight;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::acme::LentProof;
use crate::rules::Memory;
use crate::state::State;
use crate::ticket::TicketKey;

/// The number of this way to speak. A process that knows another one refuses to take over.
pub(crate) const PROTOCOL: u32 = 1;

/// No message is longer; the state of a thousand services has about a megabyte.
const MAX_MESSAGE_BYTES: u32 = 256 * 1024 * 1024;

/// What is in flight, by the target's address.
pub(crate) type Flights = BTreeMap<String, InFlight>;

/// What the earlier process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromEarlier {
    /// The first word, behind the sockets.
    Begin(Box<Legacy>),
    /// The new process is the one that serves and writes the state from now on.
    Go,
    /// What the earlier process still does.
    InFlight(Flights),
}

/// What a new process needs to know beside the sockets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Legacy {
    pub(crate) protocol: u32,
    pub(crate) state: State,
    /// The addresses of the targets that get no requests now.
    pub(crate) unhealthy: BTreeSet<String>,
    /// With which clients agree again.
    #[serde(default)]
    pub(crate) tickets: Vec<TicketKey>,
    /// What rules have found out, by service.
    #[serde(default)]
    pub(crate) memories: BTreeMap<ProxyServiceName, Memory>,
    /// What the process is called in its fleets, by the names of their keys.
    #[serde(default)]
    pub(crate) fleets: BTreeMap<String, String>,
    /// The proofs that it shows for others of a fleet.
    #[serde(default)]
    pub(crate) lent: Vec<LentProof>,
    /// Whether it understands [`FromLater::Health`].
    #[serde(default)]
    pub(crate) hears_health: bool,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromLater {
    /// It can serve.
    Ready { version: String },
    /// It cannot, and ends.
    Failed { reason: String },
    /// The addresses of the targets that get no requests now, told before each change.
    Health(BTreeSet<String>),
    /// The state has changed. The earlier process lets what it still has follow: requests that wait, connections that stay
    /// open.
    Changed(Box<State>),
    /// It has handed over itself, or stops in good order.
    Bye,
}

fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&text);
    Ok(frame)
}

fn check(length: u32) -> io::Result<usize> {
    if length > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    usize::try_from(length).map_err(io::Error::other)
}

/// Sends a message and waits until the system has taken it.
pub(crate) fn tell<T: Serialize>(mut link: impl Write, message: &T) -> io::Result<()> {
    link.write_all(&encode(message)?)
}

/// Waits for a message.
pub(crate) fn hear<T: DeserializeOwned>(mut link: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    link.read_exact(&mut length)?;
    let mut text = vec![0; check(u32::from_le_bytes(length))?];
    link.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Sends a message.
///
/// # Cancel safety
/// Dropped half-way, the other side cannot understand what follows.
pub(crate) async fn say<T: Serialize>(link: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    link.write_all(&encode(message)?).await
}

/// Waits for a message.
///
/// # Cancel safety
/// Dropped half-way, what follows cannot be understood.
pub(crate) async fn listen<T: DeserializeOwned>(link: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    Ok(serde_json::from_slice(&listen_text(link).await?)?)
}

/// Waits for a message, and leaves it to others to understand it.
///
/// # Cancel safety
/// Dropped half-way, what follows cannot be understood.
pub(crate) async fn listen_text(link: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = link.read_u32_le().await?;
    let mut text = vec![0; check(length)?];
    link.read_exact(&mut text).await?;
    Ok(text)
}

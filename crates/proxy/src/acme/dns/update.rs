//! Changes of a zone at its own name server: RFC 2136, signed as RFC 8945 says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::ring::hmac;
use ::ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Change, DnsConfig, DnsError, TextRecords};
use crate::acme::now;
use crate::pool::connect;
use crate::resolve::Resolver;

const SOA: u16 = 6;
const TEXT: u16 = 16;
const SIGNATURE: u16 = 250;
const INTERNET: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;
const QUERY: u16 = 0x0100;
const UPDATE: u16 = 0x2800;

/// For how long a resolver may remember a proof, in seconds.
const TTL: u32 = 60;

/// By how much the clocks may differ, in seconds.
const FUDGE: u16 = 300;

/// A name server that takes changes.
pub(in crate::acme) struct NameServer {
    config: DnsConfig,
    resolver: Arc<Resolver>,
    limit: Duration,
}

/// Whether a text comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Remove,
}

impl NameServer {
    pub(in crate::acme) fn new(config: DnsConfig, resolver: &Arc<Resolver>, limit: Duration) -> Self {
        Self { config, resolver: Arc::clone(resolver), limit }
    }

    async fn change(&self, kind: Kind, name: &str, text: &str) -> Result<(), DnsError> {
        let changed = async {
            let server = &self.config.server;
            let connected = connect(&self.resolver, server, self.limit).await;
            let mut stream =
                connected.map_err(|reason| DnsError::Connect { server: server.clone(), reason })?;
            let address = stream.peer_addr();
            let address = address.unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], server.port())));
            let zone = find_zone(&mut stream, address, name).await?;
            let message = self.message(kind, &zone, (name, text))?;
            let reply = exchange(&mut stream, address, &message).await?;
            match reply.code {
                0 => Ok(()),
                code => Err(DnsError::Refused { address, name: name.to_owned(), code }),
            }
        };
        timeout(self.limit, changed).await.unwrap_or(Err(DnsError::Late))
    }

    fn message(&self, kind: Kind, zone: &str, (name, text): (&str, &str)) -> Result<Vec<u8>, DnsError> {
        let mut message = header(UPDATE, [1, 0, 1, 0]);
        write_name(zone, &mut message)?;
        write_numbers(&[SOA, INTERNET], &mut message);
        write_name(name, &mut message)?;
        let (class, ttl) = match kind {
            Kind::Put => (INTERNET, TTL),
            Kind::Remove => (NONE, 0),
        };
        write_numbers(&[TEXT, class], &mut message);
        message.extend_from_slice(&ttl.to_be_bytes());
        let length = u8::try_from(text.len()).map_err(|_| DnsError::Name { name: text.to_owned() })?;
        write_numbers(&[u16::from(length) + 1], &mut message);
        message.push(length);
        message.extend_from_slice(text.as_bytes());
        sign(message, &self.config.key_name, &self.config.key, now())
    }
}

impl TextRecords for NameServer {
    fn put<'a>(&'a self, name: &'a str, text: &'a str) -> Change<'a> {
        Box::pin(async move {
            self.change(Kind::Put, name, text).await?;
            tokio::time::sleep(self.config.pause).await;
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str, text: &'a str) -> Change<'a> {
        Box::pin(self.change(Kind::Remove, name, text))
    }
}

/// Appends the signature (RFC 8945, section 4.2): it is made over the message without it.
fn sign(mut message: Vec<u8>, key_name: &str, key: &[u8], time: i64) -> Result<Vec<u8>, DnsError> {
    let mut name = Vec::new();
    write_name(&key_name.to_ascii_lowercase(), &mut name)?;
    let mut algorithm = Vec::new();
    write_name("hmac-sha256", &mut algorithm)?;
    // The time has 48 bits.
    let [_, _, time @ ..] = time.to_be_bytes();
    let mut signed = message.clone();
    signed.extend_from_slice(&name);
    write_numbers(&[ANY, 0, 0], &mut signed);
    signed.extend_from_slice(&algorithm);
    signed.extend_from_slice(&time);
    write_numbers(&[FUDGE, 0, 0], &mut signed);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed);
    let signature = signature.as_ref();
    let id = message.get(..2).map(<[u8]>::to_vec).unwrap_or_default();
    message.extend_from_slice(&name);
    write_numbers(&[SIGNATURE, ANY, 0, 0], &mut message);
    let length = algorithm.len() + time.len() + 10 + signature.len();
    write_numbers(&[u16::try_from(length).unwrap_or(u16::MAX)], &mut message);
    message.extend_from_slice(&algorithm);
    message.extend_from_slice(&time);
    write_numbers(&[FUDGE, u16::try_from(signature.len()).unwrap_or(u16::MAX)], &mut message);
    message.extend_from_slice(signature);
    message.extend_from_slice(&id);
    write_numbers(&[0, 0], &mut message);
    // One more record at the end.
    if let Some(count) = message.get_mut(11) {
        *count = count.saturating_add(1);
    }
    Ok(message)
}

/// Finds the zone of a name: the nearest name above that has a begin of authority.
async fn find_zone(stream: &mut TcpStream, address: SocketAddr, name: &str) -> Result<String, DnsError> {
    let mut zone = name;
    loop {
        let mut question = header(QUERY, [1, 0, 0, 0]);
        write_name(zone, &mut question)?;
        write_numbers(&[SOA, INTERNET], &mut question);
        let reply = exchange(stream, address, &question).await?;
        if reply.code == 0 && reply.answers > 0 {
            return Ok(zone.to_owned());
        }
        match zone.split_once('.') {
            Some((_, above)) if !above.is_empty() => zone = above,
            _ => return Err(DnsError::NoZone { address, name: name.to_owned() }),
        }
    }
}

/// What a name server answers, as far as it matters here.
struct Reply {
    code: u8,
    answers: u16,
}

/// Sends a message and reads the answer, over TCP (RFC 7766).
async fn exchange(stream: &mut TcpStream, address: SocketAddr, message: &[u8]) -> Result<Reply, DnsError> {
    let failed = |source| DnsError::Exchange { address, source };
    let length = u16::try_from(message.len()).map_err(|_| DnsError::Nonsense { address })?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.map_err(failed)?;
    match (message.get(..2), reply.as_slice()) {
        (Some(id), [one, two, first, second, _, _, high, low, ..])
            if id == [*one, *two] && first & 0x80 != 0 =>
        {
            Ok(Reply { code: second & 0x0f, answers: u16::from_be_bytes([*high, *low]) })
        }
        _ => Err(DnsError::Nonsense { address }),
    }
}

fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut id = [0; 2];
    // Over a connection of our own, an id that can be guessed does no harm.
    SystemRandom::new().fill(&mut id).ok();
    let mut message = id.to_vec();
    write_numbers(&[flags], &mut message);
    write_numbers(&counts, &mut message);
    message
}

fn write_numbers(numbers: &[u16], out: &mut Vec<u8>) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
}

fn write_name(name: &str, out: &mut Vec<u8>) -> Result<(), DnsError> {
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        out.push(length.ok_or_else(|| DnsError::Name { name: name.to_owned() })?);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    Ok(())
}

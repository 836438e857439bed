use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::deadline::Deadline;
use crate::route::{AddressFamily, Hop};
use lookup::look_up;
use quick_ack::QuickAck;

pub(crate) use greeting::{Greeting, Heard};
pub(crate) use lookup::Lookups;
pub(crate) use proxy_command::ProxyCommand;

mod greeting;
mod lookup;
mod proxy_command;
mod quick_ack;

/// What an SSH connection runs over.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// Why no TCP connection came about.
#[derive(Debug)]
pub(crate) enum DialError {
    Lookup(io::Error),
    LookupTimedOut,
    NoAddress,
    /// Every address failed, each in its own way.
    Failed(Vec<(SocketAddr, io::Error)>),
    TimedOut(Vec<SocketAddr>),
}

/// How long one address may take before the next one is tried beside it (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What is read from the socket at once; russh itself reads a packet's length and its rest by two calls.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Connects by TCP to the first address of a host that answers.
pub(crate) async fn tcp(
    hop: &Hop,
    deadline: &Deadline,
    lookups: &Lookups<'_>,
) -> Result<impl Transport + use<>, DialError> {
    let ask = || tokio::net::lookup_host((hop.address.clone(), hop.port));
    let found = deadline.within(look_up(ask, &hop.address, lookups)).await;
    let found = found.ok_or(DialError::LookupTimedOut)?.map_err(DialError::Lookup)?;
    let addresses = in_order(found, hop.family);
    tracing::debug!(host = %hop.name, ?addresses, "dialling");
    if addresses.is_empty() {
        return Err(DialError::NoAddress);
    }
    let all = addresses.iter().copied().collect();
    let stream = deadline.within(race(addresses)).await.ok_or(DialError::TimedOut(all))?;
    let stream = stream.map_err(DialError::Failed)?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    Ok(BufReader::with_capacity(READ_BUFFER_BYTES, QuickAck::new(stream)))
}

/// Puts the addresses in the order of attempts: the families in turn, beginning with that of the first.
fn in_order(found: impl Iterator<Item = SocketAddr>, family: AddressFamily) -> VecDeque<SocketAddr> {
    let fits = |address: &SocketAddr| match family {
        AddressFamily::Any => true,
        AddressFamily::V4 => address.is_ipv4(),
        AddressFamily::V6 => address.is_ipv6(),
    };
    let found: Vec<SocketAddr> = found.filter(fits).collect();
    let first_is_v4 = found.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        found.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let mut ordered = VecDeque::new();
    while !first.is_empty() || !second.is_empty() {
        ordered.extend(first.pop_front());
        ordered.extend(second.pop_front());
    }
    ordered
}

async fn race(mut addresses: VecDeque<SocketAddr>) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut attempts = JoinSet::new();
    let mut errors = Vec::new();
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        }
        let next_is_due = async {
            if addresses.is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ATTEMPT_DELAY).await;
        };
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok((_, Ok(stream)))) => return Ok(stream),
                Some(Ok((address, Err(error)))) => errors.push((address, error)),
                Some(Err(error)) => tracing::debug!(%error, "connection attempt ended early"),
                None if addresses.is_empty() => return Err(errors),
                None => {}
            },
            () = next_is_due => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let list = ["[::1]:22", "[::2]:22", "127.0.0.1:22"].map(|text| text.parse::<SocketAddr>().unwrap());
        let ordered: Vec<String> =
            in_order(list.into_iter(), AddressFamily::Any).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:22", "127.0.0.1:22", "[::2]:22"]);
        assert_eq!(in_order(list.into_iter(), AddressFamily::V4).len(), 1);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Port 1 of loopback refuses at once.
        let bad: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let stream = race(VecDeque::from([bad, good])).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert_eq!(race(VecDeque::from([bad])).await.unwrap_err().len(), 1);
    }
}

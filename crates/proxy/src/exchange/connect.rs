//! The connection that an exchange goes over.

use freehold_wire::{Reason, TargetProtocol};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Run;
use crate::control::chain;
use crate::link::{TargetSocket, TargetStream};
use crate::pool::{Link, connect};
use crate::worker::Worker;

impl Run<'_> {
    /// Connects to the target, or takes a connection that is there.
    pub(super) async fn connect(&self, fresh: bool) -> Result<Link, Reason> {
        let Worker { targets, limits, resolver, .. } = &*self.connection.worker;
        let protocol = self.admitted.target_protocol();
        if protocol != TargetProtocol::Http1 {
            return Box::pin(self.connect_otherwise(protocol, fresh)).await;
        }
        if !fresh && let Some(link) = targets.take(self.passage.target.id, self.passage.repeatable).await {
            return Ok(link);
        }
        let stream = Box::pin(connect(resolver, &self.passage.target.address, limits.connect)).await?;
        Ok(Link { stream: TargetStream::Http1(TargetSocket::Plain(stream)), reused: false })
    }

    /// Does so where it is not HTTP/1.1 without TLS.
    async fn connect_otherwise(&self, protocol: TargetProtocol, fresh: bool) -> Result<Link, Reason> {
        let Worker { targets, limits, resolver, .. } = &*self.connection.worker;
        let target = &self.passage.target;
        if !fresh {
            if let Some(stream) = targets.links.take(target.id) {
                return Ok(Link { stream: TargetStream::Http2(Box::new(stream)), reused: true });
            }
            // A target that has not agreed on HTTP/2 has connections of the other kind.
            if let Some(link) = targets.take(target.id, self.passage.repeatable).await {
                return Ok(link);
            }
        }
        let stream = connect(resolver, &target.address, limits.connect).await?;
        let socket = match protocol.is_encrypted() {
            true => self.encrypt(protocol, stream).await?,
            false => TargetSocket::Plain(stream),
        };
        if protocol != TargetProtocol::H2c && !socket.is_agreed_on_http2() {
            return Ok(Link { stream: TargetStream::Http1(socket), reused: false });
        }
        let begun = targets.links.begin(target.id, socket).await;
        let stream = begun.map_err(|_| Reason::TargetUnreachable)?;
        Ok(Link { stream: TargetStream::Http2(Box::new(stream)), reused: false })
    }

    /// Agrees on an encrypted connection with a target that can be trusted.
    async fn encrypt(&self, protocol: TargetProtocol, stream: TcpStream) -> Result<TargetSocket, Reason> {
        let worker = &*self.connection.worker;
        let address = &self.passage.target.address;
        let service = self.admitted.record.service.as_ref();
        let trust = service.and_then(|service| service.target_authorities.as_ref()?.trust());
        let Some(trust) = trust else {
            worker.log_not_trusted(address, &"the authorities of targets could not be read");
            return Err(Reason::TargetNotTrusted);
        };
        match timeout(worker.limits.connect, trust.agree(protocol, address, stream)).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => {
                worker.log_not_trusted(address, &chain(&error));
                Err(Reason::TargetNotTrusted)
            }
            Err(_) => Err(Reason::TargetConnectTimeout),
        }
    }
}

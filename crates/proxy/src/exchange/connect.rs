//! The connection that an exchange goes over.

use freehold_wire::{Reason, TargetProtocol};

use super::Run;
use crate::link::TargetStream;
use crate::pool::{Link, connect};
use crate::worker::Worker;

impl Run<'_> {
    /// Connects to the target, or takes a connection that is there.
    pub(super) async fn connect(&self, fresh: bool) -> Result<Link, Reason> {
        let Worker { targets, limits, resolver, .. } = &*self.connection.worker;
        if self.admitted.target_protocol() == TargetProtocol::H2c {
            return Box::pin(self.connect_http2(fresh)).await;
        }
        if !fresh && let Some(link) = targets.take(self.passage.target.id, self.passage.repeatable).await {
            return Ok(link);
        }
        let stream = Box::pin(connect(resolver, &self.passage.target.address, limits.connect)).await?;
        Ok(Link { stream: TargetStream::Http1(stream), reused: false })
    }

    async fn connect_http2(&self, fresh: bool) -> Result<Link, Reason> {
        let Worker { targets, limits, resolver, .. } = &*self.connection.worker;
        let target = &self.passage.target;
        if !fresh && let Some(stream) = targets.links.take(target.id) {
            return Ok(Link { stream: TargetStream::Http2(Box::new(stream)), reused: true });
        }
        let stream = connect(resolver, &target.address, limits.connect).await?;
        let begun = targets.links.begin(target.id, stream).await;
        let stream = begun.map_err(|_| Reason::TargetUnreachable)?;
        Ok(Link { stream: TargetStream::Http2(Box::new(stream)), reused: false })
    }
}

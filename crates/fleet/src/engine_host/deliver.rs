use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_docker::{
    ByteStream, EngineError, ExposedRegistry, LocalRegistry, RegistryExposure, Reopen, TransferProgress,
    TransferTarget, TransferWay, Transferred,
};
use freehold_model::{HostName, ImageReference};
use freehold_plan::BuildPlaceName;
use freehold_ssh::Session;
use tokio::sync::Notify;

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::engine_host::courier::{Courier, Load, Ride, carry, refuse};
use crate::engine_host::neighbours::HostNeighbours;
use crate::engine_host::staging::HostStaging;
use crate::event::Progress;
use crate::host::{HostError, Outcome, StepError, Work};

impl EngineHost {
    /// Brings the image from the engine that built it, only the layers that this one lacks, together with other hosts
    /// that get it at the same time.
    ///
    /// # Errors
    /// [`StepError`] when either engine does not answer, or the builder does not have it.
    ///
    /// # Cancel safety
    /// What was sent stays.
    pub async fn deliver(
        &self,
        image: &ImageReference,
        from: &BuildPlaceName,
        together: &BTreeSet<HostName>,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        if let Some(outcome) = self.take_known(image, &link.engine).await? {
            return Ok(outcome);
        }
        if link.has_left_key {
            self.forget_neighbours(work.stem, image).await;
        }
        let operation = format!("send image `{image}` to `{}`", self.name);
        let target = self.transfer_target(image, work.stem).await?;
        let load = (image.clone(), from.clone());
        let courier = &self.workshop.courier;
        let Ride { mut progress, outcome, drives } = courier.join(&load, &self.name, together, target);
        let drive = async {
            if let Some(is_full) = drives {
                self.drive(&load, &is_full, work.stem).await;
            }
        };
        let ride = async {
            let mut outcome = outcome;
            loop {
                tokio::select! {
                    delivered = &mut outcome => return delivered,
                    Ok(()) = progress.changed() => {
                        let step = *progress.borrow_and_update();
                        (work.progress)(shown(step));
                    }
                }
            }
        };
        let delivered = tokio::select! {
            ((), delivered) = async { tokio::join!(drive, ride) } => delivered,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        // Where nobody drives any more, the one who did was stopped.
        let Ok(delivered) = delivered else { return Err(StepError::Stopped) };
        let sent = delivered.map_err(|source| StepError::Image { operation, source })?;
        Ok(match sent.way {
            TransferWay::AlreadyThere if sent.bytes_sent == 0 => Outcome::AlreadyDone,
            TransferWay::Tagged => Outcome::Done(Some("was there under another name".to_owned())),
            TransferWay::AlreadyThere
            | TransferWay::MissingLayers
            | TransferWay::Everything
            | TransferWay::Registry => Outcome::Done(Some(summary(&sent))),
        })
    }

    /// Brings the image to all hosts that have come for it.
    async fn drive(&self, load: &Load, is_full: &Arc<Notify>, stem: &str) {
        let courier = &self.workshop.courier;
        let _given_up = GivenUp { courier, load, is_full };
        let riders = courier.gather(load, is_full).await;
        let (image, from) = load;
        let source = async {
            let source = self.builder(from).await?;
            self.hold_tag(image, &source).await?;
            Ok::<_, StepError>(source)
        };
        match source.await {
            Ok(source) => {
                let hosts = riders.iter().map(|rider| self.workshop.host(&rider.host)).collect();
                let neighbours = HostNeighbours::among(hosts, stem, image).await;
                carry(riders, &source, &neighbours, image).await;
            }
            Err(error) => refuse(riders, &(Arc::new(error) as _)),
        }
    }

    /// Describes this host for a transfer.
    pub(super) async fn transfer_target(
        &self,
        image: &ImageReference,
        stem: &str,
    ) -> Result<TransferTarget, HostError> {
        let link = self.link().await?;
        let exposure: Arc<dyn RegistryExposure> = match &link.connection {
            Connection::Local { .. } => Arc::new(LocalRegistry),
            Connection::Ssh(session) => Arc::new(ForwardedRegistry(session.clone())),
        };
        let host = self.workshop.host(&self.name);
        let mut target = TransferTarget::new(link.engine.clone());
        target.exposure = Some(exposure);
        target.staging = Some(Arc::new(HostStaging::new(link, stem, image)));
        target.reopen = host.map(|host| {
            Arc::new(Again { host, stem: stem.to_owned(), image: image.clone() }) as Arc<dyn Reopen>
        });
        Ok(target)
    }
}

/// Connects to a host again for what is left of a transfer.
struct Again {
    host: Arc<EngineHost>,
    stem: String,
    image: ImageReference,
}

#[async_trait]
impl Reopen for Again {
    async fn reopen(&self) -> Result<TransferTarget, EngineError> {
        let target = self.host.transfer_target(&self.image, &self.stem).await;
        target.map_err(|source| EngineError::Connection {
            action: format!("reach `{}` again", self.host.name),
            source: Box::new(source),
        })
    }
}

/// Lets the others go when the one who drives is stopped.
struct GivenUp<'a> {
    courier: &'a Courier,
    load: &'a Load,
    is_full: &'a Arc<Notify>,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.courier.give_up(self.load, self.is_full);
    }
}

fn shown(step: TransferProgress) -> Progress {
    let count = |layers: usize| u32::try_from(layers).unwrap_or(u32::MAX);
    Progress::Transfer {
        bytes_sent: step.bytes_sent,
        bytes_total: step.bytes_total,
        layers_sent: count(step.layers_sent),
        layers_total: count(step.layers_total),
    }
}

/// Says what was sent, and what did not have to be.
fn summary(sent: &Transferred) -> String {
    let mut text =
        format!("{} of {} layers, {}", sent.layers_sent, sent.layers_total, amount(sent.bytes_sent));
    if sent.bytes_from_neighbour > 0 {
        text.push_str(&format!(", {} from a neighbour", amount(sent.bytes_from_neighbour)));
    }
    let saved = sent.bytes_saved.saturating_sub(sent.bytes_from_neighbour);
    // What is less is noise of the archive's own heads.
    if saved > 1_000_000 {
        text.push_str(&format!(", {} saved", amount(saved)));
    }
    match sent.reconnects {
        0 => {}
        1 => text.push_str(", connected again once"),
        more => text.push_str(&format!(", connected again {more} times")),
    }
    if let Some(why) = &sent.neighbour_failed {
        text.push_str(&format!("; not all from a neighbour: {why}"));
    }
    text
}

fn amount(bytes: u64) -> String {
    match bytes {
        bytes @ 0..1_000 => format!("{bytes} B"),
        bytes @ 1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        bytes => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// Makes a registry of ours reachable for the host's engine through a forwarded port.
struct ForwardedRegistry(Session);

#[async_trait]
impl RegistryExposure for ForwardedRegistry {
    async fn expose(&self) -> io::Result<ExposedRegistry> {
        // A connection of its own: image layers are read at the pace of the host's disk.
        let session = self.0.reconnect().await.map_err(io::Error::other)?;
        let forward = session.forward_remote_port().await.map_err(io::Error::other)?;
        let port = forward.port();
        let connections =
            futures_util::stream::unfold((forward, session), |(mut forward, session)| async move {
                let stream = forward.accept().await?;
                Some((Ok(Box::new(stream) as Box<dyn ByteStream>), (forward, session)))
            });
        Ok(ExposedRegistry { port, connections: Box::pin(connections) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_went_over_the_wire_and_what_did_not() {
        let sent = Transferred {
            way: TransferWay::MissingLayers,
            layers_total: 8,
            layers_sent: 3,
            bytes_sent: 41_200_000,
            bytes_saved: 79_100_000,
            bytes_from_neighbour: 0,
            neighbour_failed: None,
            reconnects: 2,
        };
        assert_eq!(summary(&sent), "3 of 8 layers, 41.2 MB, 79.1 MB saved, connected again 2 times");
        let sent = Transferred { bytes_sent: 20_900, bytes_saved: 400, reconnects: 0, ..sent };
        assert_eq!(summary(&sent), "3 of 8 layers, 20.9 kB");
        let sent = Transferred { bytes_saved: 5_000_000, reconnects: 1, ..sent };
        assert_eq!(summary(&sent), "3 of 8 layers, 20.9 kB, 5.0 MB saved, connected again once");
        let sent =
            Transferred { bytes_saved: 79_000_000, bytes_from_neighbour: 79_000_000, reconnects: 0, ..sent };
        assert_eq!(summary(&sent), "3 of 8 layers, 20.9 kB, 79.0 MB from a neighbour");
        let sent =
            Transferred { bytes_from_neighbour: 0, neighbour_failed: Some("no `ssh`".to_owned()), ..sent };
        let said = "3 of 8 layers, 20.9 kB, 79.0 MB saved; not all from a neighbour: no `ssh`";
        assert_eq!(summary(&sent), said);
    }
}

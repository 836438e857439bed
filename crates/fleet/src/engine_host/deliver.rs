use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_docker::{
    ByteStream, ExposedRegistry, LocalRegistry, RegistryExposure, TransferProgress, TransferStrategy,
    TransferTarget, TransferWay, Transferred, transfer,
};
use freehold_model::ImageReference;
use freehold_plan::BuildPlaceName;
use freehold_ssh::Session;

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::event::Progress;
use crate::host::{Outcome, StepError, Work};

impl EngineHost {
    /// Brings the image from the engine that built it, only the layers that this one lacks.
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
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        if let Some(outcome) = self.take_known(image, &link.engine).await? {
            return Ok(outcome);
        }
        let source = self.builder(from).await?;
        let exposure: Arc<dyn RegistryExposure> = match &link.connection {
            Connection::Local { .. } => Arc::new(LocalRegistry),
            Connection::Ssh(session) => Arc::new(ForwardedRegistry(session.clone())),
        };
        let target = TransferTarget {
            engine: link.engine.clone(),
            strategy: TransferStrategy::Best,
            exposure: Some(exposure),
        };
        let progress = |step: TransferProgress| (work.progress)(shown(step));
        let sent = tokio::select! {
            sent = transfer(&source, &target, image, &progress) => sent,
            () = work.stop.cancelled() => return Err(StepError::Stopped),
        };
        let sent = sent
            .map_err(|error| StepError::image(format!("send image `{image}` to `{}`", self.name), error))?;
        Ok(match sent.way {
            TransferWay::AlreadyThere => Outcome::AlreadyDone,
            TransferWay::Tagged => Outcome::Done(Some("was there under another name".to_owned())),
            TransferWay::MissingLayers | TransferWay::Everything | TransferWay::Registry => {
                Outcome::Done(Some(summary(sent)))
            }
        })
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

fn summary(sent: Transferred) -> String {
    let size = match sent.bytes_sent {
        bytes @ 0..1_000 => format!("{bytes} B"),
        bytes @ 1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        bytes => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    };
    format!("{} of {} layers, {size}", sent.layers_sent, sent.layers_total)
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

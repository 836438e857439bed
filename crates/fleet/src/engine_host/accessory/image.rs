use std::collections::BTreeSet;

use freehold_docker::RegistryProgress;
use freehold_model::{AccessoryName, ImageReference, RemoteImage, Tag};
use freehold_plan::{BuildPlaceName, ImageAge};

use crate::engine_host::EngineHost;
use crate::event::Progress;
use crate::failures::chain;
use crate::host::{Outcome, StepContext, StepError};

impl EngineHost {
    /// Makes sure that the host has an accessory's image.
    pub(in crate::engine_host) async fn pull_accessory_image(
        &self,
        accessory: &AccessoryName,
        image: &RemoteImage,
        age: ImageAge,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let operation = format!("pull image `{image}`");
        let there = link.engine.inspect_image(&image.to_string()).await;
        let is_there = there.map_err(|error| self.engine_error(&operation, error))?.is_some();
        if is_there && age == ImageAge::Any {
            return Ok(Outcome::AlreadyDone);
        }
        let engine = link
            .dedicated_engine()
            .await
            .map_err(|source| StepError::Image { operation: operation.clone(), source })?;
        let credentials = self.workshop.accessory_login(accessory);
        let mut progress = |now: RegistryProgress| {
            (context.progress)(Progress::Transfer {
                bytes_sent: now.bytes,
                bytes_total: Some(now.bytes_known),
                layers_sent: u32::try_from(now.layers_done).unwrap_or(u32::MAX),
                layers_total: u32::try_from(now.layers).unwrap_or(u32::MAX),
            });
        };
        // Without a tag an engine would pull every one there is.
        let name = match (&image.tag, &image.digest) {
            (None, None) => format!("{image}:latest"),
            _ => image.to_string(),
        };
        let pulled = tokio::select! {
            pulled = engine.pull_image(&name, credentials.as_ref(), &mut progress) => pulled,
            () = context.stop.cancelled() => return Err(StepError::Stopped),
        };
        match pulled {
            Ok(()) => Ok(Outcome::Done(None)),
            // A host in a private network may reach no registry: its image was brought there some other way.
            Err(error) if is_there => {
                let error = chain(&error);
                tracing::warn!(host = %self.name, %image, %error, "image not pulled");
                Ok(Outcome::Done(Some(format!(
                    "the one that is there is used, as it cannot be pulled: {error}"
                ))))
            }
            Err(error) => match self.send_accessory_image(accessory, image, context).await? {
                Some(sent) => Ok(sent),
                None => Err(self.engine_error(&operation, error).into()),
            },
        }
    }

    /// Brings an image through this computer to a host that cannot pull it, such as one in a private network. None if this
    /// computer does not have it and cannot pull it either, or is of another architecture.
    async fn send_accessory_image(
        &self,
        accessory: &AccessoryName,
        image: &RemoteImage,
        context: &StepContext<'_>,
    ) -> Result<Option<Outcome>, StepError> {
        // What is sent has a name, and a digest is none.
        if image.digest.is_some() {
            return Ok(None);
        }
        let Some(tag) = image.tag.clone().or_else(|| Tag::parse("latest").ok()) else { return Ok(None) };
        let reference = ImageReference { repository: image.repository.clone(), tag };
        let name = reference.to_string();
        let Ok(local) = self.workshop.builder(&BuildPlaceName::Local).await else { return Ok(None) };
        let (here, there) = tokio::join!(local.info(), async {
            self.link().await?.engine.info().await.map_err(|error| self.engine_error("ask the engine", error))
        });
        let Ok(here) = here else { return Ok(None) };
        if here.architecture.is_none() || here.architecture != there?.architecture {
            return Ok(None);
        }
        let credentials = self.workshop.accessory_login(accessory);
        let mut unseen = |_: RegistryProgress| ();
        let pulled = tokio::select! {
            pulled = local.pull_image(&name, credentials.as_ref(), &mut unseen) => pulled,
            () = context.stop.cancelled() => return Err(StepError::Stopped),
        };
        if let Err(error) = pulled {
            tracing::debug!(%error, %image, "nor can this computer pull it");
            if !matches!(local.inspect_image(&name).await, Ok(Some(_))) {
                return Ok(None);
            }
        }
        let alone = BTreeSet::from([self.name.clone()]);
        let sent = self.deliver(&reference, &BuildPlaceName::Local, &alone, &context.work()).await?;
        let how = "through this computer, as the host cannot pull it";
        Ok(Some(match sent {
            Outcome::Done(Some(what)) => Outcome::Done(Some(format!("{what}, {how}"))),
            _ => Outcome::Done(Some(how.to_owned())),
        }))
    }
}

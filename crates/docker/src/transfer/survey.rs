//! What one target has, and what is to be done for it.

use std::collections::BTreeMap;
use std::path::Path;

use super::fan_out::LoadError;
use super::job::Job;
use super::piece::PIECE_BYTES;
use super::staging::{Room, StagingError};
use super::{TransferStrategy, TransferTarget, TransferWay};
use crate::{Engine, EngineError, ImageStore};

/// Where an engine keeps images unless it was told otherwise.
const USUAL_DATA_ROOT: &str = "/var/lib/docker";

/// What an engine needs beside an image: containers write, logs grow.
const MARGIN_BYTES: u64 = 32_000_000;

/// What is to be done for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    Done(TransferWay),
    /// Load the layers from that one on, as one stream.
    Load {
        present: usize,
    },
    /// The same in pieces, of which some are there.
    Stage {
        present: usize,
        known: BTreeMap<String, String>,
    },
    Pull,
}

pub(super) struct Survey {
    pub(super) plan: Plan,
    pub(super) had_name: bool,
}

/// What a target has, as far as it decides how much is sent.
struct Seen {
    graph_driver: bool,
    present: usize,
    room: Room,
}

impl Job<'_> {
    /// Looks at what the target has.
    pub(super) async fn survey(&self, target: &TransferTarget) -> Result<Survey, LoadError> {
        let engine = &target.engine;
        let name = self.reference.to_string();
        // All at once: what turns out not to be needed costs less than one more round trip.
        let (info, there, same, images, usual_room) = tokio::join!(
            engine.info(),
            engine.inspect_image(&name),
            engine.inspect_image(&self.image.id),
            engine.all_images(),
            Self::room(target, Path::new(USUAL_DATA_ROOT)),
        );
        let (info, there) = (info.map_err(LoadError::Target)?, there.map_err(LoadError::Target)?);
        let had_name = there.is_some();
        let survey = |plan| Ok(Survey { plan, had_name });
        if there.is_some_and(|there| there.fingerprint == self.image.fingerprint) {
            return survey(Plan::Done(TransferWay::AlreadyThere));
        }
        let engine_error = |error| LoadError::Target(error);
        if let Some(same) = same.map_err(engine_error)?
            && same.fingerprint == self.image.fingerprint
        {
            engine.tag_image(&same.id, self.reference).await.map_err(engine_error)?;
            return survey(Plan::Done(TransferWay::Tagged));
        }
        let room = async {
            if info.data_root == Path::new(USUAL_DATA_ROOT) {
                usual_room
            } else {
                Self::room(target, &info.data_root).await
            }
        };
        let looks = tokio::join!(self.present(engine, images.map_err(engine_error)?), room);
        let (present, room) = (looks.0.map_err(engine_error)?, looks.1?);
        let graph_driver = info.image_store == ImageStore::GraphDriver;
        let seen = Seen { graph_driver, present, room };
        let plan = self.decide(target, &seen, &info.data_root)?;
        let Plan::Stage { present, .. } = plan else { return survey(plan) };
        let known = self.known(target, present, room).await?;
        // A load that an earlier connection began may have ended just now.
        if !known.is_empty()
            && let Some(there) = engine.inspect_image(&name).await.map_err(engine_error)?
            && there.fingerprint == self.image.fingerprint
        {
            clear(target).await;
            return survey(Plan::Done(TransferWay::AlreadyThere));
        }
        survey(Plan::Stage { present, known })
    }

    /// Asks what an earlier try left.
    pub(super) async fn known(
        &self,
        target: &TransferTarget,
        present: usize,
        room: Room,
    ) -> Result<BTreeMap<String, String>, LoadError> {
        match &target.staging {
            Some(staging) if room.left_bytes > 0 => {
                let missing = self.image.layers.get(present..).unwrap_or_default();
                Ok(staging.found(missing).await?)
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    async fn room(target: &TransferTarget, data_root: &Path) -> Result<Room, LoadError> {
        let Some(staging) = &target.staging else { return Ok(Room::default()) };
        match staging.room(data_root).await {
            Ok(room) => Ok(room),
            Err(error @ StagingError::Lost { .. }) => Err(error.into()),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the free space of a host is not known"
                );
                Ok(Room::default())
            }
        }
    }

    fn decide(&self, target: &TransferTarget, seen: &Seen, data_root: &Path) -> Result<Plan, LoadError> {
        let can_pull = target.exposure.is_some();
        let present = match target.strategy {
            TransferStrategy::Everything => 0,
            TransferStrategy::Registry if can_pull => {
                self.check_room(seen.present, seen.room, data_root)?;
                return Ok(Plan::Pull);
            }
            TransferStrategy::Registry => 0,
            // A partial load leaves containerd's store with an image that cannot be exported again.
            TransferStrategy::Best if seen.graph_driver || seen.present == 0 => seen.present,
            TransferStrategy::Best if can_pull => {
                self.check_room(seen.present, seen.room, data_root)?;
                return Ok(Plan::Pull);
            }
            TransferStrategy::Best => 0,
        };
        self.check_room(present, seen.room, data_root)?;
        Ok(if self.stages(present, seen.room) {
            Plan::Stage { present, known: BTreeMap::new() }
        } else {
            Plan::Load { present }
        })
    }

    /// Says whether there is enough to send that a broken connection would hurt, and room to let it wait.
    fn stages(&self, present: usize, room: Room) -> bool {
        let Some(staging_free) = room.staging_free_bytes else { return false };
        if self.sizes.at_most(present) <= PIECE_BYTES as u64 {
            return false;
        }
        let Some(bytes) = self.bytes_total(present) else { return true };
        let waiting = bytes.saturating_sub(room.left_bytes);
        let fits = if room.is_one_disk {
            room.engine_free_bytes.is_none_or(|free| free >= waiting + engine_needs(bytes))
        } else {
            staging_free >= waiting + MARGIN_BYTES
        };
        if !fits {
            tracing::debug!(bytes, staging_free, "no room for pieces to wait, so a break begins anew");
        }
        fits
    }

    /// Looks whether the engine has room before anything is sent.
    fn check_room(&self, present: usize, room: Room, data_root: &Path) -> Result<(), LoadError> {
        let (Some(free), Some(bytes)) = (room.engine_free_bytes, self.bytes_total(present)) else {
            return Ok(());
        };
        let needed = engine_needs(bytes);
        if free >= needed {
            return Ok(());
        }
        Err(LoadError::NoRoom { path: data_root.to_owned(), needed_bytes: needed, free_bytes: free })
    }

    /// Counts the layers from the bottom that some image of the engine has in the same places.
    async fn present(&self, engine: &Engine, images: Vec<String>) -> Result<usize, EngineError> {
        let images = engine.layers_of(images).await?;
        let shared =
            |layers: &Vec<_>| layers.iter().zip(&self.image.layers).take_while(|(a, b)| a == b).count();
        Ok(images.iter().map(shared).max().unwrap_or(0))
    }

    /// Returns how many bytes the layers from that one on have, if the source can tell.
    pub(super) fn bytes_total(&self, present: usize) -> Option<u64> {
        self.sizes.from(present).or_else(|| (present == 0).then_some(self.image.size_bytes))
    }
}

/// Engines keep the archive until it is unpacked: both stores need its size twice.
fn engine_needs(bytes: u64) -> u64 {
    bytes.saturating_mul(2).saturating_add(MARGIN_BYTES)
}

/// Removes the pieces of a target, if it has any.
pub(super) async fn clear(target: &TransferTarget) {
    let Some(staging) = &target.staging else { return };
    if let Err(error) = staging.clear().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "pieces of an image are left on a host");
    }
}

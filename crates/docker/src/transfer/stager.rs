//! Brings the pieces of an image to the machine of one engine and has them loaded there.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join;
use tokio::sync::mpsc;

use super::TransferProgress;
use super::fan_out::{LoadError, Share};
use super::neighbours::HandOn;
use super::piece::{Piece, Squeezing, TELLING_BYTES};
use super::staging::{PieceOnWay, PieceWriter, Staging, StagingError};

/// What a reading hands to a target that stages.
pub(super) enum Item {
    /// The next piece.
    Piece(Arc<Piece>),
    /// There are no more: the archive is whole.
    End,
}

/// The work for one target.
pub(super) struct Stager<'a> {
    pub(super) index: usize,
    pub(super) staging: Arc<dyn Staging>,
    /// The digests of pieces that are there from an earlier try, by name.
    pub(super) known: BTreeMap<String, String>,
    pub(super) layers_total: usize,
    pub(super) bytes_total: Option<u64>,
    pub(super) progress: &'a (dyn Fn(usize, TransferProgress) + Sync),
    pub(super) share: Share,
    /// Others that get their pieces from this target.
    pub(super) hand_on: Option<HandOn<'a>>,
}

/// What has become of the pieces so far.
#[derive(Default)]
struct Course {
    writer: Option<Box<dyn PieceWriter>>,
    squeezing: Squeezing,
    order: Vec<String>,
}

impl Stager<'_> {
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) -> (Share, Result<(), LoadError>) {
        let outcome = self.work(&mut items).await;
        (self.share, outcome)
    }

    async fn work(&mut self, items: &mut mpsc::Receiver<Item>) -> Result<(), LoadError> {
        let mut course = Course::default();
        loop {
            match items.recv().await {
                Some(Item::Piece(piece)) => self.take(&piece, &mut course).await?,
                Some(Item::End) => break,
                None => return Err(LoadError::Source("the archive of the engine broke off".into())),
            }
        }
        if let Some(writer) = &mut course.writer {
            let finished = writer.finish().await;
            self.share.confirmed = writer.confirmed();
            finished.map_err(|error| self.with_need(error))?;
        }
        drop(course.writer.take());
        let hand_on = async {
            if let Some(hand_on) = &self.hand_on {
                hand_on.run(&course.order).await;
            }
        };
        // The pieces stay until the others have them.
        let (loaded, ()) = join(self.staging.load(&course.order), hand_on).await;
        loaded.map_err(LoadError::NotLoaded)?;
        if let Err(error) = self.staging.clear().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "pieces of an image are left on a host");
        }
        Ok(())
    }

    async fn take(&mut self, piece: &Piece, course: &mut Course) -> Result<(), LoadError> {
        course.order.push(piece.name.clone());
        let size = piece.content.len() as u64;
        if self.known.get(&piece.name).is_some_and(|digest| digest == piece.digest()) {
            self.share.found += size;
            self.passed(piece, size);
            return Ok(());
        }
        let writer = match &mut course.writer {
            Some(writer) => writer,
            None => course.writer.insert(self.staging.open().await?),
        };
        let mut bytes = &piece.content;
        let mut gzip = false;
        if piece.content.len() >= TELLING_BYTES && course.squeezing.pays(writer.rate()) {
            let squeezed = piece.squeezed().await;
            if course.squeezing.learn(piece.content.len(), squeezed) {
                (bytes, gzip) = (&squeezed.bytes, true);
            }
        }
        let way = PieceOnWay { name: &piece.name, size: piece.content.len(), bytes, gzip };
        let sent = writer.send(way).await;
        self.share.confirmed = writer.confirmed();
        self.share.bytes += bytes.len() as u64;
        sent.map_err(|error| self.with_need(error))?;
        self.passed(piece, size);
        Ok(())
    }

    /// Says of a disk that is full how much more it has to take.
    fn with_need(&self, error: StagingError) -> StagingError {
        match error {
            StagingError::Full { folder, free_bytes, needed_bytes } => {
                let left = self.bytes_total.unwrap_or_default().saturating_sub(self.share.content);
                StagingError::Full { folder, free_bytes, needed_bytes: needed_bytes.max(left) }
            }
            error => error,
        }
    }

    fn passed(&mut self, piece: &Piece, size: u64) {
        self.share.content += size;
        self.share.layers += usize::from(piece.ends_layer);
        self.tell();
    }

    fn tell(&self) {
        let progress = TransferProgress {
            layers_total: self.layers_total,
            layers_sent: self.share.layers,
            bytes_total: self.bytes_total,
            bytes_sent: self.share.content,
        };
        (self.progress)(self.index, progress);
    }
}

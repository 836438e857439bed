//! One reading of the source, many loads, each without the layers that its engine has.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use freehold_model::ImageReference;
use futures_util::future::BoxFuture;
use futures_util::future::{join, join_all};
use tokio::sync::mpsc;

use super::archive::{ArchiveReader, END, Entry};
use super::layers::LayerNames;
use super::neighbours::HandOn;
use super::piece::{Cutter, Piece};
use super::stager::{Item, Stager};
use super::staging::{Staging, StagingError};
use super::{TransferError, TransferProgress};
use crate::{ByteFlow, Engine, EngineError};

/// How many raw pieces may wait for one target: it bounds the memory, and the slowest target holds the others back.
const WAITING: usize = 16;

/// How many cut pieces may wait for one target. They are large, and all targets share them.
const WAITING_PIECES: usize = 2;

/// Descriptions of layers are far smaller.
const LARGEST_DESCRIPTION: u64 = 4 * 1024 * 1024;

/// What stands between two layers is far smaller; where it is not, it goes in several pieces.
const LARGEST_FILLER: usize = 1024 * 1024;

/// What one target has got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) layers: usize,
    /// Bytes that were sent, as they were on the wire.
    pub(super) bytes: u64,
    /// Bytes of the archive that are there.
    pub(super) content: u64,
    /// Those of them that an earlier try had brought.
    pub(super) found: u64,
    /// Pieces that are there for good, also if the rest fails.
    pub(super) confirmed: usize,
}

/// One target of a reading.
pub(super) struct Load<'a> {
    /// Its position, for the progress.
    pub(super) index: usize,
    pub(super) way: Way,
    /// How many layers from the bottom it has.
    pub(super) present: usize,
    pub(super) bytes_total: Option<u64>,
    /// Others that get their pieces from it.
    pub(super) hand_on: Option<HandOn<'a>>,
}

/// How a target takes an archive.
pub(super) enum Way {
    /// As one stream.
    Stream(Engine),
    /// In pieces that survive a broken connection.
    Stage {
        /// Where they wait.
        staging: Arc<dyn Staging>,
        /// What is there, with its digest.
        known: BTreeMap<String, String>,
    },
}

/// Why a load did not succeed.
#[derive(Debug)]
pub(super) enum LoadError {
    Source(Box<dyn std::error::Error + Send + Sync>),
    Target(EngineError),
    Staging(StagingError),
    /// All pieces are there, but the engine did not load them.
    NotLoaded(StagingError),
    /// The registry way broke on our side.
    Offer(io::Error),
    /// There is no room.
    NoRoom {
        /// The engine's folder.
        path: PathBuf,
        needed_bytes: u64,
        free_bytes: u64,
    },
}

impl From<StagingError> for LoadError {
    fn from(error: StagingError) -> Self {
        Self::Staging(error)
    }
}

impl LoadError {
    pub(super) fn about(self, reference: &ImageReference) -> TransferError {
        let reference = reference.clone();
        match self {
            Self::Source(cause) => TransferError::Source { reference, cause },
            Self::Target(cause) => TransferError::Target { reference, cause },
            Self::Staging(cause) | Self::NotLoaded(cause) => TransferError::Staging { reference, cause },
            Self::Offer(cause) => TransferError::Offer { reference, cause },
            Self::NoRoom { path, needed_bytes, free_bytes } => {
                TransferError::NoRoom { reference, path, needed_bytes, free_bytes }
            }
        }
    }
}

/// How a target's own work ended: with its share, if it counts for itself.
type Ended = (Option<Share>, Result<(), LoadError>);

/// What a load came to.
pub(super) type Loaded = (Share, Result<(), LoadError>);

/// Loads an image into all targets. The outcomes are in their order.
pub(super) async fn load(
    source: &Engine,
    reference: &ImageReference,
    names: LayerNames,
    loads: Vec<Load<'_>>,
    progress: &(dyn Fn(usize, TransferProgress) + Sync),
) -> Vec<Loaded> {
    let (mut outlets, mut running) = (Vec::new(), Vec::new());
    for load in loads {
        let layers_total = names.count().saturating_sub(load.present);
        let (index, bytes_total) = (load.index, load.bytes_total);
        let share = Share::default();
        let (sink, run): (Sink, BoxFuture<'_, Ended>) = match load.way {
            Way::Stream(engine) => {
                let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(WAITING);
                let flow: ByteFlow =
                    Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)));
                let run = async move { (None, engine.load_archive(flow).await.map_err(LoadError::Target)) };
                (Sink::Stream(sender), Box::pin(run))
            }
            Way::Stage { staging, known } => {
                let (sender, receiver) = mpsc::channel(WAITING_PIECES);
                let hand_on = load.hand_on;
                let stager =
                    Stager { index, staging, known, layers_total, bytes_total, progress, share, hand_on };
                let run = async move {
                    let (share, outcome) = stager.run(receiver).await;
                    (Some(share), outcome)
                };
                (Sink::Stage { sender, filler: BytesMut::new() }, Box::pin(run))
            }
        };
        running.push(run);
        outlets.push(Outlet {
            index,
            present: load.present,
            sink,
            share,
            layers_total,
            bytes_total,
            progress,
        });
    }
    let pump = Pump { names, outlets };
    let ((shares, broken), loaded) = join(pump.run(source, reference), join_all(running)).await;
    let broken = broken.map(|error| error.to_string());
    shares
        .into_iter()
        .zip(loaded)
        .map(|(streamed, (staged, outcome))| {
            let outcome = match &broken {
                // A load that broke because the source did is the source's fault.
                Some(words) => Err(LoadError::Source(io::Error::other(words.clone()).into())),
                None => outcome,
            };
            (staged.unwrap_or(streamed), outcome)
        })
        .collect()
}

/// Where one target's bytes go.
enum Sink {
    /// The target does not listen any more.
    Gone,
    Stream(mpsc::Sender<io::Result<Bytes>>),
    Stage {
        sender: mpsc::Sender<Item>,
        /// What stands before the next layer.
        filler: BytesMut,
    },
}

struct Outlet<'a> {
    index: usize,
    present: usize,
    sink: Sink,
    share: Share,
    layers_total: usize,
    bytes_total: Option<u64>,
    progress: &'a (dyn Fn(usize, TransferProgress) + Sync),
}

impl Outlet<'_> {
    fn is_gone(&self) -> bool {
        matches!(self.sink, Sink::Gone)
    }

    fn stages(&self) -> bool {
        matches!(self.sink, Sink::Stage { .. })
    }

    /// Hands on bytes that are no layer's.
    async fn send(&mut self, bytes: Bytes) {
        match &mut self.sink {
            Sink::Gone => {}
            Sink::Stream(_) => self.stream(bytes).await,
            Sink::Stage { filler, .. } => {
                filler.extend_from_slice(&bytes);
                if filler.len() > LARGEST_FILLER {
                    self.flush().await;
                }
            }
        }
    }

    async fn stream(&mut self, bytes: Bytes) {
        let Sink::Stream(sender) = &self.sink else { return };
        let size = u64::try_from(bytes.len()).unwrap_or_default();
        if sender.send(Ok(bytes)).await.is_ok() {
            self.share.bytes += size;
            self.share.content += size;
            self.tell();
        } else {
            self.sink = Sink::Gone;
        }
    }

    /// Hands on what stands between layers.
    async fn flush(&mut self) {
        if let Sink::Stage { filler, .. } = &mut self.sink
            && !filler.is_empty()
        {
            let piece = Arc::new(Piece::filler(std::mem::take(filler).freeze()));
            self.item(Item::Piece(piece)).await;
        }
    }

    async fn piece(&mut self, piece: Arc<Piece>) {
        self.flush().await;
        self.item(Item::Piece(piece)).await;
    }

    async fn item(&mut self, item: Item) {
        if let Sink::Stage { sender, .. } = &self.sink
            && sender.send(item).await.is_err()
        {
            self.sink = Sink::Gone;
        }
    }

    async fn end(&mut self) {
        self.send(Bytes::from_static(END)).await;
        self.flush().await;
        self.item(Item::End).await;
        if let Sink::Stream(_) = self.sink {
            self.tell();
        }
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

struct Pump<'a> {
    names: LayerNames,
    outlets: Vec<Outlet<'a>>,
}

impl Pump<'_> {
    async fn run(mut self, source: &Engine, reference: &ImageReference) -> (Vec<Share>, Option<io::Error>) {
        let broken = self.pass_on(source, reference).await.err();
        if let Some(error) = &broken {
            // The archive must not look complete to anyone. Who gets pieces learns it from the missing end.
            for outlet in &self.outlets {
                if let Sink::Stream(sender) = &outlet.sink {
                    let broken = sender.send(Err(io::Error::new(error.kind(), error.to_string()))).await;
                    tracing::trace!(told = broken.is_ok(), "told a target that the source broke");
                }
            }
        }
        (self.outlets.iter().map(|outlet| outlet.share).collect(), broken)
    }

    async fn pass_on(&mut self, source: &Engine, reference: &ImageReference) -> io::Result<()> {
        let saved = source.save_image(&reference.to_string()).await.map_err(io::Error::other)?;
        let mut archive = ArchiveReader::new(saved);
        while let Some(entry) = archive.next_entry().await? {
            if self.outlets.iter().all(Outlet::is_gone) {
                return Ok(());
            }
            let layers = self.names.of_file(&entry.path);
            let wanted: Vec<bool> = self
                .outlets
                .iter()
                .map(|outlet| layers.is_empty() || layers.iter().any(|layer| *layer >= outlet.present))
                .collect();
            let diff_id =
                layers.first().and_then(|layer| self.names.diff_id(*layer)).map(ToString::to_string);
            self.copy(&mut archive, entry, &wanted, diff_id).await?;
        }
        join_all(self.outlets.iter_mut().map(Outlet::end)).await;
        archive.finish().await
    }

    /// Sends one entry, which may be the content of a layer, to those who want it.
    async fn copy<S>(
        &mut self,
        archive: &mut ArchiveReader<S>,
        entry: Entry,
        wanted: &[bool],
        layer: Option<String>,
    ) -> io::Result<()>
    where
        S: futures_util::Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let description = entry.is_file && LayerNames::describes_layer(&entry.path);
        if description && entry.size > LARGEST_DESCRIPTION {
            return Err(io::Error::other("the description of a layer has no end"));
        }
        let is_layer = layer.is_some() && entry.is_file;
        let cut =
            is_layer && self.outlets.iter().zip(wanted).any(|(outlet, wanted)| *wanted && outlet.stages());
        let mut cutter = layer.filter(|_| cut).map(|diff_id| Cutter::new(diff_id, entry.size));
        let mut kept = Vec::new();
        self.send(wanted, entry.head.clone()).await;
        while let Some(piece) = archive.next_piece().await? {
            if description {
                kept.extend_from_slice(&piece);
            }
            match &mut cutter {
                Some(cutter) => self.cut(cutter, wanted, piece).await,
                None => self.send(wanted, piece).await,
            }
        }
        if description {
            kept.truncate(usize::try_from(entry.size).unwrap_or_default());
            self.names.learn(&entry.path, &kept);
        }
        for (outlet, wanted) in self.outlets.iter_mut().zip(wanted) {
            // Who gets pieces counts for itself.
            if *wanted && is_layer && !outlet.stages() {
                outlet.share.layers += 1;
                outlet.tell();
            }
        }
        Ok(())
    }

    async fn send(&mut self, wanted: &[bool], bytes: Bytes) {
        let sends = self.outlets.iter_mut().zip(wanted).filter(|(_, wanted)| **wanted);
        join_all(sends.map(|(outlet, _)| outlet.send(bytes.clone()))).await;
    }

    /// Sends bytes of a layer: as they are to who streams, cut into pieces to who stages.
    async fn cut(&mut self, cutter: &mut Cutter, wanted: &[bool], raw: Bytes) {
        let (pieces, padding) = cutter.take(raw.clone());
        let pieces: Vec<Arc<Piece>> = pieces.into_iter().map(Arc::new).collect();
        let sends =
            self.outlets.iter_mut().zip(wanted).filter(|(_, wanted)| **wanted).map(|(outlet, _)| async {
                if outlet.stages() {
                    for piece in &pieces {
                        outlet.piece(Arc::clone(piece)).await;
                    }
                    if !padding.is_empty() {
                        outlet.send(padding.clone()).await;
                    }
                } else {
                    outlet.stream(raw.clone()).await;
                }
            });
        join_all(sends).await;
    }
}

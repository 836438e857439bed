//! One reading of the source, many loads, each without the layers that its engine has.

use std::io;

use bytes::Bytes;
use freehold_model::ImageReference;
use futures_util::future::{join, join_all};
use tokio::sync::mpsc;

use super::archive::{ArchiveReader, END, Entry};
use super::layers::LayerNames;
use super::{TransferError, TransferProgress};
use crate::{ByteFlow, Engine, EngineError};

/// How many pieces may wait for one target: it bounds the memory, and the slowest target holds the others back.
const WAITING: usize = 16;

/// Descriptions of layers are far smaller.
const LARGEST_DESCRIPTION: u64 = 4 * 1024 * 1024;

/// What one target has got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) layers: usize,
    pub(super) bytes: u64,
}

/// One target of a reading.
pub(super) struct Load {
    /// Its position, for the progress.
    pub(super) index: usize,
    pub(super) engine: Engine,
    /// How many layers from the bottom it has.
    pub(super) present: usize,
    pub(super) bytes_total: Option<u64>,
}

/// Why a load did not succeed.
pub(super) enum LoadError {
    Source(Box<dyn std::error::Error + Send + Sync>),
    Target(EngineError),
}

impl LoadError {
    pub(super) fn about(self, reference: &ImageReference) -> TransferError {
        let reference = reference.clone();
        match self {
            Self::Source(cause) => TransferError::Source { reference, cause },
            Self::Target(cause) => TransferError::Target { reference, cause },
        }
    }
}

/// Loads an image into all targets. The outcomes are in their order.
pub(super) async fn load(
    source: &Engine,
    reference: &ImageReference,
    names: LayerNames,
    loads: Vec<Load>,
    progress: &(dyn Fn(usize, TransferProgress) + Sync),
) -> Vec<Result<Share, LoadError>> {
    let (mut outlets, mut running) = (Vec::new(), Vec::new());
    for load in loads {
        let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(WAITING);
        let flow: ByteFlow =
            Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)));
        running.push(async move { load.engine.load_archive(flow).await });
        outlets.push(Outlet {
            index: load.index,
            present: load.present,
            sender: Some(sender),
            share: Share::default(),
            layers_total: names.count().saturating_sub(load.present),
            bytes_total: load.bytes_total,
            progress,
        });
    }
    let pump = Pump { names, outlets };
    let (pumped, loaded) = join(pump.run(source, reference), join_all(running)).await;
    let (shares, broken) = pumped;
    let mut broken = broken.map(|error| error.to_string());
    let mut outcomes = Vec::new();
    for (share, outcome) in shares.into_iter().zip(loaded) {
        outcomes.push(match (outcome, &mut broken) {
            // A load that broke because the source did is the source's fault.
            (_, Some(words)) => Err(LoadError::Source(io::Error::other(words.clone()).into())),
            (Ok(()), None) => Ok(share),
            (Err(error), None) => Err(LoadError::Target(error)),
        });
    }
    outcomes
}

struct Outlet<'a> {
    index: usize,
    present: usize,
    /// Gone once the target does not listen any more.
    sender: Option<mpsc::Sender<io::Result<Bytes>>>,
    share: Share,
    layers_total: usize,
    bytes_total: Option<u64>,
    progress: &'a (dyn Fn(usize, TransferProgress) + Sync),
}

impl Outlet<'_> {
    async fn send(&mut self, piece: Bytes) {
        let Some(sender) = &self.sender else { return };
        let size = u64::try_from(piece.len()).unwrap_or_default();
        if sender.send(Ok(piece)).await.is_ok() {
            self.share.bytes += size;
        } else {
            self.sender = None;
        }
    }

    fn tell(&self) {
        let progress = TransferProgress {
            layers_total: self.layers_total,
            layers_sent: self.share.layers,
            bytes_total: self.bytes_total,
            bytes_sent: self.share.bytes,
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
            // The archive must not look complete to anyone.
            for outlet in &self.outlets {
                if let Some(sender) = &outlet.sender {
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
            if self.outlets.iter().all(|outlet| outlet.sender.is_none()) {
                return Ok(());
            }
            let layers = self.names.of_file(&entry.path);
            let wanted: Vec<bool> = self
                .outlets
                .iter()
                .map(|outlet| layers.is_empty() || layers.iter().any(|layer| *layer >= outlet.present))
                .collect();
            self.copy(&mut archive, entry, &wanted, !layers.is_empty()).await?;
        }
        for outlet in &mut self.outlets {
            outlet.send(Bytes::from_static(END)).await;
            outlet.tell();
        }
        archive.finish().await
    }

    /// Sends one entry to those who want it.
    async fn copy<S>(
        &mut self,
        archive: &mut ArchiveReader<S>,
        entry: Entry,
        wanted: &[bool],
        is_layer: bool,
    ) -> io::Result<()>
    where
        S: futures_util::Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let description = entry.is_file && LayerNames::describes_layer(&entry.path);
        if description && entry.size > LARGEST_DESCRIPTION {
            return Err(io::Error::other("the description of a layer has no end"));
        }
        let mut kept = Vec::new();
        self.send(wanted, entry.head.clone()).await;
        while let Some(piece) = archive.next_piece().await? {
            if description {
                kept.extend_from_slice(&piece);
            }
            self.send(wanted, piece).await;
        }
        if description {
            kept.truncate(usize::try_from(entry.size).unwrap_or_default());
            self.names.learn(&entry.path, &kept);
        }
        for (outlet, wanted) in self.outlets.iter_mut().zip(wanted) {
            if *wanted && is_layer && entry.is_file {
                outlet.share.layers += 1;
                outlet.tell();
            }
        }
        Ok(())
    }

    async fn send(&mut self, wanted: &[bool], piece: Bytes) {
        let sends =
            self.outlets.iter_mut().zip(wanted).filter(|(_, wanted)| **wanted).map(|(outlet, _)| async {
                outlet.send(piece.clone()).await;
                outlet.tell();
            });
        join_all(sends).await;
    }
}

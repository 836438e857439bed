//! Pieces that go from one machine to others behind the same jump host, so that our own link carries them once.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::piece::PIECE_BYTES;
use super::{StagingError, TransferProgress};
use crate::DiffId;

/// Who lacks no more than that gets it from us: what it takes to let one machine into another is worth more than that.
pub(super) const WORTH_A_COPY: u64 = 4 * PIECE_BYTES as u64;

/// Copies pieces from the machine of one target to those of others that reach it, without us in between.
///
/// Targets go by their positions in the transfer.
#[async_trait]
pub trait Neighbours: Send + Sync {
    /// Returns the name of the network in which a target stands: those of one network reach one another.
    fn network(&self, target: usize) -> Option<String>;

    /// Copies pieces, and calls `copied` with the position of the target for each that has arrived. What does not get there
    /// is sent by us. The outcomes are in the order of the orders.
    ///
    /// # Cancel safety
    /// Pieces may go on arriving.
    async fn copy(
        &self,
        from: usize,
        orders: &[PieceOrder],
        copied: &(dyn Fn(usize) + Sync),
    ) -> Vec<Result<(), StagingError>>;
}

/// What one target needs of another's pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceOrder {
    /// Its position.
    pub target: usize,
    /// The names of the pieces.
    pub pieces: Vec<String>,
}

/// A target that waits for pieces of another.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) index: usize,
    /// The layers that it lacks.
    pub(super) missing: Vec<DiffId>,
    /// The pieces that it has.
    pub(super) known: BTreeSet<String>,
    pub(super) progress: TransferProgress,
}

/// What became of the pieces that a target waited for: how many came, and why not all.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) pieces: usize,
    pub(super) failure: Option<StagingError>,
}

/// The work of handing a target's pieces on to others.
pub(super) struct HandOn<'a> {
    pub(super) neighbours: &'a dyn Neighbours,
    pub(super) from: usize,
    pub(super) to: Vec<Waiting>,
    /// By position.
    pub(super) copied: &'a Mutex<BTreeMap<usize, Copied>>,
    pub(super) progress: &'a (dyn Fn(usize, TransferProgress) + Sync),
}

impl HandOn<'_> {
    /// Hands on the pieces of these names, as far as they are wanted.
    pub(super) async fn run(&self, names: &[String]) {
        let orders: Vec<PieceOrder> = self.to.iter().map(|waiting| waiting.order(names)).collect();
        let arrived = |target: usize| {
            let mut copied = self.copied.lock();
            let copied = copied.entry(target).or_default();
            copied.pieces += 1;
            if let Some(waiting) = self.to.iter().find(|waiting| waiting.index == target) {
                let bytes = (copied.pieces * PIECE_BYTES) as u64;
                let total = waiting.progress.bytes_total.unwrap_or(bytes);
                let step = TransferProgress { bytes_sent: bytes.min(total), ..waiting.progress };
                (self.progress)(target, step);
            }
        };
        let outcomes = self.neighbours.copy(self.from, &orders, &arrived).await;
        let mut copied = self.copied.lock();
        for (order, outcome) in orders.iter().zip(outcomes) {
            if let Err(error) = outcome {
                tracing::debug!(
                    target = order.target,
                    error = &error as &dyn std::error::Error,
                    "pieces did not come from a neighbour, so we send them"
                );
                copied.entry(order.target).or_default().failure = Some(error);
            }
        }
    }
}

impl Waiting {
    fn order(&self, names: &[String]) -> PieceOrder {
        let is_wanted = |name: &&String| {
            let layer = name.split('.').next().unwrap_or_default();
            let is_missing =
                self.missing.iter().any(|missing| missing.as_str().strip_prefix("sha256:") == Some(layer));
            (layer == "f" || is_missing) && !self.known.contains(*name)
        };
        let mut pieces: Vec<String> = names.iter().filter(is_wanted).cloned().collect();
        // Layers may repeat.
        let mut seen = BTreeSet::new();
        pieces.retain(|name| seen.insert(name.clone()));
        PieceOrder { target: self.index, pieces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_neighbour_lacks_is_handed_on() {
        let waiting = Waiting {
            index: 3,
            missing: vec![DiffId("sha256:aa".to_owned()), DiffId("sha256:bb".to_owned())],
            known: BTreeSet::from(["aa.000000".to_owned()]),
            progress: TransferProgress::default(),
        };
        let names = ["f.11", "aa.000000", "aa.000001", "bb.000000", "bb.000000", "cc.000000", "f.22"];
        let order = waiting.order(&names.map(str::to_owned));
        assert_eq!(order.target, 3);
        assert_eq!(order.pieces, ["f.11", "aa.000001", "bb.000000", "f.22"]);
    }
}

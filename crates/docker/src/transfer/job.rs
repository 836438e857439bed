//! One image on its way to several targets, round by round until each has it or has failed.

use std::collections::BTreeMap;

use freehold_model::{Diagnose, ErrorKind, ImageReference};
use futures_util::future::{join, join_all};
use parking_lot::Mutex;

use super::fan_out::{self, Load, LoadError, Loaded, Share, Way};
use super::layers::LayerNames;
use super::neighbours::{Copied, HandOn, Neighbours, WORTH_A_COPY, Waiting};
use super::patience::Patience;
use super::piece::PIECE_BYTES;
use super::registry;
use super::survey::{Plan, clear};
use super::{TransferError, TransferProgress, TransferTarget, TransferWay, Transferred};
use crate::image::{ImageDetails, LayerSizes};
use crate::{Engine, EngineError};

/// What all targets have in common.
pub(super) struct Job<'a> {
    pub(super) source: &'a Engine,
    pub(super) reference: &'a ImageReference,
    pub(super) image: &'a ImageDetails,
    pub(super) sizes: LayerSizes,
    pub(super) progress: &'a (dyn Fn(usize, TransferProgress) + Sync),
    pub(super) neighbours: Option<&'a dyn Neighbours>,
    /// What has come from neighbours, by position.
    pub(super) copied: Mutex<BTreeMap<usize, Copied>>,
}

/// One target on its way.
struct Delivery {
    index: usize,
    target: TransferTarget,
    plan: Result<Plan, LoadError>,
    /// Whether it had the image's name at first, once that is known.
    had_name: Option<bool>,
    way: TransferWay,
    /// What the last round came to.
    loaded: Option<Loaded>,
    /// Bytes on the wire of earlier rounds.
    sent_before: u64,
    reconnects: usize,
    patience: Patience,
    /// The place of the neighbour whose pieces it waits for.
    waits_for: Option<usize>,
}

impl Delivery {
    fn failure(&self) -> Option<&LoadError> {
        match (&self.plan, &self.loaded) {
            (Err(error), _) | (_, Some((_, Err(error)))) => Some(error),
            _ => None,
        }
    }

    fn is_lost(&self) -> bool {
        match self.failure() {
            Some(LoadError::Target(error)) => error.kind() == ErrorKind::Unreachable,
            Some(LoadError::Staging(error) | LoadError::NotLoaded(error)) => {
                error.kind() == ErrorKind::Unreachable
            }
            _ => false,
        }
    }

    /// Says whether the engine did not accept what was loaded into it.
    fn is_refused(&self) -> bool {
        matches!(
            &self.loaded,
            Some((
                _,
                Err(LoadError::Target(EngineError::Failed { .. } | EngineError::Refused { .. })
                    | LoadError::NotLoaded(super::StagingError::Refused { .. }))
            ))
        )
    }

    /// Keeps what the last round brought in mind and makes ready for the next.
    fn next_round(&mut self) {
        if let Some((share, _)) = self.loaded.take() {
            self.sent_before += share.bytes;
            if share.confirmed > 0 {
                self.patience.renew();
            }
        }
    }
}

impl Job<'_> {
    /// Brings the image to all targets.
    pub(super) async fn run(&self, targets: &[TransferTarget]) -> Vec<Result<Transferred, TransferError>> {
        let begun = targets.iter().enumerate().map(|(index, target)| self.begin(index, target.clone()));
        let mut deliveries = join_all(begun).await;
        self.gather(&mut deliveries);
        loop {
            self.round(&mut deliveries).await;
            let again = join_all(deliveries.iter_mut().map(|delivery| self.again(delivery))).await;
            let served = self.serve_waiting(&mut deliveries, &again).await;
            if !again.contains(&true) && !served {
                break;
            }
        }
        join_all(deliveries.into_iter().map(|delivery| self.settle(delivery))).await
    }

    async fn begin(&self, index: usize, target: TransferTarget) -> Delivery {
        let mut delivery = Delivery {
            index,
            target,
            plan: Ok(Plan::Done(TransferWay::AlreadyThere)),
            had_name: None,
            way: TransferWay::AlreadyThere,
            loaded: None,
            sent_before: 0,
            reconnects: 0,
            patience: Patience::new(),
            waits_for: None,
        };
        self.look(&mut delivery).await;
        if matches!(delivery.plan, Ok(Plan::Done(_))) {
            (self.progress)(index, TransferProgress::default());
        }
        delivery
    }

    /// Surveys a target and plans for it.
    async fn look(&self, delivery: &mut Delivery) {
        let survey = self.survey(&delivery.target).await;
        if delivery.had_name.is_none() {
            delivery.had_name = survey.as_ref().ok().map(|survey| survey.had_name);
        }
        delivery.plan = survey.map(|survey| survey.plan);
        match &delivery.plan {
            // What an earlier round sent is not undone by its being there now.
            Ok(Plan::Done(_)) if delivery.sent_before > 0 => {}
            Ok(Plan::Done(way)) => delivery.way = *way,
            Ok(Plan::Load { present: 0 } | Plan::Stage { present: 0, .. }) | Err(_) => {
                delivery.way = TransferWay::Everything;
            }
            Ok(Plan::Load { .. } | Plan::Stage { .. }) => delivery.way = TransferWay::MissingLayers,
            Ok(Plan::Pull) => delivery.way = TransferWay::Registry,
        }
    }

    /// Lets those who lack much wait for the neighbour that lacks the most: it gets the pieces first.
    fn gather(&self, deliveries: &mut [Delivery]) {
        let Some(neighbours) = self.neighbours else { return };
        let mut networks: BTreeMap<String, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, delivery) in deliveries.iter().enumerate() {
            let Ok(Plan::Stage { present, known }) = &delivery.plan else { continue };
            let there = (known.len() * PIECE_BYTES) as u64;
            let missing = self.sizes.at_most(*present).saturating_sub(there);
            if missing > WORTH_A_COPY
                && let Some(network) = neighbours.network(delivery.index)
            {
                networks.entry(network).or_default().push((missing, at));
            }
        }
        for members in networks.into_values() {
            let Some(first) = members.iter().max_by_key(|(missing, at)| (*missing, std::cmp::Reverse(*at)))
            else {
                continue;
            };
            for (_, at) in &members {
                if *at != first.1
                    && let Some(delivery) = deliveries.get_mut(*at)
                {
                    delivery.waits_for = Some(first.1);
                }
            }
        }
    }

    /// Lets those go on whose neighbour has no other round before it: with what has come from it they are looked at anew.
    async fn serve_waiting(&self, deliveries: &mut [Delivery], again: &[bool]) -> bool {
        let goes_on = |at: usize| again.get(at).copied().unwrap_or(false);
        let looks = deliveries.iter_mut().filter_map(|delivery| {
            let first = delivery.waits_for?;
            if goes_on(first) {
                return None;
            }
            Some(async {
                delivery.waits_for = None;
                self.look(delivery).await;
            })
        });
        !join_all(looks).await.is_empty()
    }

    /// Returns those who wait for a neighbour's pieces.
    fn waiting_for(&self, at: usize, deliveries: &[Delivery]) -> Vec<Waiting> {
        let waiting = deliveries.iter().filter(|delivery| delivery.waits_for == Some(at));
        waiting
            .filter_map(|delivery| {
                let Ok(Plan::Stage { present, known }) = &delivery.plan else { return None };
                Some(Waiting {
                    index: delivery.index,
                    missing: self.image.layers.get(*present..).unwrap_or_default().to_vec(),
                    known: known.keys().cloned().collect(),
                    progress: TransferProgress {
                        layers_total: self.image.layers.len().saturating_sub(*present),
                        bytes_total: self.bytes_total(*present),
                        ..TransferProgress::default()
                    },
                })
            })
            .collect()
    }

    /// Decides whether a target has another round before it.
    async fn again(&self, delivery: &mut Delivery) -> bool {
        if delivery.is_refused() {
            return self.fall_back(delivery).await;
        }
        let Some(reopen) = delivery.target.reopen.clone() else { return false };
        let mut is_again = false;
        while delivery.is_lost() {
            let last = delivery.failure().map(|error| format!("{error:?}")).unwrap_or_default();
            if let Some((share, _)) = &delivery.loaded
                && share.confirmed > 0
            {
                delivery.patience.renew();
            }
            if !delivery.patience.again().await {
                return false;
            }
            tracing::debug!(target = delivery.index, error = last, "the connection broke, connecting again");
            match reopen.reopen().await {
                Ok(target) => {
                    delivery.next_round();
                    delivery.reconnects += 1;
                    delivery.target = target;
                    self.look(delivery).await;
                    is_again = true;
                }
                Err(error) => {
                    delivery.next_round();
                    delivery.plan = Err(LoadError::Target(error));
                }
            }
        }
        is_again
    }

    /// After a load that the engine did not accept: the whole image, once.
    async fn fall_back(&self, delivery: &mut Delivery) -> bool {
        let plan = match &delivery.plan {
            Ok(Plan::Load { present: 1.. }) => Plan::Load { present: 0 },
            Ok(Plan::Stage { present: 1.., .. }) => {
                // The pieces are good, there are only too few of them.
                let room = super::Room { left_bytes: 1, ..super::Room::default() };
                match self.known(&delivery.target, 0, room).await {
                    Ok(known) => Plan::Stage { present: 0, known },
                    Err(_) => return false,
                }
            }
            Ok(Plan::Stage { .. }) => {
                clear(&delivery.target).await;
                return false;
            }
            _ => return false,
        };
        tracing::debug!(target = delivery.index, "the partial load was refused, sending everything");
        delivery.next_round();
        delivery.plan = Ok(plan);
        delivery.way = TransferWay::Everything;
        true
    }

    /// Loads into every target that has a load before it and none behind it, in one reading of the source, and lets the
    /// others pull.
    async fn round(&self, deliveries: &mut [Delivery]) {
        let mut loads = Vec::new();
        let mut pulls = Vec::new();
        let mut waiting: Vec<Vec<Waiting>> =
            (0..deliveries.len()).map(|at| self.waiting_for(at, deliveries)).collect();
        for (at, delivery) in deliveries.iter_mut().enumerate() {
            if delivery.loaded.is_some() || delivery.waits_for.is_some() {
                continue;
            }
            let engine = delivery.target.engine.clone();
            let (present, way) = match (&mut delivery.plan, &delivery.target.staging) {
                (Ok(Plan::Load { present }), _) => (*present, Way::Stream(engine)),
                (Ok(Plan::Stage { present, known }), Some(staging)) => {
                    let (staging, known) = (std::sync::Arc::clone(staging), std::mem::take(known));
                    (*present, Way::Stage { staging, known })
                }
                (Ok(Plan::Pull), _) => {
                    pulls.push((at, delivery.index, delivery.target.clone()));
                    continue;
                }
                _ => continue,
            };
            let bytes_total = self.bytes_total(present);
            let to = waiting.get_mut(at).map(std::mem::take).unwrap_or_default();
            let hand_on = self.neighbours.filter(|_| !to.is_empty()).map(|neighbours| HandOn {
                neighbours,
                from: delivery.index,
                to,
                copied: &self.copied,
                progress: self.progress,
            });
            loads.push((at, Load { index: delivery.index, way, present, bytes_total, hand_on }));
        }
        let (places, loads): (Vec<usize>, Vec<Load<'_>>) = loads.into_iter().unzip();
        let names = LayerNames::new(&self.image.layers);
        let load = async {
            if loads.is_empty() {
                return Vec::new();
            }
            fan_out::load(self.source, self.reference, names, loads, self.progress).await
        };
        let pull = join_all(pulls.iter().map(|(_, index, target)| self.pull(*index, target)));
        let (loaded, pulled) = join(load, pull).await;
        let pulled = pulls.iter().map(|(at, _, _)| *at).zip(pulled);
        for (at, outcome) in places.into_iter().zip(loaded).chain(pulled) {
            if let Some(delivery) = deliveries.get_mut(at) {
                delivery.loaded = Some(outcome);
            }
        }
    }

    async fn pull(&self, index: usize, target: &TransferTarget) -> Loaded {
        let names = LayerNames::new(&self.image.layers);
        let told = |step| (self.progress)(index, step);
        match registry::pull(self.source, self.reference, names, target, &told).await {
            Ok(share) => (share, Ok(())),
            Err(error) => (Share::default(), Err(error)),
        }
    }

    /// Checks that the image is there.
    async fn settle(&self, delivery: Delivery) -> Result<Transferred, TransferError> {
        let engine = &delivery.target.engine;
        let reference = self.reference.clone();
        let copied = self.copied.lock().remove(&delivery.index).unwrap_or_default();
        let arrived = |share: Share| Transferred {
            way: delivery.way,
            layers_total: self.image.layers.len(),
            layers_sent: share.layers,
            bytes_sent: delivery.sent_before + share.bytes,
            bytes_saved: share.content.saturating_sub(delivery.sent_before + share.bytes),
            bytes_from_neighbour: share.found.min((copied.pieces * PIECE_BYTES) as u64),
            neighbour_failed: copied.failure.as_ref().map(ToString::to_string),
            reconnects: delivery.reconnects,
        };
        let sent = match (delivery.plan, delivery.loaded) {
            (Err(error), _) => return Err(error.about(self.reference)),
            // It was looked at just now.
            (Ok(Plan::Done(_)), _) => return Ok(arrived(Share::default())),
            (Ok(_), Some((share, outcome))) => outcome.map(|()| share),
            (Ok(_), None) => Ok(Share::default()),
        };
        let there = engine.inspect_image(&reference.to_string()).await;
        let same = matches!(&there, Ok(Some(there)) if there.fingerprint == self.image.fingerprint);
        match (sent, there) {
            (Ok(share), _) if same => Ok(arrived(share)),
            (Err(error), there) => {
                // A name that was there before is still that of the old image.
                if !same && delivery.had_name == Some(false) && matches!(there, Ok(Some(_))) {
                    self.take_name_away(engine).await;
                }
                Err(error.about(self.reference))
            }
            (Ok(_), Ok(_)) => {
                self.take_name_away(engine).await;
                Err(TransferError::NotTheSame { reference })
            }
            (Ok(_), Err(cause)) => Err(TransferError::Target { reference, cause }),
        }
    }

    async fn take_name_away(&self, engine: &Engine) {
        if let Err(error) = engine.remove_image(&self.reference.to_string()).await {
            tracing::warn!(
                image = %self.reference,
                error = &error as &dyn std::error::Error,
                "the name of a half image could not be removed"
            );
        }
    }
}

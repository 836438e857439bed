use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use freehold_docker::{Engine, Neighbours, TransferProgress, TransferTarget, Transferred, transfer_to_many};
use freehold_model::{Diagnose, HostName, ImageReference};
use freehold_plan::BuildPlaceName;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

/// How long the first host waits for the others. Whoever comes later is served by itself.
const GATHER: Duration = Duration::from_secs(10);

/// What became of the delivery to one host.
pub(super) type Delivered = Result<Transferred, Arc<dyn Diagnose + Send + Sync>>;

/// Gathers the hosts that get the same image at the same time, so that the engine that built it is read once for all.
#[derive(Default)]
pub(super) struct Courier {
    gatherings: Mutex<BTreeMap<Load, Gathering>>,
}

/// What is delivered: an image, and from where.
pub(super) type Load = (ImageReference, BuildPlaceName);

struct Gathering {
    missing: BTreeSet<HostName>,
    riders: Vec<Rider>,
    is_full: Arc<Notify>,
}

/// One host that gets the image.
pub(super) struct Rider {
    pub(super) host: HostName,
    target: TransferTarget,
    progress: watch::Sender<TransferProgress>,
    outcome: oneshot::Sender<Delivered>,
}

/// What a host that has joined waits for.
pub(super) struct Ride {
    pub(super) progress: watch::Receiver<TransferProgress>,
    pub(super) outcome: oneshot::Receiver<Delivered>,
    /// Whether it is the one that drives: it was there first.
    pub(super) drives: Option<Arc<Notify>>,
}

impl Courier {
    /// Joins the hosts that get an image together.
    pub(super) fn join(
        &self,
        load: &Load,
        host: &HostName,
        together: &BTreeSet<HostName>,
        target: TransferTarget,
    ) -> Ride {
        let (progress, watched) = watch::channel(TransferProgress::default());
        let (sender, outcome) = oneshot::channel();
        let rider = Rider { host: host.clone(), target, progress, outcome: sender };
        let mut gatherings = self.gatherings.lock();
        let drives = (!gatherings.contains_key(load)).then(Arc::<Notify>::default);
        let gathering = gatherings.entry(load.clone()).or_insert_with(|| Gathering {
            missing: together.clone(),
            riders: Vec::new(),
            is_full: drives.clone().unwrap_or_default(),
        });
        gathering.missing.remove(host);
        gathering.riders.push(rider);
        if gathering.missing.is_empty() {
            gathering.is_full.notify_one();
        }
        Ride { progress: watched, outcome, drives }
    }

    /// Waits for the others, as the host that drives, and returns all.
    ///
    /// # Cancel safety
    /// Those who have joined learn that nobody drives only through [`Courier::give_up`].
    pub(super) async fn gather(&self, load: &Load, is_full: &Notify) -> Vec<Rider> {
        if tokio::time::timeout(GATHER, is_full.notified()).await.is_err() {
            tracing::debug!(image = %load.0, "not all hosts came in time to get the image together");
        }
        let gathering = self.gatherings.lock().remove(load);
        let mut riders = gathering.map(|gathering| gathering.riders).unwrap_or_default();
        // The same host leads in every delivery: what a broken one has left on it is of use to the next.
        riders.sort_by(|one, other| one.host.cmp(&other.host));
        riders
    }

    /// Lets those go who wait for a host that does not drive any more.
    pub(super) fn give_up(&self, load: &Load, is_full: &Arc<Notify>) {
        let mut gatherings = self.gatherings.lock();
        if gatherings.get(load).is_some_and(|gathering| Arc::ptr_eq(&gathering.is_full, is_full)) {
            gatherings.remove(load);
        }
    }
}

/// Brings an image to all who have gathered.
pub(super) async fn carry(
    riders: Vec<Rider>,
    source: &Engine,
    neighbours: &dyn Neighbours,
    image: &ImageReference,
) {
    let targets: Vec<TransferTarget> = riders.iter().map(|rider| rider.target.clone()).collect();
    let told = |index: usize, step: TransferProgress| {
        if let Some(rider) = riders.get(index) {
            rider.progress.send_replace(step);
        }
    };
    let outcomes = transfer_to_many(source, &targets, Some(neighbours), image, &told).await;
    match outcomes {
        Ok(outcomes) => {
            for (rider, outcome) in riders.into_iter().zip(outcomes) {
                rider.arrive(outcome.map_err(|error| Arc::new(error) as _));
            }
        }
        Err(error) => refuse(riders, &(Arc::new(error) as _)),
    }
}

/// Tells all who have gathered why nothing can be brought to them.
pub(super) fn refuse(riders: Vec<Rider>, error: &Arc<dyn Diagnose + Send + Sync>) {
    riders.into_iter().for_each(|rider| rider.arrive(Err(Arc::clone(error))));
}

impl Rider {
    fn arrive(self, delivered: Delivered) {
        if self.outcome.send(delivered).is_err() {
            tracing::trace!("a host was stopped while it waited for its image");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use freehold_docker::{Deadlines, UnixSocket};
    use freehold_model::{Repository, Tag};

    use super::*;

    fn target() -> TransferTarget {
        let dial = Arc::new(UnixSocket::new(Path::new("/nowhere")));
        TransferTarget::new(Engine::over(dial, Deadlines::default()))
    }

    fn host(name: &str) -> HostName {
        HostName::parse(name).expect("a name")
    }

    #[tokio::test(start_paused = true)]
    async fn all_go_together_and_nobody_waits_for_ever() {
        let courier = Courier::default();
        let image = ImageReference {
            repository: Repository::parse("app").expect("a name"),
            tag: Tag::parse("1").expect("a tag"),
        };
        let load = (image, BuildPlaceName::Local);
        let together = BTreeSet::from([host("a"), host("b")]);
        let first = courier.join(&load, &host("a"), &together, target());
        let second = courier.join(&load, &host("b"), &together, target());
        assert!(second.drives.is_none());
        let begun = tokio::time::Instant::now();
        let riders = courier.gather(&load, &first.drives.expect("it drives")).await;
        assert_eq!((riders.len(), begun.elapsed()), (2, Duration::ZERO));

        let late = courier.join(&load, &host("a"), &together, target());
        let riders = courier.gather(&load, &late.drives.expect("it drives")).await;
        assert_eq!((riders.len(), begun.elapsed()), (1, GATHER), "the other one did not come");

        let gone = courier.join(&load, &host("a"), &together, target());
        let mut left = courier.join(&load, &host("b"), &together, target());
        courier.give_up(&load, &gone.drives.expect("it drives"));
        assert!(left.outcome.try_recv().is_err(), "nobody drives");
        assert!(courier.join(&load, &host("b"), &together, target()).drives.is_some());
    }
}

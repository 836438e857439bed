//! Constant load of five kinds, counting every request that did not get its whole, right answer.
//!
//! The kinds are those that a deploy can hurt in different ways: requests on a kept connection, requests on new
//! connections, answers that take long, uploads, and WebSocket sessions. The requests are those that `examples/hello`
//! answers.
//!
//! ```no_run
//! # async fn example() {
//! use freehold_e2e::load::{Load, LoadOptions};
//! let load = Load::start(LoadOptions::new(["127.0.0.1:8080".parse().unwrap()]));
//! // ... deploy ...
//! let report = load.stop().await;
//! assert_eq!(report.failed(), 0, "{report}");
//! # }
//! ```

mod client;
mod kind;
mod report;
mod websocket;
mod worker;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use kind::Kind;
pub use report::{KindReport, Report};

/// What load to put on what.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where to connect to; each gets the whole load.
    pub targets: Vec<SocketAddr>,
    /// The host name that the requests are for.
    pub host: String,
    /// The kinds of requests.
    pub kinds: BTreeSet<Kind>,
    /// How many requests of each kind are under way at once, for each target.
    pub workers: usize,
    /// The pause between two requests of one worker.
    pub pause: Duration,
    /// The time after which a request without its whole answer has failed.
    pub deadline: Duration,
}

impl LoadOptions {
    /// Every kind, two workers each, with a pause of 20 ms and a deadline of 15 s.
    #[must_use]
    pub fn new(targets: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            host: "localhost".to_owned(),
            kinds: Kind::ALL.into_iter().collect(),
            workers: 2,
            pause: Duration::from_millis(20),
            deadline: Duration::from_secs(15),
        }
    }
}

/// Load that is being put on.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    workers: JoinSet<()>,
    report: Arc<Mutex<Report>>,
    started: Instant,
}

impl Load {
    /// Starts the workers; they go on until [`Load::stop`].
    #[must_use]
    pub fn start(options: LoadOptions) -> Self {
        let stop = CancellationToken::new();
        let report = Arc::new(Mutex::new(Report::new(options.kinds.iter().copied())));
        let started = Instant::now();
        let options = Arc::new(options);
        let mut workers = JoinSet::new();
        for &target in &options.targets {
            for &kind in &options.kinds {
                for _ in 0..options.workers {
                    let worker = worker::Worker {
                        target,
                        kind,
                        options: Arc::clone(&options),
                        report: Arc::clone(&report),
                        started,
                    };
                    workers.spawn(worker.run(stop.clone()));
                }
            }
        }
        Self { stop, workers, report, started }
    }

    /// Returns what has been counted so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.report.lock().clone();
        report.seconds = self.started.elapsed().as_secs_f64();
        report
    }

    /// Waits until so many more requests of each kind have been answered.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn answered(&self, more: u64) {
        let goal = |report: &KindReport| report.sent - report.failed + more;
        let goals: Vec<u64> = self.report().kinds.values().map(goal).collect();
        while !self
            .report()
            .kinds
            .values()
            .zip(&goals)
            .all(|(report, goal)| report.sent - report.failed >= *goal)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets every request that is under way end, and returns what was counted.
    ///
    /// # Cancel safety
    /// Dropping it ends the workers at once; what was under way is not counted.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        while self.workers.join_next().await.is_some() {}
        self.report()
    }
}

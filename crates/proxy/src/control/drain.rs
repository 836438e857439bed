//! Generations that another one has replaced, until nothing is in flight at them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_model::ProxyServiceName;
use freehold_wire::{DrainReport, DrainRequest, ErrorReply, InFlight};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Control, Ledger, unknown};
use crate::generation::Generation;
use crate::runtime::Command;
use crate::watch::Phase;

/// A generation that gets nothing new.
#[derive(Debug, Clone)]
pub(super) struct Retired {
    pub(super) generation: Arc<Generation>,
}

impl Ledger {
    /// Remembers a generation for as long as the process lives.
    pub(crate) fn keep_draining(&mut self, name: &ProxyServiceName, generation: &Arc<Generation>) {
        self.draining.entry(name.clone()).or_default().push(Retired { generation: Arc::clone(generation) });
    }

    /// Returns all generations that get nothing new.
    pub(crate) fn all_draining(&self) -> Vec<Arc<Generation>> {
        self.draining.values().flatten().map(|retired| Arc::clone(&retired.generation)).collect()
    }

    /// Takes the health checks of another ledger in place of its own.
    pub(crate) fn take_checks(&mut self, other: Self) {
        self.checks = other.checks;
        self.canary_checks = other.canary_checks;
    }
}

impl Control {
    /// Lets a generation end; with limits, what is left after them is cut. The receiver gets the report.
    pub(super) fn retire(
        self: &Arc<Self>,
        ledger: &mut Ledger,
        name: &ProxyServiceName,
        generation: &Arc<Generation>,
        limits: Option<(Duration, Duration)>,
    ) -> oneshot::Receiver<DrainReport> {
        let (name, generation) = (name.clone(), Arc::clone(generation));
        generation.retire();
        ledger
            .draining
            .entry(name.clone())
            .or_default()
            .push(Retired { generation: Arc::clone(&generation) });
        let (sender, receiver) = oneshot::channel();
        let control = Arc::clone(self);
        self.tasks.spawn(async move {
            let stopping = control.stopping.clone();
            let drained = stopping.run_until_cancelled(control.end(&generation, limits)).await;
            control.forget(&name, &generation);
            if let Some(report) = drained {
                let (service, requests) = (&name, report.requests_left);
                control.log.info(
                    "Drained",
                    &[("service", service), ("cut", &requests), ("tunnels_cut", &report.tunnels_left)],
                );
                // Nobody may be waiting for the report.
                sender.send(report).ok();
            }
        });
        receiver
    }

    /// Waits until nothing is in flight, and cuts what is left at the limits.
    pub(super) async fn end(
        &self,
        generation: &Generation,
        limits: Option<(Duration, Duration)>,
    ) -> DrainReport {
        let started = Instant::now();
        let Some((requests, tunnels)) = limits else {
            generation.wait_until(|in_flight| in_flight.requests == 0 && in_flight.tunnels == 0).await;
            return report(started, 0, 0);
        };
        let addresses = addresses(generation);
        let requests_cut = async {
            let idle = self.idle(generation, &addresses, |in_flight| in_flight.requests);
            if timeout(requests, idle).await.is_ok() {
                return 0;
            }
            let elsewhere = self.count_elsewhere(&addresses, |in_flight| in_flight.requests);
            elsewhere + self.cut(generation, Phase::Request).await
        };
        let tunnels_cut = async {
            let idle = self.idle(generation, &addresses, |in_flight| in_flight.tunnels);
            if timeout(tunnels, idle).await.is_ok() {
                return 0;
            }
            self.cut(generation, Phase::Tunnel).await
        };
        let (requests_cut, mut tunnels_cut) = tokio::join!(requests_cut, tunnels_cut);
        // A request that was in flight may have become a tunnel after the tunnels were cut.
        let left = tunnels.saturating_sub(started.elapsed());
        if timeout(left, generation.wait_until(|in_flight| in_flight.tunnels == 0)).await.is_err() {
            tunnels_cut += self.cut(generation, Phase::Tunnel).await;
        }
        report(started, requests_cut, tunnels_cut)
    }

    /// Waits until nothing is in flight at a generation, here and in the process before this one.
    async fn idle(&self, generation: &Generation, addresses: &[String], count: fn(&InFlight) -> u64) {
        generation.wait_until(|in_flight| count(&in_flight) == 0).await;
        self.idle_elsewhere(addresses, count).await;
    }

    /// Interrupts what is left and waits until that has happened.
    async fn cut(&self, generation: &Generation, phase: Phase) -> u64 {
        let open = |in_flight: InFlight| match phase {
            Phase::Tunnel => in_flight.tunnels,
            Phase::Request | Phase::Idle => in_flight.requests,
        };
        let left = open(generation.in_flight());
        self.threads.tell(Command::Cut { phase, generation: generation.number() }).await;
        // An interrupted request still tells its client; one that does not take it is not waited for.
        let ended = generation.wait_until(|in_flight| open(in_flight) == 0);
        timeout(Duration::from_secs(1), ended).await.ok();
        left
    }

    fn forget(&self, name: &ProxyServiceName, generation: &Arc<Generation>) {
        let mut ledger = self.ledger.lock();
        if let Some(draining) = ledger.draining.get_mut(name) {
            draining.retain(|retired| !Arc::ptr_eq(&retired.generation, generation));
            if draining.is_empty() {
                ledger.draining.remove(name);
            }
        }
    }

    /// Waits until the earlier generations of a service have nothing in flight, and says what was left.
    ///
    /// # Cancel safety
    /// It may be dropped at any time; it changes nothing.
    pub(crate) async fn drain(
        &self,
        name: &ProxyServiceName,
        request: &DrainRequest,
    ) -> Result<DrainReport, ErrorReply> {
        let started = Instant::now();
        let known = self.shared.load().1.service(name).is_some();
        let retired = self.ledger.lock().draining.get(name).cloned();
        let retired = match retired {
            Some(retired) => retired,
            None if known => Vec::new(),
            None => return Err(unknown(name)),
        };
        let (mut requests_left, mut tunnels_left) = (0, 0);
        for Retired { generation } in retired {
            let addresses = addresses(&generation);
            let requests = Duration::from_millis(request.timeout_ms).saturating_sub(started.elapsed());
            timeout(requests, self.idle(&generation, &addresses, |in_flight| in_flight.requests)).await.ok();
            let tunnels = Duration::from_millis(request.tunnel_timeout_ms).saturating_sub(started.elapsed());
            timeout(tunnels, self.idle(&generation, &addresses, |in_flight| in_flight.tunnels)).await.ok();
            let left = generation.in_flight();
            requests_left += left.requests + self.count_elsewhere(&addresses, |in_flight| in_flight.requests);
            tunnels_left += left.tunnels + self.count_elsewhere(&addresses, |in_flight| in_flight.tunnels);
        }
        Ok(report(started, requests_left, tunnels_left))
    }
}

fn addresses(generation: &Generation) -> Vec<String> {
    generation.targets.iter().map(|target| target.address.to_string()).collect()
}

fn report(started: Instant, requests_left: u64, tunnels_left: u64) -> DrainReport {
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    DrainReport { elapsed_ms, requests_left, tunnels_left }
}

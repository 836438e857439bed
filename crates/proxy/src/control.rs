//! Changing what the threads serve: deploy, drain, remove, and the state that survives a restart.
//!
//! It runs on a thread of its own that serves no traffic.

pub(crate) mod api;
pub(crate) mod bounds;
mod canary;
mod checks;
mod drain;
mod files;
mod gate;
mod restore;
mod standby;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{
    DeployReply, DeployRequest, DrainMode, DrainReport, DrainingGeneration, ErrorCode, ErrorReply, Gate,
    HealthGate, HealthState, RemoveReply, ServiceStatus, Verdict, VersionReply,
};
use parking_lot::Mutex;
use tokio::sync::{RwLock, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acme::Keeper;
use crate::canary::Trial;
use crate::edge::Edge;
use crate::generation::{Generation, Members};
use crate::handover::{Departure, Flights, Program, Sockets};
use crate::log::Log;
use crate::metrics::{self, Metrics};
use crate::resolve::Resolver;
use crate::rules::{Past, Rules};
use crate::runtime::Threads;
use crate::spool::SpillBudget;
use crate::state::{State, StateFile};
use crate::table::{Service, ServiceCertificate, Shared, Table};
use crate::ticket::Tickets;
use crate::trace::TraceCounts;

use checks::{follow_all, follow_installed};
use drain::Retired;
use files::{load_authorities, load_encryption, load_pages};
pub(crate) use restore::{Means, restore};

/// Directs the threads.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) threads: Threads,
    pub(crate) thread_count: usize,
    pub(crate) log: Log,
    pub(crate) state_file: StateFile,
    pub(crate) http_port: u16,
    pub(crate) started_at: String,
    /// Cancelled when the proxy stops.
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) keeper: Arc<Keeper>,
    /// What is counted, if there is somebody to read it.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// What is counted at the edge.
    pub(crate) edge: Arc<Edge>,
    /// What bodies take of the disk.
    pub(crate) spill_budget: Arc<SpillBudget>,
    /// What became of spans, where requests are traced.
    pub(crate) traces: Option<Arc<TraceCounts>>,
    /// With which clients agree again on encrypted connections.
    pub(crate) tickets: Arc<Tickets>,
    /// Held by every change, so that a hand-over happens between two.
    pub(crate) changes: RwLock<()>,
    /// How this process was started, where a new one can be started in the same way.
    pub(crate) program: Option<Program>,
    /// How long a hand-over may take.
    pub(crate) hand_over_limit: Duration,
    /// What is listened on, until it is handed over or closed.
    pub(crate) sockets: Mutex<Option<Sockets>>,
    /// Set once another process serves.
    pub(crate) departure: OnceLock<Departure>,
    /// What goes on between this process and those before and after it.
    pub(crate) company: TaskTracker,
    /// Cancelled when nothing more is to be said between them.
    pub(crate) over: CancellationToken,
    /// The state that was stored last, for the process before this one; none yet, or nobody follows.
    pub(crate) changed: watch::Sender<Option<Arc<State>>>,
    /// What is in flight in the process before this one.
    pub(crate) elsewhere: watch::Sender<Flights>,
}

/// What is known beside the routing table.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) generation: u64,
    pub(crate) fences: BTreeMap<ProxyServiceName, u64>,
    draining: BTreeMap<ProxyServiceName, Vec<Retired>>,
    /// The health checks of the current targets; dropping them ends them.
    checks: BTreeMap<ProxyServiceName, JoinSet<()>>,
    /// Those of the targets that are tried.
    canary_checks: BTreeMap<ProxyServiceName, JoinSet<()>>,
    /// What was decided last about targets that were tried.
    verdicts: BTreeMap<ProxyServiceName, Verdict>,
}

pub(crate) fn refusal(code: ErrorCode, message: impl Into<String>) -> ErrorReply {
    ErrorReply { code, message: message.into(), probes: Vec::new() }
}

impl Control {
    /// Says which proxy this is.
    pub(crate) fn version(&self) -> VersionReply {
        VersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: freehold_wire::API_VERSION,
            started_at: self.started_at.clone(),
            generation: self.ledger.lock().generation,
            http_port: self.http_port,
        }
    }

    /// Describes all services.
    pub(crate) fn statuses(&self) -> Vec<ServiceStatus> {
        let (_, table) = self.shared.load();
        table.services().map(|service| self.status_of(service)).collect()
    }

    /// Describes one service.
    pub(crate) fn status(&self, name: &ProxyServiceName) -> Result<ServiceStatus, ErrorReply> {
        let (_, table) = self.shared.load();
        table.service(name).map(|service| self.status_of(service)).ok_or_else(|| unknown(name))
    }

    fn status_of(&self, service: &Service) -> ServiceStatus {
        let ledger = self.ledger.lock();
        let draining =
            ledger.draining.get(&service.name).into_iter().flatten().map(|retired| DrainingGeneration {
                generation: retired.generation.number(),
                targets: retired.generation.addresses(),
                in_flight: retired.generation.in_flight(),
            });
        ServiceStatus {
            name: service.name.clone(),
            settings: service.settings.clone(),
            generation: service.generation.number(),
            targets: service.generation.statuses(),
            read_targets: service.generation.read_statuses(),
            canary: service.canary.as_ref().map(Trial::status),
            in_flight: service.generation.in_flight(),
            gate: service.gate.clone(),
            standby: service.standby.as_ref().map(|standby| standby.addresses()).unwrap_or_default(),
            draining: draining.collect(),
            counters: service.generation.counters(),
            certificates: files::statuses(service),
            fence: ledger.fences.get(&service.name).copied(),
            last_verdict: ledger.verdicts.get(&service.name).cloned(),
        }
    }

    /// Installs a service's targets.
    ///
    /// # Cancel safety
    /// Dropped before the switch, nothing was changed; dropped after it, the switch is complete and the drain goes on.
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        name: ProxyServiceName,
        request: DeployRequest,
    ) -> Result<DeployReply, ErrorReply> {
        bounds::deploy(&request)?;
        self.raise_fence(&name, request.fence)?;
        self.check_holder(&name, &request)?;
        let targets: Vec<String> = request.targets.iter().map(ToString::to_string).collect();
        self.log.info("Deploying", &[("service", &name), ("targets", &targets.join(","))]);
        let health =
            if request.health == HealthGate::Trust { HealthState::Healthy } else { HealthState::Adding };
        let members = Members { targets: &request.targets, read_targets: &request.read_targets };
        let settings = request.settings.clone();
        let generation = Arc::new(Generation::new(members, health, self.thread_count).caring(&settings));
        let pages = load_pages(&settings).map_err(|error| {
            refusal(ErrorCode::Invalid, format!("unable to load error pages: {}", chain(&error)))
        })?;
        files::keep_fleet_key(&self.keeper, &name, &request)?;
        let encryption = load_encryption(&self.keeper, &self.shared, &name, &settings).map_err(|error| {
            refusal(ErrorCode::Invalid, format!("unable to load certificate: {}", chain(&error)))
        })?;
        let target_authorities =
            load_authorities(&settings).map_err(|error| refusal(ErrorCode::Invalid, chain(&error)))?;
        let before = self.shared.load().1;
        let before = before.service(&name).or_else(|| before.service(request.takes_over.as_ref()?));
        let past = Past { rules: before.and_then(|before| before.rules.as_ref()), memory: None };
        let rules = match Rules::of(&settings, past) {
            (rules, None) => rules,
            (_, Some(error)) => return Err(refusal(ErrorCode::Invalid, chain(&error))),
        };
        let (gate, gate_moved) = (Gate::Open, Arc::default());
        let service = Service {
            name: name.clone(),
            settings,
            generation,
            standby: None,
            canary: None,
            gate,
            gate_moved,
            pages,
            certificate: encryption.certificate,
            client_auth: encryption.client_auth,
            target_authorities,
            rules,
            counts: self.metrics.as_ref().map(|metrics| metrics.service(name.as_str())),
        };
        let (check, tools) = (&service.settings.health_check, (&self.resolver, &self.log));
        let checks = if request.health == HealthGate::Wait {
            let checks = follow_all(&service.generation, check, tools);
            let limit = Duration::from_millis(request.deploy_timeout_ms);
            self.await_health(&service.generation, check, limit).await?;
            checks
        } else {
            follow_installed(&service.generation, check, tools)
        };
        let (reply, drained) = self.switch(service, checks, &request)?;
        self.log.info("Deployed", &[("service", &name), ("targets", &targets.join(","))]);
        match drained {
            // The drain's task drops its sender only when the proxy stops.
            Some(drained) if request.drain == DrainMode::Wait => {
                Ok(DeployReply { drained: drained.await.ok(), ..reply })
            }
            _ => Ok(reply),
        }
    }

    /// Refuses a fencing number below the greatest one, or takes note of it.
    fn raise_fence(&self, name: &ProxyServiceName, fence: Option<u64>) -> Result<(), ErrorReply> {
        let mut ledger = self.ledger.lock();
        let seen = ledger.fences.get(name).copied();
        match (fence, seen) {
            (Some(fence), Some(seen)) if fence < seen => {
                let message = format!("fencing number {fence} for service `{name}` is behind {seen}");
                Err(refusal(ErrorCode::Fenced, message))
            }
            (Some(fence), _) => {
                ledger.fences.insert(name.clone(), fence);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn check_holder(&self, name: &ProxyServiceName, request: &DeployRequest) -> Result<(), ErrorReply> {
        let (_, table) = self.shared.load();
        match table.holder(name, &request.settings) {
            None => Ok(()),
            Some(holder) if request.takes_over.as_ref() == Some(&holder.name) => Ok(()),
            Some(holder) => {
                let message = format!(
                    "host settings conflict with another service: `{}` has the same host and path",
                    holder.name
                );
                Err(refusal(ErrorCode::HostConflict, message))
            }
        }
    }

    /// Stores the new state and swaps the table, without a point at which a dropped call could leave one without the
    /// other. Writing blocks this thread, which serves no traffic.
    fn switch(
        self: &Arc<Self>,
        mut service: Service,
        checks: JoinSet<()>,
        request: &DeployRequest,
    ) -> Result<(DeployReply, Option<oneshot::Receiver<DrainReport>>), ErrorReply> {
        self.raise_fence(&service.name, request.fence)?;
        self.check_holder(&service.name, request)?;
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let number = ledger.generation + 1;
        service.generation.set_number(number);
        let former = request.takes_over.as_ref().filter(|former| **former != service.name);
        let former = former.and_then(|former| table.service(former)).cloned();
        let replaced = table.service(&service.name).or(former.as_ref()).cloned();
        let standby = replaced.as_ref().and_then(|replaced| self.make_standby(replaced, request, number + 1));
        service.standby = standby.clone();
        if let Some(replaced) = &replaced {
            service.gate = replaced.gate.clone();
            // A comparison with other targets begins anew.
            service.canary = replaced.canary.as_ref().map(|canary| {
                Trial::new(Arc::clone(&canary.generation), canary.split.clone(), self.thread_count)
            });
            service.gate_moved = Arc::clone(&replaced.gate_moved);
        }
        let last = number + u64::from(standby.is_some());
        let service = Arc::new(service);
        let table = match &former {
            Some(former) => table.without(&former.name).with(Arc::clone(&service)),
            None => table.with(Arc::clone(&service)),
        };
        self.save(&State::new(
            last,
            ledger.fences.clone(),
            table.services().map(|s| s.snapshot()).collect(),
        ))?;
        ledger.generation = last;
        self.install(table);
        if let Some(ServiceCertificate::Automatic(automatic)) = &service.certificate {
            self.keeper.hurry(automatic);
        }
        ledger.checks.insert(service.name.clone(), checks);
        if let Some(former) = &former {
            self.keeper.leave(&former.name);
            ledger.checks.remove(&former.name);
            former.gate_moved.notify_waiters();
            self.log.info("Removed", &[("service", &former.name), ("in_favour_of", &service.name)]);
        }
        if let Some(standby) = standby {
            self.expire_standby(&service.name, standby, request);
        }
        let previous = replaced.as_ref().map(|replaced| replaced.snapshot());
        let drained = replaced.map(|replaced| {
            let requests = Duration::from_millis(request.drain_timeout_ms);
            let tunnels = Duration::from_millis(request.tunnel_timeout_ms);
            if let Some(standby) = &replaced.standby {
                drop(self.retire(&mut ledger, &service.name, standby, Some((requests, tunnels))));
            }
            self.retire(&mut ledger, &service.name, &replaced.generation, Some((requests, tunnels)))
        });
        Ok((DeployReply { generation: number, previous, drained: None }, drained))
    }

    /// Removes a service at once. Its requests in flight finish by themselves.
    pub(crate) fn remove(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        fence: Option<u64>,
    ) -> Result<RemoveReply, ErrorReply> {
        self.raise_fence(name, fence)?;
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let removed = table.service(name).cloned().ok_or_else(|| unknown(name))?;
        let number = ledger.generation + 1;
        let table = table.without(name);
        self.save(&State::new(
            number,
            ledger.fences.clone(),
            table.services().map(|s| s.snapshot()).collect(),
        ))?;
        ledger.generation = number;
        self.install(table);
        removed.gate_moved.notify_waiters();
        self.keeper.leave(name);
        ledger.checks.remove(name);
        ledger.canary_checks.remove(name);
        ledger.verdicts.remove(name);
        for generation in removed.generations() {
            drop(self.retire(&mut ledger, name, generation, None));
        }
        self.log.info("Removed", &[("service", name)]);
        Ok(RemoveReply { previous: removed.snapshot() })
    }

    /// Lets the threads serve another table.
    pub(crate) fn install(&self, table: Table) {
        let targets = table.services().flat_map(|service| service.targets());
        let hosts: BTreeSet<String> = targets.map(|target| target.address.host().to_owned()).collect();
        self.shared.store(table);
        self.resolver.keep_only(|host| hosts.contains(host));
    }

    /// Writes what is counted, for Prometheus.
    pub(crate) fn metrics_page(&self) -> String {
        let Some(counted) = &self.metrics else { return String::new() };
        let (_, table) = self.shared.load();
        let ledger = self.ledger.lock();
        let in_flight = table.services().map(|service| {
            let draining = ledger.draining.get(&service.name).into_iter().flatten();
            let all = service.generations().chain(draining.map(|retired| &retired.generation));
            (service.name.to_string(), all.map(|generation| generation.shown_in_flight()).sum())
        });
        let in_flight = in_flight.collect();
        drop(ledger);
        let spilled = self.spill_budget.limit_and_use();
        let traces = self
            .traces
            .as_ref()
            .map(|counts| (counts.sent.load(Ordering::Relaxed), counts.dropped.load(Ordering::Relaxed)));
        let (certificates, drops) = (self.certificate_ends(), self.edge.drops.totals());
        let extra = metrics::Extra { in_flight, certificates, spilled, drops, traces };
        metrics::write(counted, &extra)
    }

    fn save(&self, state: &State) -> Result<(), ErrorReply> {
        self.state_file.save(state).map_err(|error| {
            let text = chain(&error);
            self.log.error("State not saved", &[("error", &text)]);
            refusal(
                ErrorCode::State,
                format!("nothing was changed, because the state cannot be stored: {text}"),
            )
        })?;
        if self.changed.receiver_count() > 0 {
            self.changed.send_replace(Some(Arc::new(state.clone())));
        }
        Ok(())
    }

    /// Returns the state as it would be stored now.
    pub(crate) fn state_now(&self) -> State {
        let ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let services = table.services().map(|service| service.snapshot()).collect();
        State::new(ledger.generation, ledger.fences.clone(), services)
    }

    /// Makes the table of a state, and what belongs to it.
    pub(crate) fn restored(&self, state: State, unhealthy: &BTreeSet<String>) -> (Table, Ledger) {
        let Self { resolver, log, keeper, shared, metrics, .. } = self;
        let means = Means {
            thread_count: self.thread_count,
            resolver,
            log,
            keeper,
            shared,
            metrics: metrics.as_deref(),
            unhealthy,
            memories: &BTreeMap::new(),
            former: &self.shared.load().1,
        };
        restore(state, &means)
    }

    /// Refuses what comes to a proxy that stops.
    pub(crate) fn check_not_stopping(&self) -> Result<(), ErrorReply> {
        match (self.stopping.is_cancelled(), self.departure.get()) {
            (false, _) => Ok(()),
            (true, None) => Err(refusal(ErrorCode::Stopping, "the proxy is stopping")),
            (true, Some(_)) => {
                Err(refusal(ErrorCode::Stopping, "the proxy has handed over to a new process: connect again"))
            }
        }
    }
}

fn unknown(name: &ProxyServiceName) -> ErrorReply {
    refusal(ErrorCode::UnknownService, format!("service not found: `{name}`"))
}

/// Writes an error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

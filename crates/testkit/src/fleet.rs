use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use freehold_fleet::{Host, Limits, Watch, World};
use freehold_model::HostName;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::FakeClock;
use crate::fault::{Fault, Moment, Point};
use crate::host::FakeHost;
use crate::machine::{Machine, Snapshot};
use crate::watch::RecordingWatch;

/// Hosts in memory.
#[derive(Debug, Clone)]
pub struct FakeFleet {
    names: Vec<HostName>,
    machines: BTreeMap<HostName, Arc<Machine>>,
    clock: Arc<FakeClock>,
    faults: Arc<Faults>,
}

/// What is still to go wrong, and how often the hosts were called.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pending: Mutex<Vec<Fault>>,
    calls: Mutex<u64>,
}

impl Faults {
    /// Counts a call.
    pub(crate) fn next_call(&self) -> u64 {
        let mut calls = self.calls.lock();
        *calls += 1;
        *calls
    }

    /// Takes the fault of a call, if there is one.
    pub(crate) fn take(
        &self,
        host: &HostName,
        (call, point): (u64, Option<Point>),
        moment: Moment,
    ) -> Option<Fault> {
        let mut pending = self.pending.lock();
        let index = pending.iter().position(|fault| {
            let is_here = match fault.point {
                Point::Call(number) => number == call,
                Point::AnyUndo => matches!(point, Some(Point::Undo(_))),
                other => Some(other) == point,
            };
            is_here && fault.moment == moment && fault.host.as_ref().is_none_or(|wanted| wanted == host)
        })?;
        Some(pending.remove(index))
    }
}

impl FakeFleet {
    /// Makes empty hosts of these names, the primary one first.
    #[must_use]
    pub fn new(names: &[HostName]) -> Self {
        let clock = Arc::new(FakeClock::new());
        let machines =
            names.iter().map(|name| (name.clone(), Arc::new(Machine::new(name.clone())))).collect();
        Self { names: names.to_vec(), machines, clock, faults: Arc::default() }
    }

    /// Makes a client: a process of its own, with connections of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        Client {
            fleet: self.clone(),
            fate: Arc::new(Fate { crashed: CancellationToken::new(), frozen: watch::Sender::new(false) }),
            watch: RecordingWatch::default(),
        }
    }

    /// Lets something go wrong.
    pub fn inject(&self, fault: Fault) {
        self.faults.pending.lock().push(fault);
    }

    /// Forgets what has not gone wrong yet.
    pub fn clear_faults(&self) {
        self.faults.pending.lock().clear();
    }

    /// Returns how many calls there were so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        *self.faults.calls.lock()
    }

    /// Returns a host's machine.
    #[must_use]
    pub fn machine(&self, name: &HostName) -> Option<&Arc<Machine>> {
        self.machines.get(name)
    }

    /// Returns all machines.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.values()
    }

    /// Returns what users of the service would notice and a person would have to clean up: routes, containers,
    /// releases. Images and folders are left out.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<HostName, Snapshot> {
        self.machines.iter().map(|(name, machine)| (name.clone(), machine.snapshot())).collect()
    }

    /// Returns every moment at which a route led to nothing healthy.
    #[must_use]
    pub fn outages(&self) -> Vec<String> {
        self.machines.values().flat_map(|machine| machine.outages()).collect()
    }

    /// Lets every container of this version be unhealthy.
    pub fn spoil(&self, version: &str) {
        for machine in self.machines.values() {
            machine.spoil(version);
        }
    }
}

/// A process that works on the fleet.
#[derive(Debug, Clone)]
pub struct Client {
    fleet: FakeFleet,
    fate: Arc<Fate>,
    watch: RecordingWatch,
}

/// What happens to a client as a whole.
pub(crate) struct Fate {
    pub(crate) crashed: CancellationToken,
    pub(crate) frozen: watch::Sender<bool>,
}

impl fmt::Debug for Fate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fate").field("crashed", &self.crashed.is_cancelled()).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns its view of the fleet.
    #[must_use]
    pub fn world(&self) -> World {
        let hosts = self
            .fleet
            .machines
            .iter()
            .map(|(name, machine)| {
                let host = FakeHost {
                    machine: Arc::clone(machine),
                    fate: Arc::clone(&self.fate),
                    faults: Arc::clone(&self.fleet.faults),
                    clock: Arc::clone(&self.fleet.clock),
                };
                (name.clone(), Arc::new(host) as Arc<dyn Host>)
            })
            .collect();
        let watch: Arc<dyn Watch> = Arc::new(self.watch.clone());
        #[expect(clippy::expect_used, reason = "a fleet without a host is a broken test")]
        let primary = self.fleet.names.first().cloned().expect("a fleet has a host");
        World {
            hosts,
            watch,
            primary,
            clock: self.fleet.clock.clone(),
            limits: Limits::default(),
            gate: None,
        }
    }

    /// Returns what it was told.
    #[must_use]
    pub fn watch(&self) -> &RecordingWatch {
        &self.watch
    }

    /// Waits until it has crashed: whoever runs it drops it then.
    pub async fn crashed(&self) {
        self.fate.crashed.cancelled().await;
    }

    /// Waits until it stands still.
    pub async fn frozen(&self) {
        // The sender lives as long as this value.
        let _alive = self.fate.frozen.subscribe().wait_for(|is_frozen| *is_frozen).await.is_ok();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.fate.frozen.send_replace(false);
    }
}

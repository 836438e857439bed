use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_fleet::{
    HostError, JournalEntry, LeaseAttempt, LeaseHeld, LeaseRequest, LeaseToken, StoredJournal,
};
use freehold_model::{
    Architecture, ContainerName, HostName, ImageReference, Project, ProxyServiceName, Release, ReleaseId,
    RoleName, ScheduleName, ScheduleState,
};
use freehold_plan::{
    ContainerState, Gate, ObservedCanary, ObservedContainer, ObservedHost, ObservedImage, ObservedProxy,
    ObservedRoute, Plan, ProxyMaker, Route, repositories,
};
use parking_lot::Mutex;

mod effect;
mod schedule;
mod undo;

/// A host's engine, proxy and files in memory.
#[derive(Debug)]
pub struct Machine {
    name: HostName,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    containers: Vec<FakeContainer>,
    images: BTreeMap<ImageReference, String>,
    proxy: Option<BTreeMap<ProxyServiceName, Route>>,
    /// Whose proxy runs.
    proxy_maker: Option<ProxyMaker>,
    /// Proxies that were set aside.
    aside: BTreeMap<ContainerName, ProxyMaker>,
    /// Whether a second proxy runs.
    stands_in: bool,
    /// Whether connections go to it.
    is_diverted: bool,
    /// Gates that were moved.
    gates: BTreeMap<ProxyServiceName, Gate>,
    releases: Vec<Release>,
    /// The release that is tried, and the targets that are tried by service.
    canary: Option<Release>,
    tried: BTreeMap<ProxyServiceName, ObservedCanary>,
    has_network: bool,
    directories: BTreeSet<String>,
    lease: Option<FakeLease>,
    fence: u64,
    journal: Option<StoredJournal>,
    /// What the agent knows, if there is one.
    agent: Option<BTreeMap<ScheduleName, FakeSchedule>>,
    audit: Vec<String>,
    spoilt: BTreeSet<String>,
    spoilt_commands: BTreeSet<String>,
    pushed: BTreeSet<ImageReference>,
    outages: Vec<String>,
    /// Every change, with the fencing number under which it was made.
    effects: Vec<(u64, String)>,
    unreachable_until: Duration,
    made: u64,
}

#[derive(Debug)]
struct FakeLease {
    request: LeaseRequest,
    fence: u64,
    expires_at: Option<Duration>,
}

/// A container in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeContainer {
    /// Its identifier, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: ContainerName,
    /// Its image.
    pub image: ImageReference,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub is_running: bool,
    /// Whether it was found healthy since it runs.
    pub is_healthy: bool,
    /// The order in which containers were made.
    pub made: u64,
}

pub use schedule::FakeSchedule;

/// What must be the same before a rollout and after it was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The containers by name, with identifier and whether they run.
    pub containers: BTreeMap<ContainerName, (String, bool)>,
    /// The routes; none if there is no proxy or it has none.
    pub routes: BTreeMap<ProxyServiceName, Vec<String>>,
    /// The releases, newest first.
    pub releases: Vec<ReleaseId>,
    /// The folders of assets and error pages.
    pub files: Vec<String>,
    /// The services beside which something is tried.
    pub tried: Vec<ProxyServiceName>,
    /// Which jobs run, by schedule; none if there is no agent.
    pub schedules: Option<BTreeMap<ScheduleName, ScheduleState>>,
    /// Whether a journal is left.
    pub has_journal: bool,
}

impl Machine {
    pub(crate) fn new(name: HostName) -> Self {
        Self { name, state: Mutex::new(State::default()) }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &HostName {
        &self.name
    }

    /// Returns the containers, oldest first.
    #[must_use]
    pub fn containers(&self) -> Vec<FakeContainer> {
        self.state.lock().containers.clone()
    }

    /// Returns every change so far, with the fencing number under which it was made.
    #[must_use]
    pub fn effects(&self) -> Vec<(u64, String)> {
        self.state.lock().effects.clone()
    }

    /// Says whether a proxy runs, whether a second one stands in, and whether connections go to that one.
    #[must_use]
    pub fn bridging(&self) -> (bool, bool, bool) {
        let state = self.state.lock();
        (state.proxy_maker.is_some(), state.stands_in, state.is_diverted)
    }

    /// Returns the releases that are stored, newest first.
    #[must_use]
    pub fn releases(&self) -> Vec<ReleaseId> {
        self.state.lock().releases.iter().map(|release| release.id.clone()).collect()
    }

    /// Returns the lines of the audit file.
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        self.state.lock().audit.clone()
    }

    /// Returns the journal that is left, if there is one.
    #[must_use]
    pub fn journal(&self) -> Option<StoredJournal> {
        self.state.lock().journal.clone()
    }

    /// Returns the images that were pushed from here.
    #[must_use]
    pub fn pushed(&self) -> Vec<ImageReference> {
        self.state.lock().pushed.iter().cloned().collect()
    }

    /// Returns the folders that were made and not removed.
    #[must_use]
    pub fn directories(&self) -> Vec<String> {
        self.state.lock().directories.iter().cloned().collect()
    }

    /// Lets the release commands of a version fail.
    pub fn spoil_release_command(&self, version: &str) {
        self.state.lock().spoilt_commands.insert(version.to_owned());
    }

    /// Takes the images of a version away, as a person would.
    pub fn forget_image(&self, version: &str) {
        self.state.lock().images.retain(|image, _| image.tag.as_str() != version);
    }

    /// Says whether somebody has the deploy lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.state.lock().lease.is_some()
    }

    /// Returns the greatest fencing number seen.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.state.lock().fence
    }

    /// Forgets lock and fencing number, as a machine does that was set up again.
    pub fn forget_fence(&self) {
        let mut state = self.state.lock();
        state.lease = None;
        state.fence = 0;
    }

    /// Removes the lock, whoever has it.
    pub fn break_lock(&self) {
        self.state.lock().lease = None;
    }

    /// Lets no connection through until this moment of the fleet's clock.
    pub fn cut_off(&self, until: Duration) {
        self.state.lock().unreachable_until = until;
    }

    pub(crate) fn is_cut_off(&self, now: Duration) -> bool {
        now < self.state.lock().unreachable_until
    }

    pub(crate) fn spoil(&self, version: &str) {
        self.state.lock().spoilt.insert(version.to_owned());
    }

    pub(crate) fn outages(&self) -> Vec<String> {
        self.state.lock().outages.clone()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        let containers = state
            .containers
            .iter()
            .map(|container| (container.name.clone(), (container.id.clone(), container.is_running)))
            .collect();
        let routes = state.proxy.iter().flatten().map(|(name, route)| (name.clone(), route.targets.clone()));
        Snapshot {
            containers,
            routes: routes.collect(),
            releases: state.releases.iter().map(|release| release.id.clone()).collect(),
            files: state
                .directories
                .iter()
                .filter(|path| path.contains("/assets/") || path.contains("/error_pages/"))
                .cloned()
                .collect(),
            tried: state.tried.keys().cloned().collect(),
            schedules: state.agent.as_ref().map(|agent| {
                agent.iter().map(|(name, schedule)| (name.clone(), schedule.state.clone())).collect()
            }),
            has_journal: state.journal.is_some(),
        }
    }

    pub(crate) fn observe(&self, project: &Project) -> ObservedHost {
        let state = self.state.lock();
        let mut containers: Vec<ObservedContainer> = state
            .containers
            .iter()
            .filter(|container| {
                container.labels.get("service").is_some_and(|s| s == project.service.as_str())
            })
            .map(|container| observed(container, &state))
            .collect();
        containers.reverse();
        let images = state
            .images
            .iter()
            .filter(|(reference, _)| repositories(project).contains(&reference.repository))
            .map(|(reference, id)| ObservedImage { reference: reference.clone(), id: id.clone() })
            .collect();
        let proxy = match &state.proxy {
            None => ObservedProxy::Absent,
            Some(routes) => ObservedProxy::Running {
                image: "freehold:test".to_owned(),
                maker: state.proxy_maker.unwrap_or_default(),
                is_outdated: false,
                routes: routes
                    .iter()
                    .map(|(name, route)| {
                        let gate = state.gates.get(name).cloned().unwrap_or_default();
                        let canary = state.tried.get(name).cloned();
                        let route = route.clone();
                        (name.clone(), ObservedRoute { route, gate, certificates: Vec::new(), canary })
                    })
                    .collect(),
            },
        };
        ObservedHost {
            engine: "28.0".to_owned(),
            architecture: Some(Architecture::Amd64),
            has_network: state.has_network,
            containers,
            images,
            proxy,
            proxy_ports: None,
            holders: BTreeMap::new(),
            proxy_boot: None,
            agent: schedule::observed(state.agent.as_ref()),
            unnamed_images: Vec::new(),
            canary: state.canary.clone(),
            pieces: Vec::new(),
            releases: state
                .releases
                .iter()
                .filter(|release| {
                    release.service == project.service && release.destination == project.destination
                })
                .cloned()
                .collect(),
        }
    }

    pub(crate) fn acquire(&self, request: &LeaseRequest, now: Duration) -> LeaseAttempt {
        let mut state = self.state.lock();
        let held = state.lease.as_ref().filter(|lease| lease.expires_at.is_none_or(|end| end > now));
        if let Some(lease) = held {
            let message = &lease.request.message;
            return LeaseAttempt::Held(LeaseHeld {
                details: format!(
                    "Locked by: {} at 2026-11-22T03:00:00Z\nVersion: {}\nMessage: {message}",
                    lease.request.performer,
                    lease.request.version.as_deref().unwrap_or_default(),
                ),
                holder: Some(lease.request.holder.clone()),
                expires_in: lease.expires_at.map(|end| end.saturating_sub(now)),
            });
        }
        let taken_over = state.lease.is_some();
        state.fence += 1;
        let fence = state.fence;
        state.lease = Some(FakeLease {
            request: request.clone(),
            fence,
            expires_at: request.time_to_live.map(|span| now + span),
        });
        LeaseAttempt::Acquired { token: LeaseToken { stem: request.stem.clone(), fence }, taken_over }
    }

    pub(crate) fn renew(&self, token: &LeaseToken, now: Duration) -> bool {
        let mut state = self.state.lock();
        let Some(lease) = state.lease.as_mut().filter(|lease| lease.fence == token.fence) else {
            return false;
        };
        lease.expires_at = lease.request.time_to_live.map(|span| now + span);
        true
    }

    pub(crate) fn release(&self, token: &LeaseToken) {
        let mut state = self.state.lock();
        if state.lease.as_ref().is_some_and(|lease| lease.fence == token.fence) {
            state.lease = None;
        }
    }

    pub(crate) fn raise_fence(&self, token: &LeaseToken) -> Result<(), HostError> {
        let mut state = self.state.lock();
        self.check_fence(&state, token.fence)?;
        state.fence = token.fence;
        Ok(())
    }

    fn check_fence(&self, state: &State, fence: u64) -> Result<(), HostError> {
        if fence < state.fence { Err(HostError::Fenced { host: self.name.clone() }) } else { Ok(()) }
    }

    pub(crate) fn begin_journal(&self, token: &LeaseToken, plan: Option<&Plan>) -> Result<(), HostError> {
        let mut state = self.state.lock();
        self.check_fence(&state, token.fence)?;
        state.journal = Some(StoredJournal { plan: plan.cloned().map(Box::new), entries: Vec::new() });
        Ok(())
    }

    pub(crate) fn append_journal(
        &self,
        token: &LeaseToken,
        entries: &[JournalEntry],
    ) -> Result<(), HostError> {
        let mut state = self.state.lock();
        self.check_fence(&state, token.fence)?;
        match &mut state.journal {
            Some(journal) => {
                journal.entries.extend_from_slice(entries);
                Ok(())
            }
            None => Err(HostError::Refused {
                host: self.name.clone(),
                operation: "write the journal".to_owned(),
                message: "it was not begun".to_owned(),
            }),
        }
    }

    pub(crate) fn end_journal(&self, token: &LeaseToken) -> Result<(), HostError> {
        let mut state = self.state.lock();
        self.check_fence(&state, token.fence)?;
        state.journal = None;
        Ok(())
    }

    pub(crate) fn append_audit(&self, messages: &[String]) {
        self.state.lock().audit.extend_from_slice(messages);
    }
}

fn observed(container: &FakeContainer, state: &State) -> ObservedContainer {
    let label = |name: &str| container.labels.get(name);
    ObservedContainer {
        id: container.id.clone(),
        name: container.name.clone(),
        role: label("role").and_then(|role| RoleName::parse(role.clone()).ok()),
        destination: label("destination").cloned().unwrap_or_default(),
        image: container.image.to_string(),
        image_id: state.images.get(&container.image).cloned().unwrap_or_default(),
        release: state
            .releases
            .iter()
            .chain(&state.canary)
            .map(|release| &release.id)
            .chain(state.journal.iter().flat_map(|journal| &journal.plan).map(|plan| &plan.id))
            .find(|id| label(freehold_plan::RELEASE_LABEL).is_some_and(|text| text == id.as_str()))
            .cloned(),
        state: if container.is_running { ContainerState::Running } else { ContainerState::Exited },
        created_seconds: i64::try_from(container.made).unwrap_or(i64::MAX),
    }
}

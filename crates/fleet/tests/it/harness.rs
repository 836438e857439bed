use std::collections::BTreeMap;
use std::time::Duration;

use freehold_fleet::{
    AUTOMATIC_LOCK_MESSAGE, ExecuteError, Failures, Holder, Intent, LEASE_TIME_TO_LIVE, Lease, LeaseError,
    LeaseRequest, RecoverError, Report, Scope, Stop, Waiting, World, execute, observe, recover,
};
use freehold_model::{ErrorKind, HostName, SecretValues};
use freehold_plan::{OnFailure, Plan, RolloutError, Step, rollout};
use freehold_testkit::{Client, FakeFleet, Fault, Harm, Moment, Point, ProjectFixture, Snapshot, host_name};

/// What stops a deploy.
#[derive(Debug)]
pub(crate) enum DeployError {
    Lease(LeaseError),
    Recover(RecoverError),
    Observe(Failures),
    Plan(RolloutError),
    Execute(ExecuteError),
}

impl DeployError {
    pub(crate) fn kind(&self) -> ErrorKind {
        use freehold_model::Diagnose;
        match self {
            Self::Lease(error) => error.kind(),
            Self::Recover(error) => error.kind(),
            Self::Observe(error) => error.kind(),
            Self::Plan(error) => error.kind(),
            Self::Execute(error) => error.kind(),
        }
    }

    pub(crate) fn execute(self) -> ExecuteError {
        match self {
            Self::Execute(error) => error,
            other => panic!("not an error of the execution: {other:?}"),
        }
    }
}

pub(crate) fn request() -> LeaseRequest {
    LeaseRequest {
        stem: "app".to_owned(),
        performer: "Jane".to_owned(),
        version: Some("v1".to_owned()),
        message: AUTOMATIC_LOCK_MESSAGE.to_owned(),
        holder: Holder { machine: "laptop".to_owned(), boot: "b".to_owned(), pid: 42, started: 7 },
        time_to_live: Some(LEASE_TIME_TO_LIVE),
    }
}

pub(crate) const WAIT: Waiting = Waiting::Until(Duration::from_secs(120));

/// A fleet and the project that runs on it.
pub(crate) struct Scene {
    pub(crate) fleet: FakeFleet,
    pub(crate) fixture: ProjectFixture,
}

impl Scene {
    pub(crate) fn new(fixture: ProjectFixture) -> Self {
        Self { fleet: FakeFleet::new(&fixture.project().hosts()), fixture }
    }

    /// A web role and a jobs role on three hosts, with `v1` deployed.
    pub(crate) async fn three_hosts() -> Self {
        let hosts = ["one", "two", "three"];
        Self::running(ProjectFixture::new(&hosts).role("jobs", &hosts[1..], false)).await
    }

    pub(crate) async fn running(fixture: ProjectFixture) -> Self {
        let scene = Self::new(fixture);
        scene.deploy(&scene.fleet.client(), "v1", 1).await.expect("the first deploy");
        scene
    }

    pub(crate) async fn plan(&self, world: &World, version: &str, number: u8) -> Result<Plan, DeployError> {
        let scope = Scope { project: self.fixture.project() };
        let seen = observe(world, &scope).await.map_err(DeployError::Observe)?;
        rollout(&self.fixture.request(version, number), &seen).map_err(DeployError::Plan)
    }

    /// What `freehold deploy` does.
    pub(crate) async fn deploy(
        &self,
        client: &Client,
        version: &str,
        number: u8,
    ) -> Result<Report, DeployError> {
        self.deploy_until(client, version, number, &Stop::default()).await
    }

    pub(crate) async fn deploy_until(
        &self,
        client: &Client,
        version: &str,
        number: u8,
        stop: &Stop,
    ) -> Result<Report, DeployError> {
        self.deploy_in(&client.world(), version, number, stop).await
    }

    pub(crate) async fn deploy_in(
        &self,
        world: &World,
        version: &str,
        number: u8,
        stop: &Stop,
    ) -> Result<Report, DeployError> {
        let secrets = SecretValues::default();
        let lease = Lease::acquire(world, &request(), WAIT, stop).await.map_err(DeployError::Lease)?;
        let result = async {
            recover(world, &lease, &secrets, stop, Intent::Automatic).await.map_err(DeployError::Recover)?;
            let plan = self.plan(world, version, number).await?;
            execute(&plan, world, &lease, &secrets, stop).await.map_err(DeployError::Execute)
        }
        .await;
        // One that could not be released expires by itself.
        let _is_released = lease.release().await.is_ok();
        result
    }

    /// Deploys, or is gone.
    pub(crate) async fn deploy_or_crash(
        &self,
        client: &Client,
        version: &str,
        number: u8,
    ) -> Option<Result<Report, DeployError>> {
        tokio::select! {
            result = self.deploy(client, version, number) => Some(result),
            () = client.crashed() => None,
        }
    }

    /// The plan that the next deploy would make.
    pub(crate) async fn next_plan(&self, version: &str, number: u8) -> Plan {
        self.plan(&self.fleet.client().world(), version, number).await.expect("a plan")
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<HostName, Snapshot> {
        self.fleet.snapshot()
    }

    pub(crate) fn assert_no_outage(&self, context: &str) {
        assert_eq!(self.fleet.outages(), Vec::<String>::new(), "{context}");
    }

    /// Every host runs one container of each of its roles, of this version, the proxy leads to it, and nobody holds
    /// anything.
    pub(crate) fn assert_live(&self, version: &str, context: &str) {
        let project = self.fixture.project();
        for role in project.roles.values() {
            for entry in &role.hosts {
                let machine = self.fleet.machine(&entry.name).expect("a machine");
                let name = format!("{}-{version}", project.role_prefix(&role.name));
                let running: Vec<_> = machine
                    .containers()
                    .into_iter()
                    .filter(|container| {
                        container.is_running && container.labels["role"] == role.name.as_str()
                    })
                    .collect();
                assert_eq!(running.len(), 1, "{context}: {} runs {running:?}", entry.name);
                assert_eq!(running[0].name.as_str(), name, "{context}");
                if role.proxy.is_some() {
                    let targets = &self.snapshot()[&entry.name].routes[&role.proxy_service];
                    let id: String = running[0].id.chars().take(12).collect();
                    assert_eq!(targets, &[format!("{id}:3000")], "{context}");
                }
            }
        }
        for job in project.jobs.values() {
            let name = freehold_plan::schedule_name(project, &job.role).expect("a name");
            for machine in self.fleet.machines() {
                let schedule = machine.schedules().and_then(|schedules| schedules.get(&name).cloned());
                let release = schedule.as_ref().and_then(|schedule| schedule.state.release());
                let is_first = job.host.as_ref() == Some(machine.name());
                let live = machine.releases().into_iter().next().filter(|_| is_first);
                assert_eq!(release, live.as_ref(), "{context}: jobs on {}", machine.name());
            }
        }
        for machine in self.fleet.machines() {
            assert!(machine.journal().is_none(), "{context}: {} has a journal", machine.name());
            assert!(!machine.is_locked(), "{context}: {} is locked", machine.name());
        }
    }
}

pub(crate) fn host(name: &str) -> HostName {
    host_name(name)
}

pub(crate) fn at_step(step: &Step, moment: Moment, harm: Harm) -> Fault {
    Fault { host: Some(step.host.clone()), point: Point::Perform(step.id), moment, harm }
}

/// The steps whose failure puts everything back, or those after.
pub(crate) fn steps_of(plan: &Plan, rule: OnFailure) -> Vec<Step> {
    plan.stages
        .iter()
        .filter(|stage| stage.on_failure == rule)
        .flat_map(|stage| &stage.lanes)
        .flat_map(|lane| lane.steps.clone())
        .collect()
}

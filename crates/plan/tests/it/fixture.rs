use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use freehold_model::{
    Architecture, Author, Buffering, Destination, EnvName, Environment, HealthCheck, HostName, JobName,
    Overlap, Project, ProxyServiceName, ProxySettings, ReleaseId, Repository, Role, RoleHost, RoleName,
    Schedule, ScheduledJob, SecretFingerprint, SecretName, ServiceName, Tag,
};
use freehold_plan::{
    ImageSource, Namesakes, Observed, ObservedHost, Plan, ProxyBoot, RollbackError, RollbackTarget,
    RolloutError, RolloutRequest, rollback, rollout,
};

use crate::simulation::apply;

pub(crate) fn host(name: &str) -> HostName {
    HostName::parse(name).expect("a host name")
}

/// Returns the identifier of the rollout of this number.
pub(crate) fn id(number: u8) -> ReleaseId {
    ReleaseId::new(&format!("20261122T03{number:02}00Z"), [0, 0, number])
}

/// A project, what its hosts look like, and how many rollouts there were.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) project: Project,
    pub(crate) observed: Observed,
    pub(crate) rollouts: u8,
    pub(crate) image: ImageSource,
    pub(crate) error_pages: BTreeMap<String, String>,
    pub(crate) namesakes: Namesakes,
}

impl Script {
    /// The project `app` with the role `web` behind the proxy on fresh hosts.
    pub(crate) fn new(hosts: &[&str]) -> Self {
        let service = ServiceName::parse("app").expect("a service");
        let project = Project::new(service, Repository::parse("acme/app").expect("a repository"));
        let (observed, error_pages) = (Observed::default(), BTreeMap::new());
        let script = Self {
            project,
            observed,
            rollouts: 0,
            image: ImageSource::Build,
            error_pages,
            namesakes: Namesakes::Stay,
        };
        script.role("web", hosts, true)
    }

    pub(crate) fn role(mut self, name: &str, hosts: &[&str], is_proxied: bool) -> Self {
        let name = RoleName::parse(name).expect("a role");
        let secret =
            (EnvName::parse("TOKEN").expect("a variable"), SecretName::parse("TOKEN").expect("a secret"));
        let environment = Environment { clear: BTreeMap::new(), secret: BTreeMap::from([secret]) };
        let hosts = hosts
            .iter()
            .map(|name| RoleHost { name: host(name), environment: environment.clone() })
            .collect::<Vec<_>>();
        for entry in &hosts {
            self.observed.hosts.entry(entry.name.clone()).or_insert_with(|| ObservedHost {
                engine: "28.0".to_owned(),
                architecture: Some(Architecture::Amd64),
                ..ObservedHost::default()
            });
        }
        let proxy_service = ProxyServiceName::parse(self.project.role_prefix(&name)).expect("a name");
        let role = Role { hosts, proxy: is_proxied.then(proxy), ..Role::new(name.clone(), proxy_service) };
        self.project.roles.insert(name, role);
        self
    }

    pub(crate) fn destination(mut self, name: &str) -> Self {
        self.project.destination = Some(Destination::parse(name).expect("a destination"));
        for name in self.project.roles.clone().into_keys() {
            let prefix = self.project.role_prefix(&name);
            let role = self.project.roles.get_mut(&name).expect("the role");
            role.proxy_service = ProxyServiceName::parse(prefix).expect("a name");
        }
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Project)) -> Self {
        change(&mut self.project);
        self
    }

    /// Gives a role a job that runs every night, on the role's first host.
    pub(crate) fn job(mut self, name: &str, role: &str) -> Self {
        let (name, role) = (JobName::parse(name).expect("a job"), RoleName::parse(role).expect("a role"));
        let first = self.project.roles[&role].hosts.first().map(|entry| entry.name.clone());
        let job = ScheduledJob {
            name: name.clone(),
            schedule: Schedule::parse("@daily").expect("a schedule"),
            command: vec!["tidy".to_owned()],
            role,
            host: first,
            overlap: Overlap::Skip,
            timeout: None,
            history: std::num::NonZeroU32::MIN,
        };
        self.project.jobs.insert(name, job);
        self
    }

    pub(crate) fn seen(&mut self, name: &str) -> &mut ObservedHost {
        self.observed.hosts.get_mut(&host(name)).expect("a host")
    }

    /// Plans a deploy.
    pub(crate) fn plan(&self, version: &str) -> Result<Plan, RolloutError> {
        rollout(&self.request(version), &self.observed)
    }

    pub(crate) fn request(&self, version: &str) -> RolloutRequest<'_> {
        let number = self.rollouts + 1;
        let secret = SecretName::parse("TOKEN").expect("a secret");
        RolloutRequest {
            project: &self.project,
            version: Tag::parse(version).expect("a version"),
            id: id(number),
            created_at: format!("2026-11-22T03:{number:02}:00Z"),
            author: Author { name: "Jane".to_owned(), email: "jane@example.com".to_owned() },
            git_revision: None,
            secrets: BTreeMap::from([(secret, SecretFingerprint("f".repeat(16)))]),
            random: [number; 16],
            image: self.image,
            proxy: ProxyBoot::Ensure,
            error_pages: self.error_pages.clone(),
            namesakes: self.namesakes,
        }
    }

    /// Plans a deploy and lets it happen.
    pub(crate) fn deploy(mut self, version: &str) -> Self {
        let plan = self.plan(version).expect("a plan");
        self.rollouts += 1;
        self.happen(&plan);
        self
    }

    pub(crate) fn happen(&mut self, plan: &Plan) {
        apply(plan, &mut self.observed);
    }

    pub(crate) fn back(&self, target: RollbackTarget) -> Result<Plan, RollbackError> {
        rollback(&self.project, id(self.rollouts + 1), &target, &self.observed)
    }
}

fn proxy() -> ProxySettings {
    ProxySettings {
        hosts: Vec::new(),
        app_port: 3000,
        health_check: HealthCheck::default(),
        response_timeout: Duration::from_secs(30),
        path_prefixes: Vec::new(),
        strip_path_prefix: true,
        forward_headers: false,
        buffering: Buffering { requests: true, responses: true, ..Buffering::default() },
        ..ProxySettings::default()
    }
}

/// Shows a plan: its stages, and every step with how it is undone.
pub(crate) fn render(plan: &Plan) -> String {
    let mut text =
        format!("{:?} {} {}\n", plan.kind, plan.id, plan.version.as_ref().map_or("-", |v| v.as_str()));
    for stage in &plan.stages {
        writeln!(text, "{:?}, {:?}", stage.kind, stage.on_failure).expect("text");
        for lane in &stage.lanes {
            writeln!(text, "  {}", lane.host).expect("text");
            for step in &lane.steps {
                writeln!(text, "    {} {} [{}]", step.id, step.action, step.undo).expect("text");
            }
        }
    }
    text
}

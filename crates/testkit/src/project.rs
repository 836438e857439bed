use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use freehold_model::{
    Author, Boot, BootLimit, Buffering, Destination, Environment, HealthCheck, HostName, JobName, Overlap,
    Project, ProxyServiceName, ProxySettings, ReleaseId, Repository, Role, RoleHost, RoleName, Schedule,
    ScheduledJob, ServiceName, Tag,
};
use freehold_plan::{ImageSource, ProxyBoot, RolloutRequest};

/// Makes projects.
#[derive(Debug, Clone)]
pub struct ProjectFixture {
    project: Project,
}

#[expect(clippy::expect_used, reason = "a fixture that cannot be made is a broken test")]
impl ProjectFixture {
    /// Makes the project `app` with the role `web` behind the proxy on these hosts.
    #[must_use]
    pub fn new(hosts: &[&str]) -> Self {
        let service = ServiceName::parse("app").expect("a service name");
        let project = Project::new(service, Repository::parse("acme/app").expect("a repository"));
        Self { project }.role("web", hosts, true)
    }

    /// Adds a role, behind the proxy or not.
    #[must_use]
    pub fn role(mut self, name: &str, hosts: &[&str], is_proxied: bool) -> Self {
        let name = RoleName::parse(name).expect("a role name");
        let proxy = is_proxied.then(|| ProxySettings {
            hosts: Vec::new(),
            app_port: 3000,
            health_check: HealthCheck::default(),
            response_timeout: Duration::from_secs(30),
            path_prefixes: Vec::new(),
            strip_path_prefix: true,
            forward_headers: false,
            buffering: Buffering { requests: true, responses: true, ..Buffering::default() },
            ..ProxySettings::default()
        });
        let proxy_service = ProxyServiceName::parse(self.project.role_prefix(&name)).expect("a service name");
        let hosts = hosts
            .iter()
            .map(|host| RoleHost { name: host_name(host), environment: Environment::default() })
            .collect();
        let role = Role { hosts, proxy, ..Role::new(name.clone(), proxy_service) };
        self.project.roles.insert(name, role);
        self
    }

    /// Sets the destination.
    #[must_use]
    pub fn destination(mut self, name: &str) -> Self {
        self.project.destination = Some(Destination::parse(name).expect("a destination"));
        for role in self.project.roles.clone().into_keys() {
            let prefix = self.project.role_prefix(&role);
            if let Some(role) = self.project.roles.get_mut(&role) {
                role.proxy_service = ProxyServiceName::parse(prefix).expect("a service name");
            }
        }
        self
    }

    /// Gives a role a scheduled job, which runs on the role's first host.
    #[must_use]
    pub fn job(mut self, name: &str, role: &str) -> Self {
        let name = JobName::parse(name).expect("a job name");
        let role = RoleName::parse(role).expect("a role name");
        let host = self.project.roles.get(&role).and_then(|role| role.hosts.first());
        let job = ScheduledJob {
            name: name.clone(),
            schedule: Schedule::parse("@hourly").expect("a schedule"),
            command: vec!["tidy".to_owned()],
            host: host.map(|entry| entry.name.clone()),
            role,
            overlap: Overlap::Skip,
            timeout: None,
            history: NonZeroU32::MIN,
        };
        self.project.jobs.insert(name, job);
        self
    }

    /// Rolls out to so many hosts at a time, with a pause between the batches.
    #[must_use]
    pub fn batches(mut self, hosts: u32, wait: Duration) -> Self {
        self.project.boot =
            Boot { limit: NonZeroU32::new(hosts).map(BootLimit::Hosts), wait, ..Boot::default() };
        self
    }

    /// Keeps so many stopped containers.
    #[must_use]
    pub fn retain(mut self, containers: u32) -> Self {
        self.project.retain_containers = NonZeroU32::new(containers).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// Changes what is not covered by another method.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Project)) -> Self {
        change(&mut self.project);
        self
    }

    /// Returns the project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Returns a request to deploy a version as the rollout of this number.
    #[must_use]
    pub fn request(&self, version: &str, number: u8) -> RolloutRequest<'_> {
        RolloutRequest {
            project: &self.project,
            version: Tag::parse(version).expect("a version"),
            id: rollout_id(number),
            created_at: format!("2026-11-22T03:{number:02}:00Z"),
            author: Author { name: "Jane".to_owned(), email: "jane@example.com".to_owned() },
            git_revision: None,
            secrets: BTreeMap::new(),
            random: [number; 16],
            image: ImageSource::Build,
            proxy: ProxyBoot::Ensure,
            error_pages: BTreeMap::new(),
            namesakes: freehold_plan::Namesakes::Stay,
        }
    }
}

/// Returns the identifier of the rollout of this number; greater numbers are later.
#[must_use]
pub fn rollout_id(number: u8) -> ReleaseId {
    ReleaseId::new(&format!("20261122T03{number:02}00Z"), [0, 0, number])
}

/// Makes the name of a host.
///
/// # Panics
/// If the text is not one.
#[must_use]
#[expect(clippy::expect_used, reason = "a fixture that cannot be made is a broken test")]
pub fn host_name(text: &str) -> HostName {
    HostName::parse(text).expect("a host name")
}

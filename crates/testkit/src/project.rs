use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use freehold_model::{
    Author, Boot, BootLimit, Buffering, BuildPlace, Builder, ContainerOptions, Destination, Environment,
    HealthCheck, HookSettings, HostName, Logging, Project, ProxyRun, ProxyServiceName, ProxySettings,
    ReleaseId, Repository, Role, RoleHost, RoleName, ServiceName, SshSettings, Tag, Timeouts,
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
        let project = Project {
            service: ServiceName::parse("app").expect("a service name"),
            destination: None,
            image: Repository::parse("acme/app").expect("a repository"),
            roles: BTreeMap::new(),
            primary_role: RoleName::parse("web").expect("a role name"),
            builder: Builder {
                architectures: Vec::new(),
                context: None,
                dockerfile: PathBuf::from("Dockerfile"),
                target: None,
                args: BTreeMap::new(),
                secrets: Vec::new(),
                on: BuildPlace::Local,
            },
            ssh: SshSettings::default(),
            proxy_run: ProxyRun::default(),
            boot: Boot::default(),
            retain_containers: NonZeroU32::MIN.saturating_add(4),
            timeouts: Timeouts::default(),
            secrets_path: PathBuf::from(".kamal/secrets"),
            hooks: HookSettings::default(),
        };
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
            buffering: Buffering { requests: true, responses: true },
        });
        let role = Role {
            proxy_service: ProxyServiceName::parse(self.project.role_prefix(&name)).expect("a service name"),
            hosts: hosts
                .iter()
                .map(|host| RoleHost { name: host_name(host), environment: Environment::default() })
                .collect(),
            command: None,
            proxy,
            volumes: Vec::new(),
            labels: BTreeMap::new(),
            options: ContainerOptions::default(),
            logging: Logging::default(),
            stop_timeout: None,
            name: name.clone(),
        };
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

    /// Rolls out to so many hosts at a time, with a pause between the batches.
    #[must_use]
    pub fn batches(mut self, hosts: u32, wait: Duration) -> Self {
        self.project.boot = Boot { limit: NonZeroU32::new(hosts).map(BootLimit::Hosts), wait };
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

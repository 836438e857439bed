use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freehold_docker::RegistryCredentials;
use freehold_fleet::{EngineHost, Gate, Host, Reach, SshReach, Stock, Watch, Workshop, World};
use freehold_model::{Architecture, Credential, HostName, Project, RegistryPlace, SecretValues};
use freehold_ssh::{ClientEnvironment, Connector, FirstUse, Prompt};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;

use crate::arguments::HostKeyAnswer;
use crate::context::Context;
use crate::preflight::Building;
use crate::ui::Ui;

/// The hosts that a command works with. Nothing is connected before it is needed.
#[derive(Debug)]
pub(crate) struct Hosts {
    engines: BTreeMap<HostName, Arc<EngineHost>>,
    /// Machines that only build, which the workshop knows as long as they are kept here.
    build_hosts: Vec<Arc<EngineHost>>,
    workshop: Arc<Workshop>,
    watch: Arc<Ui>,
    primary: HostName,
    /// Their names in the order of the deploy file.
    order: Vec<HostName>,
}

impl Hosts {
    /// Names the hosts of a project, the first of `names` being the one that keeps the lock.
    pub(crate) fn new(
        context: &Context,
        project: &Project,
        names: &[HostName],
        secrets: &SecretValues,
        building: Building,
    ) -> Option<Self> {
        let watch = Arc::new(context.ui.clone());
        let workshop = {
            let registries = registries(project, secrets);
            let environment = context.environment().clone();
            Workshop::new(
                engine_socket(context),
                building.contexts,
                registries,
                executables(context),
                environment,
            )
        };
        let ssh = ssh_reach(context, project, secrets);
        let mut engines = BTreeMap::new();
        for name in names {
            let reach = if name.is_local() {
                Reach::Local { home: home(context), socket: engine_socket(context) }
            } else {
                Reach::Ssh(Box::new(ssh.clone()))
            };
            let events: Arc<dyn Watch> = Arc::<Ui>::clone(&watch);
            let engine = Arc::new(
                EngineHost::new(name.clone(), reach, Arc::clone(&workshop), events)
                    .with_idle_timeout(project.connections.pool_idle_timeout),
            );
            workshop.register(&engine);
            engines.insert(name.clone(), engine);
        }
        let mut build_hosts = Vec::new();
        for remote in building.remotes.into_iter().filter(|remote| !engines.contains_key(&remote.host)) {
            let mut reach = ssh.clone();
            reach.settings.user = remote.user.or(reach.settings.user);
            reach.settings.port = remote.port.or(reach.settings.port);
            let events: Arc<dyn Watch> = Arc::<Ui>::clone(&watch);
            let reach = Reach::Ssh(Box::new(reach));
            let engine = Arc::new(EngineHost::new(remote.host, reach, Arc::clone(&workshop), events));
            workshop.register(&engine);
            build_hosts.push(engine);
        }
        Some(Self {
            engines,
            build_hosts,
            workshop,
            watch,
            primary: names.first()?.clone(),
            order: names.to_vec(),
        })
    }

    /// Returns the host that keeps the lock.
    pub(crate) fn primary(&self) -> Option<&Arc<EngineHost>> {
        self.engines.get(&self.primary)
    }

    /// Returns the names of all hosts, in the order of the deploy file.
    pub(crate) fn names(&self) -> &[HostName] {
        &self.order
    }

    /// Returns a host.
    pub(crate) fn get(&self, name: &HostName) -> Option<&Arc<EngineHost>> {
        self.engines.get(name)
    }

    /// Returns a machine that only builds, or a host.
    pub(crate) fn builder(&self, name: &HostName) -> Option<&Arc<EngineHost>> {
        self.build_hosts.iter().find(|host| host.name() == name).or_else(|| self.get(name))
    }

    /// Returns what this machine builds with.
    pub(crate) fn workshop(&self) -> &Arc<Workshop> {
        &self.workshop
    }

    /// Lays in what accessories need from this machine.
    pub(crate) fn lay_in(&self, stock: Stock) {
        self.workshop.lay_in(stock);
    }

    /// Asks every host the same, all at once, and returns the answers in the order of the deploy file.
    ///
    /// # Errors
    /// The first host that does not answer, in the order of the deploy file.
    pub(crate) async fn each<T, E, F>(
        &self,
        ask: impl Fn(Arc<EngineHost>) -> F,
    ) -> Result<Vec<(HostName, T)>, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (name, host) in &self.engines {
            let (name, answer) = (name.clone(), ask(Arc::clone(host)));
            tasks.spawn(async move { (name, answer.await) });
        }
        let mut answers: BTreeMap<HostName, Result<T, E>> = tasks.join_all().await.into_iter().collect();
        let mut sorted = Vec::new();
        for name in &self.order {
            if let Some(answer) = answers.remove(name) {
                sorted.push((name.clone(), answer?));
            }
        }
        Ok(sorted)
    }

    /// Returns the world that a plan is executed in.
    pub(crate) fn world(&self, gate: Option<Arc<dyn Gate>>) -> World {
        let hosts = self
            .engines
            .iter()
            .map(|(name, engine)| (name.clone(), Arc::<EngineHost>::clone(engine) as Arc<dyn Host>))
            .collect();
        let watch: Arc<dyn Watch> = Arc::<Ui>::clone(&self.watch);
        let mut world = World::new(hosts, self.primary.clone(), watch);
        world.gate = gate;
        world
    }
}

fn home(context: &Context) -> PathBuf {
    PathBuf::from(context.process.variable("HOME").unwrap_or("/root"))
}

/// Finds this machine's engine: where `DOCKER_HOST` says, otherwise where Docker or a rootless engine has its socket.
pub(crate) fn engine_socket(context: &Context) -> PathBuf {
    if let Some(path) =
        context.process.variable("DOCKER_HOST").and_then(|address| address.strip_prefix("unix://"))
    {
        return PathBuf::from(path);
    }
    let usual = PathBuf::from("/var/run/docker.sock");
    let rootless =
        context.process.variable("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("docker.sock"));
    match rootless {
        Some(rootless) if !usual.exists() && rootless.exists() => rootless,
        _ => usual,
    }
}

/// Returns the executables that the proxy's image may be made of: our own, and those that variables name.
fn executables(context: &Context) -> BTreeMap<Architecture, PathBuf> {
    let mut executables = BTreeMap::new();
    if let Some(own) = Architecture::of_this_executable() {
        executables.insert(own, context.process.executable.clone());
    }
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let variable = format!("FREEHOLD_EXECUTABLE_{}", architecture.as_str().to_uppercase());
        if let Some(path) = context.process.variable(&variable) {
            executables.insert(architecture, context.process.directory.join(path));
        }
    }
    executables
}

/// Returns names and passwords for the registries of the project. A command that has not read the secrets gets none.
fn registries(project: &Project, secrets: &SecretValues) -> Vec<RegistryCredentials> {
    let value = |credential: &Credential| match credential {
        Credential::Plain(text) => Some(text.value().clone()),
        Credential::Secret(name) => secrets.value(name).cloned(),
    };
    let of_accessories = project.accessory_registries.values();
    let known = project.registry.iter().chain(of_accessories).filter_map(|registry| {
        let server = match &registry.place {
            RegistryPlace::DockerHub => None,
            RegistryPlace::Server(server) => Some(server.to_string()),
            RegistryPlace::Local { .. } => return None,
        };
        let credentials = registry.credentials.as_ref()?;
        let username = value(&credentials.username)?.expose_secret().to_owned();
        Some(RegistryCredentials { server, username, password: value(&credentials.password)? })
    });
    known.collect()
}

fn ssh_reach(context: &Context, project: &Project, secrets: &SecretValues) -> SshReach {
    let process = &context.process;
    let environment = ClientEnvironment {
        home: process.variable("HOME").map(PathBuf::from),
        user: process.variable("USER").or_else(|| process.variable("LOGNAME")).unwrap_or("root").to_owned(),
        ssh_auth_sock: process.variable("SSH_AUTH_SOCK").map(PathBuf::from),
        project_directory: process.directory.clone(),
        variables: process.environment.clone(),
        ssh_program: program(context, "ssh"),
    };
    let named = project.ssh.key_data.iter().filter_map(|name| secrets.value(name).cloned());
    let key_data: Vec<SecretString> =
        named.chain(project.ssh.key_texts.iter().map(|key| key.value().clone())).collect();
    let prompt: Arc<dyn Prompt> = Arc::new(context.ui.clone());
    let connector = Connector::new(environment, first_use(context), prompt).with_limits(&project.connections);
    SshReach { connector, settings: project.ssh.clone(), key_data }
}

fn first_use(context: &Context) -> FirstUse {
    match context.arguments.host_key {
        Some(HostKeyAnswer::Ask) => FirstUse::Ask,
        Some(HostKeyAnswer::Accept) => FirstUse::Accept,
        Some(HostKeyAnswer::Refuse) => FirstUse::Refuse,
        None if context.ui.can_ask() => FirstUse::Ask,
        None => FirstUse::Refuse,
    }
}

/// Finds a program as a shell does.
fn program(context: &Context, name: &str) -> Option<PathBuf> {
    let path = context.process.variable("PATH")?;
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_docker::BuildCache;
use freehold_fleet::{
    AUTOMATIC_LOCK_MESSAGE, Event, ExecuteError, Gate, Holder, Host, Intent, LEASE_TIME_TO_LIVE, Lease,
    LeaseRequest, Recovered, Report, Scope, Stop, Watch, World, observe, recover,
};
use freehold_model::{
    Author, HostName, Project, ReleaseId, ReleaseVersion, SecretFingerprint, SecretName, SecretValues,
};
use freehold_plan::{ImageSource, Namesakes, Observed, Plan, ProxyBoot, RolloutRequest, rollout};
use tokio::task::JoinSet;

use crate::audit::{self, Act};
use crate::command::deploy::NoVersion;
use crate::context::Context;
use crate::docker_login;
use crate::error::{CommandError, FileError};
use crate::git::{self, Repository};
use crate::hook::{Hook, Hooks, Telling};
use crate::hosts::Hosts;
use crate::preflight::{self, Building};
use crate::project::{self, Loaded};
use crate::record;
use crate::secret;

mod beside;
mod error;
mod held;
mod scope;

use error::ChangeError;
pub(crate) use held::Held;
pub(crate) use scope::needed;
use scope::{all_names, names, needed_by_images};

/// What a command that changes hosts needs beside the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// The image is built and brought to the hosts.
    Yes(BuildCache),
    /// It is built and pushed where there is a registry; no host gets it yet.
    Only(BuildCache),
    /// It is built and stays on the engine, whatever the deploy file says of a registry.
    Here(BuildCache),
    /// The same from the working tree.
    Tree(BuildCache),
    /// It is there.
    No,
}

/// Whether a command is written down where `output` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Yes,
    No,
}

/// A command that changes hosts, ready to begin: everything that can be checked on this machine is.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) context: &'a Context,
    pub(crate) loaded: Loaded,
    pub(crate) hosts: Hosts,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) secrets: SecretValues,
    pub(crate) author: Author,
    pub(crate) repository: Repository,
    /// The version, where the command has one.
    pub(crate) version: Option<ReleaseVersion>,
    /// The proxy's error pages by file name.
    pub(crate) error_pages: BTreeMap<String, String>,
    /// What the audit log says that was done; where there is nothing, the plan tells.
    pub(crate) acts: Vec<Act>,
    /// What becomes of the same application under other names.
    pub(crate) namesakes: Namesakes,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) plan: Plan,
    pub(crate) report: Report,
    pub(crate) observed: Observed,
}

impl<'a> Change<'a> {
    /// Reads and checks everything on this machine, then runs the hook that comes before the first connection.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare(context: &'a Context, build: Build) -> Result<Self, CommandError> {
        context.until_stopped(Self::prepare_all(context, build, needed, names, Recorded::Yes)).await
    }

    /// The same for a command that only builds and moves images: with the secrets of builds and registries.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_images(context: &'a Context, build: Build) -> Result<Self, CommandError> {
        context.until_stopped(Self::prepare_all(context, build, needed_by_images, names, Recorded::Yes)).await
    }

    /// The same for a command about registries: with every host, those of accessories too.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_registry(context: &'a Context) -> Result<Self, CommandError> {
        let prepare = Self::prepare_all(context, Build::No, needed_by_images, all_names, Recorded::Yes);
        context.until_stopped(prepare).await
    }

    /// The same for a command that looks at what a change would do, or runs something beside the application.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_without_record(
        context: &'a Context,
        build: Build,
    ) -> Result<Self, CommandError> {
        context.until_stopped(Self::prepare_all(context, build, needed, names, Recorded::No)).await
    }

    /// The same for a command that starts no container and builds nothing: a password manager is not asked for what
    /// nobody needs. Where a rollout was cut off that needs secrets to be finished, they are read then.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_without_secrets(context: &'a Context) -> Result<Self, CommandError> {
        let needed = |project: &Project| project.ssh.key_data.clone();
        context.until_stopped(Self::prepare_all(context, Build::No, needed, names, Recorded::Yes)).await
    }

    /// The same for a command about the hosts themselves: with every host, those of accessories too.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_servers(context: &'a Context) -> Result<Self, CommandError> {
        let needed = |project: &Project| project.ssh.key_data.clone();
        context.until_stopped(Self::prepare_all(context, Build::No, needed, all_names, Recorded::Yes)).await
    }

    /// The same for a command about the hosts themselves: with every host, whatever the filters are, and without secrets.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_every_host(context: &'a Context) -> Result<Self, CommandError> {
        let needed = |project: &Project| project.ssh.key_data.clone();
        let all = |loaded: &Loaded| loaded.whole.all_hosts();
        context.until_stopped(Self::prepare_all(context, Build::No, needed, all, Recorded::Yes)).await
    }

    async fn prepare_all(
        context: &'a Context,
        build: Build,
        needed: impl Fn(&Project) -> Vec<SecretName>,
        names: impl Fn(&Loaded) -> Vec<HostName>,
        recorded: Recorded,
    ) -> Result<Self, CommandError> {
        let mut loaded = project::load(context).await?;
        if let Build::Tree(_) = build {
            loaded.chosen.builder.context.get_or_insert_with(|| ".".into());
        }
        if let Build::Tree(_) | Build::Here(_) = build {
            loaded.chosen.registry = None;
        }
        if let Err(error) = docker_login::fill(context, &mut loaded.chosen).await {
            if build != Build::No {
                return Err(error.into());
            }
            // Most commands that build nothing need no registry.
            context.ui.warn(format!("registries are used without a login: {error}"));
        }
        let remotes = preflight::settle(context, &mut loaded.chosen).await?;
        // What builds is not what the filters are about.
        loaded.whole.builder = loaded.chosen.builder.clone();
        loaded.whole.images = loaded.chosen.images.clone();
        let (repository, author) = tokio::join!(Repository::look(context), git::author(context));
        let repository = repository?;
        let project = &loaded.chosen;
        let version = match build {
            Build::Yes(_) | Build::Only(_) | Build::Here(_) => {
                Some(git::version(context, project, &repository)?)
            }
            Build::Tree(_) | Build::No => git::given_version(context)?,
        };
        if recorded == Recorded::Yes {
            let version = version.as_ref().map(ReleaseVersion::as_str).or(repository.revision.as_deref());
            record::begin(context, project, version, &author)?;
        }
        let mut contexts = match build {
            Build::Yes(cache) | Build::Only(cache) | Build::Here(cache) | Build::Tree(cache) => {
                preflight::build_contexts(context, project, &repository, cache).await?
            }
            Build::No => BTreeMap::new(),
        };
        if !matches!(build, Build::Yes(_)) {
            // That hosts have the same image is no reason not to build one that is to be here.
            contexts.values_mut().for_each(|context| context.hosts.clear());
        }
        let building = Building { contexts, remotes };
        let error_pages = preflight::error_pages(context, project)?;
        let trust = preflight::trust(context, project)?;
        let secrets = secret::values(context, project, &needed(project)).await?;
        let telling = Telling {
            project,
            version: version.as_ref().map(ReleaseVersion::as_str).or(repository.revision.as_deref()),
            performer: &author.email,
        };
        let hooks = Arc::new(Hooks::find(context, &telling)?.with_secrets(context, project).await?);
        let names = names(&loaded);
        let hosts = Hosts::new(context, project, &names, &secrets, building).ok_or(ChangeError::NoHosts)?;
        hosts.workshop().trust(trust);
        hooks.run(Hook::PreConnect).await?;
        let (acts, namesakes) = (Vec::new(), Namesakes::Stay);
        Ok(Self {
            context,
            loaded,
            hosts,
            hooks,
            secrets,
            author,
            repository,
            version,
            error_pages,
            acts,
            namesakes,
        })
    }

    /// Returns the part of the project that the command is about.
    pub(crate) fn project(&self) -> &Project {
        &self.loaded.chosen
    }

    fn stop(&self) -> Stop {
        Stop { soft: self.context.process.stop.clone(), hard: self.context.process.abort.clone() }
    }

    /// Takes the deploy lock, or works under that of the process that started us.
    ///
    /// # Errors
    /// Who holds it, or what a host said.
    pub(crate) async fn lock(&self, world: &World) -> Result<Lease, CommandError> {
        let stem = self.loaded.whole.stem();
        if self.context.process.variable("KAMAL_LOCK") == Some("true") {
            return Ok(Lease::inherited(world, &stem).await?);
        }
        let version =
            self.version.as_ref().map(ToString::to_string).or_else(|| self.repository.revision.clone());
        let request = LeaseRequest {
            stem,
            performer: self.author.name.clone(),
            version,
            message: AUTOMATIC_LOCK_MESSAGE.to_owned(),
            holder: holder()?,
            time_to_live: Some(LEASE_TIME_TO_LIVE),
        };
        let waiting = self.context.arguments.waiting();
        Ok(Lease::acquire(world, &request, waiting, &self.stop()).await?)
    }

    /// Takes the lock, finishes or undoes what a dead client left, looks, decides, and does it.
    ///
    /// # Errors
    /// What went wrong; the lock is given back.
    pub(crate) async fn carry_out(
        &self,
        decide: impl AsyncFnOnce(&Observed) -> Result<Plan, CommandError>,
    ) -> Result<Done, CommandError> {
        self.under_lock(async |held| held.carry_out(decide).await).await
    }

    /// Takes the lock, finishes or undoes what a dead client left, and does some work of one or several plans.
    ///
    /// # Errors
    /// What went wrong; the lock is given back.
    pub(crate) async fn under_lock<T>(
        &self,
        work: impl AsyncFnOnce(&Held<'_, 'a>) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let gate: Arc<dyn Gate> = Arc::<Hooks>::clone(&self.hooks);
        let world = self.hosts.world(Some(gate));
        // A lock that was taken in the last moment before Ctrl-C expires by itself.
        let lease = self.context.until_stopped(self.lock(&world)).await?;
        self.hooks.lock_is_held(true);
        // In boxes, because the compiler follows futures in futures only so far.
        let outcome = Box::pin(async {
            let secrets = self.secrets_to_recover().await?;
            recover(&world, &lease, &secrets, &self.stop(), Intent::Automatic).await?;
            Box::pin(work(&Held::new(self, &world, &lease))).await
        })
        .await;
        self.hooks.lock_is_held(lease.is_inherited());
        self.release(lease).await;
        outcome
    }

    /// Takes the lock for work that is no plan.
    ///
    /// # Errors
    /// What went wrong; the lock is given back.
    pub(crate) async fn with_lock<T>(
        &self,
        work: impl AsyncFnOnce() -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let world = self.hosts.world(None);
        let lease = self.context.until_stopped(self.lock(&world)).await?;
        self.hooks.lock_is_held(true);
        let outcome = self.context.until_stopped(work()).await;
        self.hooks.lock_is_held(lease.is_inherited());
        self.release(lease).await;
        outcome
    }

    /// Writes down what was done in the audit file that Kamal and Freehold share. The work is done or put back by now,
    /// so that a host that does not take it is worth a warning only.
    async fn audit(&self, world: &World, plan: &Plan, (acts, error): (&[Act], Option<&ExecuteError>)) {
        let project = &self.loaded.whole;
        let lines = |host: &HostName| match error {
            None => audit::acts(project, plan, acts, host),
            Some(error) => {
                let act = acts.first().map_or_else(|| audit::headline(plan), |act| act.text.clone());
                vec![format!("Not done: {act}: {error}")]
            }
        };
        let mut writes = JoinSet::new();
        for host in plan.hosts.iter().filter_map(|name| world.hosts.get(name)) {
            let lines: Vec<String> = lines(host.name())
                .iter()
                .map(|act| audit::line(self.context, project, &self.author.email, act))
                .collect();
            let (host, stem) = (Arc::clone(host), project.stem());
            writes.spawn(async move { (host.name().clone(), host.append_audit(&stem, &lines).await) });
        }
        for (host, written) in writes.join_all().await {
            if let Err(error) = written {
                let message = format!("the audit log could not be written: {error}");
                self.context.ui.event(Event::Warning { host: Some(host), message });
            }
        }
    }

    /// Finishes or undoes what a dead client left, and nothing else.
    ///
    /// # Errors
    /// What went wrong; the lock is given back.
    pub(crate) async fn recover(&self, intent: Intent) -> Result<Recovered, CommandError> {
        let world = self.hosts.world(None);
        let lease = self.context.until_stopped(self.lock(&world)).await?;
        let outcome = recover(&world, &lease, &self.secrets, &self.stop(), intent).await;
        self.release(lease).await;
        Ok(outcome?)
    }

    /// Gives the lock back. It expires by itself if that is not possible, so that is no failure of the command.
    async fn release(&self, lease: Lease) {
        if let Err(error) = lease.release().await {
            let message = format!("the deploy lock could not be given back and expires by itself: {error}");
            self.context.ui.event(Event::Warning { host: None, message });
        }
    }

    /// Returns the secrets with which a rollout that was cut off can be finished.
    ///
    /// A rollout over more hosts than those of this run must not be decided upon by some of them.
    async fn secrets_to_recover(&self) -> Result<SecretValues, CommandError> {
        let Some(primary) = self.hosts.primary() else { return Ok(self.secrets.clone()) };
        let journal = primary.read_journal(&self.loaded.whole.stem()).await?;
        let Some(plan) = journal.and_then(|journal| journal.plan) else { return Ok(self.secrets.clone()) };
        if self.loaded.is_filtered()
            && let Some(host) = plan.hosts.iter().find(|host| self.hosts.get(host).is_none())
        {
            return Err(ChangeError::Unfinished { host: host.clone() }.into());
        }
        secret::values(self.context, &self.loaded.whole, &needed(&self.loaded.whole)).await
    }

    /// Looks at every host without the lock.
    ///
    /// # Errors
    /// Every host that does not answer.
    pub(crate) async fn observe(&self) -> Result<Observed, CommandError> {
        let world = self.hosts.world(None);
        self.context.until_stopped(observe(&world, &Scope { project: &self.loaded.whole })).await
    }

    /// Returns the version to deploy: what was asked for, otherwise the commit.
    ///
    /// # Errors
    /// There is neither.
    pub(crate) fn version_to_deploy(&self) -> Result<ReleaseVersion, CommandError> {
        match (&self.version, &self.repository.revision) {
            (Some(version), _) => Ok(version.clone()),
            (None, Some(revision)) => {
                Ok(ReleaseVersion::parse(revision.as_str()).map_err(git::GitError::from)?)
            }
            (None, None) => Err(NoVersion.into()),
        }
    }

    /// Plans the rollout of a version.
    ///
    /// # Errors
    /// Why a host cannot take it.
    pub(crate) async fn plan_rollout(
        &self,
        observed: &Observed,
        version: &ReleaseVersion,
        image: ImageSource,
        proxy: ProxyBoot,
    ) -> Result<Plan, CommandError> {
        Ok(rollout(&self.rollout_request(version, image, proxy).await?, observed)?)
    }

    /// Describes the rollout of a version.
    ///
    /// # Errors
    /// The secrets' fingerprints cannot be made.
    pub(crate) async fn rollout_request(
        &self,
        version: &ReleaseVersion,
        image: ImageSource,
        proxy: ProxyBoot,
    ) -> Result<RolloutRequest<'_>, CommandError> {
        Ok(RolloutRequest {
            project: self.project(),
            version: version.clone(),
            id: self.release_id(),
            created_at: self.created_at(),
            author: self.author.clone(),
            git_revision: self.repository.revision.clone(),
            secrets: self.fingerprints().await?,
            random: self.context.process.seed,
            image,
            proxy,
            error_pages: self.error_pages.clone(),
            namesakes: self.namesakes,
        })
    }

    /// Returns the time as releases have it.
    pub(crate) fn created_at(&self) -> String {
        self.context.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Draws the identifier of what is done now.
    pub(crate) fn release_id(&self) -> ReleaseId {
        release_id(self.context)
    }

    /// Draws the identifier of one of several plans of this command.
    pub(crate) fn numbered_id(&self, index: usize) -> ReleaseId {
        let compact = self.context.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let [a, b, c, ..] = self.context.process.seed;
        let number = u8::try_from(index % 256).unwrap_or_default();
        ReleaseId::new(&compact, [a, b, c.wrapping_add(number)])
    }

    /// Returns the fingerprints of all secrets that were read.
    ///
    /// # Errors
    /// The primary host does not answer.
    pub(crate) async fn fingerprints(&self) -> Result<BTreeMap<SecretName, SecretFingerprint>, CommandError> {
        if self.secrets.iter().next().is_none() {
            return Ok(BTreeMap::new());
        }
        let Some(primary) = self.hosts.primary() else { return Err(ChangeError::NoHosts.into()) };
        let key = primary.fingerprint_key().await?;
        let print =
            |(name, value): (&SecretName, _)| (name.clone(), freehold_secrets::fingerprint(&key, value));
        Ok(self.secrets.iter().map(print).collect())
    }

    /// Runs the hook that comes after everything, and says how long the command took.
    ///
    /// # Errors
    /// The hook failed; the release is live all the same.
    pub(crate) async fn finish(&self) -> Result<Duration, CommandError> {
        let took = self.context.process.clock.elapsed();
        self.hooks.run(Hook::PostDeploy).await?;
        Ok(took)
    }
}

/// Draws the identifier of what is done now.
pub(crate) fn release_id(context: &Context) -> ReleaseId {
    let compact = context.now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let [a, b, c, ..] = context.process.seed;
    ReleaseId::new(&compact, [a, b, c])
}

/// Describes this process for the lock.
pub(crate) fn holder() -> Result<Holder, FileError> {
    Holder::current()
        .map_err(|source| FileError { operation: "describe this process for the lock".to_owned(), source })
}

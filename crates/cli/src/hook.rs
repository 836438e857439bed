use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freehold_fleet::{Gate, StepError};
use freehold_model::{
    Diagnose, ErrorKind, Evidence, HookOutput, HookSettings, HostName, Project, SecretValues,
};
use freehold_plan::{Plan, PlanKind, Stage, StageKind};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::CommandError;
use crate::secret;
use crate::ui::{Activity, Line, Tone, Ui, short_version};

/// The hooks that this version runs, in the order of their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    PreConnect,
    DockerSetup,
    PreBuild,
    PreDeploy,
    PreAppBoot,
    PostAppBoot,
    PostDeploy,
    PreProxyReboot,
    PostProxyReboot,
}

impl Hook {
    const ALL: [Self; 9] = [
        Self::PreConnect,
        Self::DockerSetup,
        Self::PreBuild,
        Self::PreDeploy,
        Self::PreAppBoot,
        Self::PostAppBoot,
        Self::PostDeploy,
        Self::PreProxyReboot,
        Self::PostProxyReboot,
    ];

    fn file_name(self) -> &'static str {
        match self {
            Self::PreConnect => "pre-connect",
            Self::DockerSetup => "docker-setup",
            Self::PreBuild => "pre-build",
            Self::PreDeploy => "pre-deploy",
            Self::PreAppBoot => "pre-app-boot",
            Self::PostAppBoot => "post-app-boot",
            Self::PostDeploy => "post-deploy",
            Self::PreProxyReboot => "pre-proxy-reboot",
            Self::PostProxyReboot => "post-proxy-reboot",
        }
    }

    fn gets_secrets(self) -> bool {
        matches!(self, Self::PreConnect | Self::PreDeploy | Self::PostDeploy)
    }
}

/// A hook that did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It cannot be run.
    #[error("hook `{}` is not executable", path.display())]
    NotExecutable { path: PathBuf },
    /// It is one of Kamal 1's.
    #[error("hook `{}` is one of Kamal 1, which nothing runs any more", path.display())]
    Renamed { path: PathBuf, now: &'static str },
    /// It did not start.
    #[error("cannot start hook `{name}`")]
    Start {
        name: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// It ended with another code than 0.
    #[error("hook `{name}` failed ({status})")]
    Failed { name: &'static str, status: String, output: Vec<String> },
    /// It was ended by Ctrl-C.
    #[error("hook `{name}` was interrupted")]
    Interrupted { name: &'static str },
}

impl Diagnose for HookError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotExecutable { .. } | Self::Renamed { .. } => ErrorKind::Configuration,
            Self::Start { .. } | Self::Failed { .. } => ErrorKind::Failed,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NotExecutable { path } => {
                vec![format!("`chmod +x {}`, or leave all hooks out with `--skip-hooks`", path.display())]
            }
            Self::Renamed { now, .. } => vec![format!("rename it to `{now}`")],
            Self::Start { .. } => {
                vec!["its first line must name an interpreter that is installed: `#!/bin/sh`".to_owned()]
            }
            Self::Failed { .. } | Self::Interrupted { .. } => Vec::new(),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        match self {
            Self::Failed { name, output, .. } => {
                vec![Evidence { title: format!("last lines of `{name}`"), lines: output.clone() }]
            }
            _ => Vec::new(),
        }
    }
}

/// The hooks of Kamal 1 and what became of them.
const RENAMED: [(&str, &str); 2] =
    [("pre-traefik-reboot", "pre-proxy-reboot"), ("post-traefik-reboot", "post-proxy-reboot")];

/// The commands that `pre-deploy` comes before.
const DEPLOYS: [&str; 5] = ["setup", "deploy", "redeploy", "rollback", "canary start"];

/// How many of the last lines of a failed hook are shown with the error.
const LAST_LINES: usize = 20;

/// Who looks on while a hook runs.
#[derive(Clone, Copy)]
struct Follower<'a> {
    name: &'static str,
    /// None for a hook that is not even told of.
    activity: Option<&'a Activity>,
    show: Option<HookOutput>,
}

/// The hooks of a project that are there, and what they are told.
#[derive(Debug)]
pub(crate) struct Hooks {
    present: BTreeMap<Hook, PathBuf>,
    project_directory: PathBuf,
    environment: BTreeMap<String, String>,
    hosts: Vec<HostName>,
    settings: HookSettings,
    secrets: SecretValues,
    is_lock_held: Mutex<bool>,
    ui: Ui,
    clock: Arc<dyn crate::process::Clock>,
    stop: CancellationToken,
    is_past_pre_connect: Arc<AtomicBool>,
    /// Whether the command is one of those that `pre-deploy` comes before.
    is_deploy: bool,
    /// The hosts of the batch that is being replaced.
    batch: Mutex<Option<Vec<HostName>>>,
}

/// What is known of a command before its hooks run.
#[derive(Debug)]
pub(crate) struct Telling<'a> {
    pub(crate) project: &'a Project,
    pub(crate) version: Option<&'a str>,
    pub(crate) performer: &'a str,
}

impl Hooks {
    /// Finds the hooks, all of which must be executable.
    ///
    /// # Errors
    /// [`HookError::NotExecutable`].
    pub(crate) fn find(context: &Context, telling: &Telling<'_>) -> Result<Self, HookError> {
        let folder = context.process.directory.join(&telling.project.hooks.path);
        let mut present = BTreeMap::new();
        if !context.arguments.skip_hooks {
            for (old, now) in RENAMED {
                if folder.join(old).exists() {
                    return Err(HookError::Renamed { path: telling.project.hooks.path.join(old), now });
                }
            }
            for hook in Hook::ALL {
                let path = folder.join(hook.file_name());
                if path.is_file() {
                    check(&path, &telling.project.hooks.path.join(hook.file_name()))?;
                    present.insert(hook, path);
                }
            }
        }
        Ok(Self {
            present,
            project_directory: context.process.directory.clone(),
            environment: environment(context, telling),
            hosts: telling.project.hosts(),
            settings: telling.project.hooks.clone(),
            secrets: SecretValues::default(),
            is_lock_held: Mutex::new(context.process.variable("KAMAL_LOCK") == Some("true")),
            ui: context.ui.clone(),
            clock: Arc::clone(&context.process.clock),
            stop: context.process.stop.clone(),
            is_past_pre_connect: Arc::clone(&context.is_past_pre_connect),
            is_deploy: DEPLOYS.contains(&context.command),
            batch: Mutex::new(None),
        })
    }

    /// Reads every secret, if there is a hook that gets them.
    ///
    /// # Errors
    /// What is wrong with the secrets files.
    pub(crate) async fn with_secrets(
        mut self,
        context: &Context,
        project: &Project,
    ) -> Result<Self, CommandError> {
        if self.present.keys().any(|hook| hook.gets_secrets()) {
            self.secrets = secret::all(context, project).await?;
        }
        Ok(self)
    }

    /// Says whether a hook is there.
    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.present.contains_key(&hook)
    }

    /// Says from now on whether the deploy lock is held.
    pub(crate) fn lock_is_held(&self, is_held: bool) {
        *self.is_lock_held.lock() = is_held;
    }

    /// Runs a hook, if it is there.
    ///
    /// # Errors
    /// [`HookError`] when it fails.
    pub(crate) async fn run(&self, hook: Hook) -> Result<(), HookError> {
        if hook == Hook::PreConnect && self.is_past_pre_connect.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.run_for(hook, &self.hosts).await
    }

    /// Runs a hook, if it is there, for some of the hosts.
    ///
    /// # Errors
    /// [`HookError`] when it fails.
    pub(crate) async fn run_for(&self, hook: Hook, hosts: &[HostName]) -> Result<(), HookError> {
        let Some(path) = self.present.get(&hook) else { return Ok(()) };
        let name = hook.file_name();
        let show = if self.ui.is_normal() { self.settings.output(name) } else { None };
        let activity = (show != Some(HookOutput::Quiet)).then(|| self.ui.begin("hook", name));
        let follower = Follower { name, activity: activity.as_ref(), show };
        let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
        let is_lock_held = *self.is_lock_held.lock();
        let mut command = tokio::process::Command::new(path);
        command
            .current_dir(&self.project_directory)
            .env_clear()
            .envs(&self.environment)
            .env("KAMAL_HOSTS", hosts.join(","))
            .env("KAMAL_LOCK", if is_lock_held { "true" } else { "false" })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if hook.gets_secrets() {
            command.envs(self.secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret())));
        }
        if hook == Hook::PostDeploy {
            command.env("KAMAL_RUNTIME", self.clock.elapsed().as_secs().to_string());
        }
        let mut child = command.spawn().map_err(|source| HookError::Start { name, source })?;
        let output = Mutex::new(Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let (status, (), ()) = tokio::join!(
                child.wait(),
                self.follow(stdout, follower, &output),
                self.follow(stderr, follower, &output)
            );
            status
        };
        let status = tokio::select! {
            status = ended => status.map_err(|source| HookError::Start { name, source })?,
            () = self.stop.cancelled() => return Err(HookError::Interrupted { name }),
        };
        if status.success() {
            if let Some(activity) = activity {
                activity.done(None);
            }
            return Ok(());
        }
        let mut output = output.into_inner();
        let last = output.split_off(output.len().saturating_sub(LAST_LINES));
        Err(HookError::Failed { name, status: status.to_string(), output: last })
    }

    async fn follow(
        &self,
        stream: Option<impl AsyncRead + Unpin>,
        follower: Follower<'_>,
        output: &Mutex<Vec<String>>,
    ) {
        let Some(stream) = stream else { return };
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = self.without_secrets(String::from_utf8_lossy(&line).trim_end());
            if let Some(activity) = follower.activity {
                activity.line(&line);
            }
            if follower.show == Some(HookOutput::Verbose) {
                let label = Line::new().add(Tone::Faint, format!(" {}: ", follower.name));
                self.ui.note(label.plain(&line));
            }
            output.lock().push(line);
        }
    }

    /// Hides values that a hook prints, as with `set -x`. Very short ones would hide half of every line.
    fn without_secrets(&self, line: &str) -> String {
        let values =
            self.secrets.iter().map(|(_, value)| value.expose_secret()).filter(|value| value.len() >= 4);
        values.fold(line.to_owned(), |line, value| line.replace(value, "[REDACTED]"))
    }
}

fn check(path: &Path, shown: &Path) -> Result<(), HookError> {
    use std::os::unix::fs::PermissionsExt;
    let is_executable =
        fs_err::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0);
    if is_executable { Ok(()) } else { Err(HookError::NotExecutable { path: shown.to_owned() }) }
}

fn environment(context: &Context, telling: &Telling<'_>) -> BTreeMap<String, String> {
    let project = telling.project;
    let mut variables = context.environment().clone();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    let (command, subcommand) = context.command.split_once(' ').unwrap_or((context.command, ""));
    set("KAMAL_RECORDED_AT", context.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    set("KAMAL_PERFORMER", telling.performer.to_owned());
    set("KAMAL_SERVICE", project.service.to_string());
    set("KAMAL_COMMAND", command.to_owned());
    if !subcommand.is_empty() {
        set("KAMAL_SUBCOMMAND", subcommand.to_owned());
    }
    if let Some(version) = telling.version {
        set("KAMAL_VERSION", version.to_owned());
        set("KAMAL_SERVICE_VERSION", format!("{}@{}", project.service, short_version(version)));
    }
    if let Some(destination) = &project.destination {
        set("KAMAL_DESTINATION", destination.to_string());
    }
    if !context.arguments.roles.is_empty() {
        let roles: Vec<&str> = project.roles.keys().map(|role| role.as_str()).collect();
        set("KAMAL_ROLES", roles.join(","));
    }
    variables
}

#[async_trait]
impl Gate for Hooks {
    async fn before(&self, plan: &Plan, stage: usize) -> Result<(), StepError> {
        // Accessories boot without hooks, and so does what starts again.
        let has_hooks = matches!(
            plan.kind,
            PlanKind::Deploy | PlanKind::Rollback | PlanKind::CanaryStart | PlanKind::CanaryPromote
        );
        let Some(next) = plan.stages.get(stage).filter(|_| has_hooks) else { return Ok(()) };
        let boots_on =
            |stage: &usize| plan.stages.get(*stage).is_some_and(|stage| stage.kind == StageKind::Boot);
        if boots_on(&stage) && stage.checked_sub(1).is_some_and(|before| boots_on(&before)) {
            // The other roles of the batch.
            return Ok(());
        }
        let failed = |error: HookError| match error {
            HookError::Interrupted { .. } => StepError::Stopped,
            error => StepError::Hook(Arc::new(error)),
        };
        if matches!(next.kind, StageKind::Boot | StageKind::Wait | StageKind::Retire) {
            let batch = self.batch.lock().take();
            if let Some(hosts) = batch {
                self.run_for(Hook::PostAppBoot, &hosts).await.map_err(failed)?;
            }
        }
        match next.kind {
            StageKind::Build => {
                // The login to the registry is a stage of its own, before what it is for.
                let is_first =
                    plan.stages.iter().position(|stage| stage.kind == StageKind::Build) == Some(stage);
                if is_first { self.run(Hook::PreBuild).await.map_err(failed) } else { Ok(()) }
            }
            StageKind::Release | StageKind::Boot => {
                let is_change = |stage: &Stage| matches!(stage.kind, StageKind::Release | StageKind::Boot);
                if self.is_deploy && plan.stages.iter().position(is_change) == Some(stage) {
                    self.run(Hook::PreDeploy).await.map_err(failed)?;
                }
                if next.kind == StageKind::Release {
                    return Ok(());
                }
                let mut hosts: Vec<HostName> = Vec::new();
                let stages = (stage..).take_while(boots_on).filter_map(|stage| plan.stages.get(stage));
                for lane in stages.flat_map(|stage| &stage.lanes) {
                    if !hosts.contains(&lane.host) {
                        hosts.push(lane.host.clone());
                    }
                }
                self.run_for(Hook::PreAppBoot, &hosts).await.map_err(failed)?;
                *self.batch.lock() = Some(hosts);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

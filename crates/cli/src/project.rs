use std::path::Path;

use freehold_config::{Parsed, Source, Sources};
use freehold_model::{Destination, Diagnose, ErrorKind, InvalidName, Project, SshLogLevel};
use secrecy::ExposeSecret as _;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::error::{CommandError, FileError};
use crate::filter;
use crate::process::Process;
use crate::template::ProjectFolder;

/// A project as the deploy file has it, and the part of it that the command is about.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// All of it.
    pub(crate) whole: Project,
    /// What `--hosts`, `--roles` and `--primary` leave of it.
    pub(crate) chosen: Project,
}

impl Loaded {
    /// Says whether the command is about a part of the project only.
    pub(crate) fn is_filtered(&self) -> bool {
        self.whole != self.chosen
    }
}

/// Why the deploy file could not be read.
#[derive(Debug, thiserror::Error)]
enum ProjectError {
    /// There is none.
    #[error("there is no deploy file `{path}`")]
    NoDeployFile { path: String },
    /// There is none for the destination.
    #[error("there is no deploy file `{path}` for destination `{destination}`")]
    NoDestinationFile { path: String, destination: String, known: Vec<String> },
    /// The thread that read it ended early.
    #[error("the deploy file was not read to its end")]
    Reading(#[source] tokio::task::JoinError),
    /// The destination is not a name.
    #[error(transparent)]
    Destination(#[from] InvalidName),
}

impl Diagnose for ProjectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Destination(_) => ErrorKind::Usage,
            Self::Reading(_) => ErrorKind::Bug,
            Self::NoDeployFile { .. } | Self::NoDestinationFile { .. } => ErrorKind::Configuration,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoDeployFile { .. } => {
                vec![
                    "write one to start from: `freehold init`; or name another one: `--config-file`"
                        .to_owned(),
                ]
            }
            Self::NoDestinationFile { known, .. } if known.is_empty() => {
                vec!["leave out `--destination`: there is no other destination either".to_owned()]
            }
            Self::NoDestinationFile { known, .. } => vec![format!("there are: {}", known.join(", "))],
            Self::Destination(_) | Self::Reading(_) => Vec::new(),
        }
    }
}

/// The deploy file where nothing else is said.
pub(crate) const DEFAULT_DEPLOY_FILE: &str = "config/deploy.yml";

/// Which deploy file is meant.
#[derive(Debug)]
pub(crate) struct DeployFile<'a> {
    /// Its path, relative to the project.
    pub(crate) path: &'a Path,
    /// The destination whose file is merged over it.
    pub(crate) destination: Option<&'a str>,
    /// The process, whose working directory is the project's folder.
    pub(crate) process: &'a Process,
}

impl<'a> DeployFile<'a> {
    /// Returns the file that a command is about.
    pub(crate) fn of(context: &'a Context) -> Self {
        Self {
            path: &context.arguments.config_file,
            destination: context.arguments.destination.as_deref(),
            process: &context.process,
        }
    }
}

/// Reads the deploy file with that of the destination, warns of what is surprising in it, and applies the filters.
///
/// # Errors
/// Every mistake of the files at once, or what is wrong with the filters.
pub(crate) async fn load(context: &Context) -> Result<Loaded, CommandError> {
    let Parsed { project, warnings, loaded, .. } = parse(&DeployFile::of(context)).await?;
    context.load_environment(
        loaded.into_iter().map(|(name, value)| (name, value.value().expose_secret().to_owned())),
    );
    for warning in &warnings {
        let help = warning.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        let key = if warning.key.is_empty() { String::new() } else { format!("{}: ", warning.key) };
        context.ui.warn(format!("{}:{}: {key}{}{help}", warning.file, warning.line, warning.message));
    }
    show_ssh_log(context, project.ssh.log_level);
    let chosen = filter::apply(&project, &context.arguments)?;
    Ok(Loaded { whole: project, chosen })
}

/// Shows what the SSH stack logs, as far as `ssh: log_level:` asks for it.
fn show_ssh_log(context: &Context, level: SshLogLevel) {
    let ui = context.ui.clone();
    let show = move |line: &str| ui.library_log("ssh", line);
    context.process.logs.show_ssh(level, Box::new(show));
}

/// Reads the deploy file with that of the destination, on a thread of its own, where templates may wait for commands.
///
/// # Errors
/// That a file is not there, or every mistake of the files at once.
pub(crate) async fn parse(file: &DeployFile<'_>) -> Result<Parsed, CommandError> {
    let path = file.path.display().to_string();
    let Some(text) = read(&file.process.directory.join(file.path))? else {
        return Err(ProjectError::NoDeployFile { path }.into());
    };
    let destination = match file.destination {
        None => None,
        Some(name) => Some(read_destination(file, name)?),
    };
    let surroundings = ProjectFolder { process: file.process.clone(), runtime: Handle::current() };
    let work = move || {
        let sources = Sources {
            base: Source { path: &path, text: &text },
            destination: destination
                .as_ref()
                .map(|(destination, path, text)| (destination.clone(), Source { path, text })),
            environment: &surroundings.process.environment,
            surroundings: &surroundings,
        };
        freehold_config::parse(&sources)
    };
    Ok(tokio::task::spawn_blocking(work).await.map_err(ProjectError::Reading)??)
}

fn read_destination(
    file: &DeployFile<'_>,
    name: &str,
) -> Result<(Destination, String, String), CommandError> {
    let destination = Destination::parse(name).map_err(ProjectError::from)?;
    let path = file.path.with_extension(format!("{name}.yml"));
    let directory = &file.process.directory;
    let Some(text) = read(&directory.join(&path))? else {
        let known = destinations(&directory.join(file.path));
        let path = path.display().to_string();
        return Err(ProjectError::NoDestinationFile { path, destination: name.to_owned(), known }.into());
    };
    Ok((destination, path.display().to_string(), text))
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { operation: "read the deploy file".to_owned(), source }),
    }
}

/// Returns the destinations that have a file beside the deploy file: `deploy.NAME.yml`.
fn destinations(deploy_file: &Path) -> Vec<String> {
    let stem = deploy_file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = deploy_file.parent().map(Path::to_owned).unwrap_or_default();
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let name = name.strip_prefix(stem.as_str())?.strip_prefix('.')?.strip_suffix(".yml")?;
            (!name.is_empty()).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    names
}

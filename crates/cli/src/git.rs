use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use freehold_model::{Author, Diagnose, ErrorKind, ParseImageError, Project, ReleaseVersion};
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::error::CommandError;

/// How long a question to git may take. Only a clone takes longer.
const QUESTION: Duration = Duration::from_secs(20);
const CLONE: Duration = Duration::from_secs(600);

/// Why git did not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// The version cannot be a tag.
    #[error("the version cannot be the tag of an image")]
    Version(#[from] ParseImageError),
    /// A command of git failed.
    #[error("`git {command}` ended with {status}: {message}")]
    Failed { command: String, status: String, message: String },
    /// A command of git did not start.
    #[error("cannot run `git`")]
    Start(#[source] std::io::Error),
    /// A command of git took too long.
    #[error("`git {command}` did not end within {} s", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
    /// The clone cannot be put where it belongs.
    #[error("cannot prepare the clone to build from")]
    Clone(#[source] std::io::Error),
}

impl Diagnose for GitError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Version(_) => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Version(_) => Vec::new(),
            Self::Failed { .. } | Self::TimedOut { .. } | Self::Clone(_) => {
                vec![
                    "to build from the working tree instead, set `builder: context: .` in the deploy file"
                        .to_owned(),
                ]
            }
            Self::Start(_) => vec!["install git, or give the version with `--version`".to_owned()],
        }
    }
}

/// What git knows of the project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repository {
    /// The last commit; none without a repository or a commit.
    pub(crate) revision: Option<String>,
    /// The repository's folder.
    pub(crate) root: Option<PathBuf>,
    /// Changes that are not committed, as `git status --porcelain` has them.
    pub(crate) uncommitted: Vec<String>,
}

impl Repository {
    /// Asks git. Without git or a repository nothing is known.
    ///
    /// # Errors
    /// [`GitError::TimedOut`].
    pub(crate) async fn look(context: &Context) -> Result<Self, GitError> {
        let folder = &context.process.directory;
        let Some(revision) = ask(context, folder, &["rev-parse", "HEAD"]).await? else {
            return Ok(Self::default());
        };
        let (root, status) = tokio::try_join!(
            ask(context, folder, &["rev-parse", "--show-toplevel"]),
            ask(context, folder, &["status", "--porcelain"]),
        )?;
        Ok(Self {
            revision: Some(revision.trim().to_owned()),
            root: root.map(|root| PathBuf::from(root.trim_end_matches('\n'))),
            uncommitted: status.unwrap_or_default().lines().map(ToOwned::to_owned).collect(),
        })
    }
}

/// Says what version a build makes: the one that was asked for, the commit, or the time where there is no repository.
///
/// # Errors
/// [`GitError::Version`] when it cannot be a tag.
pub(crate) fn version(
    context: &Context,
    project: &Project,
    repository: &Repository,
) -> Result<ReleaseVersion, GitError> {
    if let Some(version) = given_version(context)? {
        return Ok(version);
    }
    let text = match &repository.revision {
        Some(revision) if project.builder.context.is_some() && !repository.uncommitted.is_empty() => {
            let hex: String = context.process.seed.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("{revision}_uncommitted_{hex}")
        }
        Some(revision) => revision.clone(),
        None => context.now().strftime("%Y%m%dT%H%M%SZ").to_string(),
    };
    Ok(ReleaseVersion::parse(text)?)
}

/// Returns the version of the command line or of the environment, if there is one.
///
/// # Errors
/// [`GitError::Version`] when it cannot be a tag.
pub(crate) fn given_version(context: &Context) -> Result<Option<ReleaseVersion>, GitError> {
    let given = context.arguments.version.as_deref().or_else(|| context.process.variable("VERSION"));
    Ok(given.map(ReleaseVersion::parse).transpose()?)
}

/// Says who deploys: as git knows the person, otherwise by the login name.
pub(crate) async fn author(context: &Context) -> Author {
    let folder = &context.process.directory;
    let login = context.process.variable("USER").or_else(|| context.process.variable("LOGNAME"));
    let login = login.unwrap_or("unknown").to_owned();
    let known = |answer: Result<Option<String>, GitError>| {
        answer.ok().flatten().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let (name, email) = tokio::join!(
        ask(context, folder, &["config", "user.name"]),
        ask(context, folder, &["config", "user.email"]),
    );
    Author { name: known(name).unwrap_or_else(|| login.clone()), email: known(email).unwrap_or(login) }
}

/// Makes a clone of the last commit, or brings an earlier clone to it, and returns the folder to build from.
///
/// # Errors
/// [`GitError`] when git fails twice.
pub(crate) async fn clone(
    context: &Context,
    project: &Project,
    repository: &Repository,
) -> Result<Option<PathBuf>, CommandError> {
    let (Some(root), Some(revision)) = (&repository.root, &repository.revision) else { return Ok(None) };
    let directory = &context.process.directory;
    let digest: String = Sha256::digest(directory.as_os_str().as_encoded_bytes())
        .iter()
        .take(7)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Kamal's place: thirteen digits of the digest of the folder.
    let digest = digest.get(..13).unwrap_or(&digest);
    let temporary = context.process.variable("TMPDIR").unwrap_or("/tmp");
    let clones = Path::new(temporary).join("kamal-clones").join(format!("{}-{digest}", project.service));
    let clone = clones.join(root.file_name().unwrap_or(root.as_os_str()));
    let activity = context.ui.begin("clone", "the last commit, to build from");
    if let Err(error) = bring_up(context, root, revision, &clones, &clone).await {
        tracing::debug!(%error, "the clone cannot be used; making a new one");
        match fs_err::remove_dir_all(&clone) {
            Ok(()) => {}
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(GitError::Clone(source).into()),
        }
        bring_up(context, root, revision, &clones, &clone).await?;
    }
    activity.done(None);
    if !repository.uncommitted.is_empty() {
        let count = crate::ui::counted_items(repository.uncommitted.len(), "uncommitted change");
        context.ui.warn(format!("{count} left out: the image is built from the last commit (`builder: context: .` builds the working tree)"));
    }
    Ok(Some(clone.join(directory.strip_prefix(root).unwrap_or(Path::new("")))))
}

async fn bring_up(
    context: &Context,
    root: &Path,
    revision: &str,
    clones: &Path,
    clone: &Path,
) -> Result<(), GitError> {
    let root_text = root.to_string_lossy();
    if clone.join(".git").exists() {
        for words in [
            &["remote", "set-url", "origin", &root_text][..],
            &["fetch", "--quiet", "origin"],
            &["reset", "--quiet", "--hard", revision],
            &["clean", "-fdx", "--quiet"],
            &["submodule", "--quiet", "update", "--init"],
        ] {
            demand(context, clone, words, CLONE).await?;
        }
    } else {
        fs_err::create_dir_all(clones).map_err(GitError::Clone)?;
        demand(context, clones, &["clone", "--quiet", &root_text, "--recurse-submodules"], CLONE).await?;
        demand(context, clone, &["reset", "--quiet", "--hard", revision], CLONE).await?;
    }
    let status = demand(context, clone, &["status", "--porcelain"], QUESTION).await?;
    let head = demand(context, clone, &["rev-parse", "HEAD"], QUESTION).await?;
    if status.trim().is_empty() && head.trim() == revision {
        return Ok(());
    }
    Err(GitError::Failed {
        command: "reset".to_owned(),
        status: "code 0".to_owned(),
        message: "the clone is not at the commit".to_owned(),
    })
}

/// Runs git and returns what it prints, or none if it is not there or says no.
async fn ask(context: &Context, folder: &Path, words: &[&str]) -> Result<Option<String>, GitError> {
    match demand(context, folder, words, QUESTION).await {
        Ok(text) => Ok(Some(text)),
        Err(GitError::Failed { .. } | GitError::Start(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn demand(
    context: &Context,
    folder: &Path,
    words: &[&str],
    limit: Duration,
) -> Result<String, GitError> {
    let output = tokio::process::Command::new("git")
        .args(words)
        .current_dir(folder)
        .env_clear()
        .envs(&context.process.environment)
        // Looking must not take the lock of the index from somebody who works.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let command = words.first().copied().unwrap_or_default().to_owned();
    let output = match tokio::time::timeout(limit, output).await {
        Ok(output) => output.map_err(GitError::Start)?,
        Err(_) => return Err(GitError::TimedOut { command, limit }),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let message =
        message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned();
    Err(GitError::Failed { command, status: output.status.to_string(), message })
}

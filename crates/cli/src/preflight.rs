use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use freehold_docker::{
    BuildCache, ExpressionError, KeylessSigner, PublicKey, PublicKeyError, Signers, TrustedRoot,
    TrustedRootError,
};
use freehold_fleet::{BuildContext, BuildDestination, ImageTrust};
use freehold_model::{Builder, Diagnose, ErrorKind, Project, Repository as ImageName};
use freehold_plan::{BuildTool, hosts_of_image, latest_image, registry_name};

use crate::context::Context;
use crate::error::{CommandError, FileError};
use crate::git::{self, Repository};

mod builders;

pub(crate) use builders::{RemoteBuilder, settle, tool};

/// What a command builds, and with which machines besides the hosts.
#[derive(Debug, Default)]
pub(crate) struct Building {
    /// What is built, by the image's name; empty for a command that builds nothing.
    pub(crate) contexts: BTreeMap<ImageName, BuildContext>,
    /// Machines that only build.
    pub(crate) remotes: Vec<RemoteBuilder>,
}

/// What is missing on this machine before anything can be built.
#[derive(Debug, thiserror::Error)]
enum PreflightError {
    /// There is no Dockerfile.
    #[error("missing Dockerfile: there is no `{path}`{}", if *is_clone { " in the last commit" } else { "" })]
    NoDockerfile { path: String, is_clone: bool },
    /// The build context is not a folder.
    #[error("the build context `{path}` is not a folder")]
    NoContext { path: String },
    /// The image would be for several architectures, and there is nowhere to put such an image.
    #[error("an image for several architectures ({list}) needs a registry: no engine keeps one")]
    Architectures { list: String },
    /// An attestation would be lost.
    #[error("`{key}` needs a registry: an engine keeps no attestations")]
    Attestation { key: &'static str },
    /// A file with a key holds none.
    #[error("`{path}`, which `verify: keys:` names, cannot be used")]
    Key { path: String, source: PublicKeyError },
    /// A file with whom to trust holds something else.
    #[error("`{path}`, which `verify: trusted_root:` names, cannot be used")]
    TrustedRoot { path: String, source: TrustedRootError },
    /// A name of whoever signs is none.
    #[error("`verify:` names nobody who may sign")]
    Signer(#[source] ExpressionError),
    /// An error page is too large to be part of a plan.
    #[error("the error page `{path}` is larger than 256 KiB")]
    LargePage { path: String },
}

impl Diagnose for PreflightError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoDockerfile { is_clone: true, .. } => vec![
                "commit it, or build from the working tree: `builder: context: .` in the deploy file"
                    .to_owned(),
            ],
            Self::NoDockerfile { is_clone: false, .. } => {
                vec![
                    "write one, or name another file: `builder: dockerfile: PATH` in the deploy file"
                        .to_owned(),
                ]
            }
            Self::NoContext { .. } => vec!["set `builder: context:` to a folder of the project".to_owned()],
            Self::LargePage { .. } => {
                vec!["let it refer to a style sheet and images elsewhere instead of holding them".to_owned()]
            }
            Self::Architectures { .. } => {
                vec!["set `registry:`, or keep one of them under `builder: arch:`".to_owned()]
            }
            Self::Key { .. } => vec![
                "`cosign generate-key-pair` writes one to `cosign.pub`; `openssl pkey -pubout` another"
                    .to_owned(),
            ],
            Self::TrustedRoot { .. } => vec![
                "`cosign trusted-root create --with-default-services --out config/trusted_root.json` writes Sigstore's"
                    .to_owned(),
            ],
            Self::Signer(_) => Vec::new(),
            Self::Attestation { .. } => vec!["set `registry:`".to_owned()],
        }
    }
}

/// The largest error page, bytes: pages are part of the plan.
const LARGEST_PAGE_BYTES: u64 = 256 * 1024;

/// Reads the proxy's error pages, `4??.html` and `5??.html` of the project's folder for them.
///
/// # Errors
/// The folder is not there, or a page is too large or no text.
pub(crate) fn error_pages(
    context: &Context,
    project: &Project,
) -> Result<BTreeMap<String, String>, CommandError> {
    let Some(folder) = &project.error_pages else { return Ok(BTreeMap::new()) };
    let operation = || "read the error pages".to_owned();
    let failed = |source| FileError { operation: operation(), source };
    let mut pages = BTreeMap::new();
    for entry in fs_err::read_dir(context.process.directory.join(folder)).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_page(name)) else {
            continue;
        };
        if fs_err::metadata(&path).map_err(failed)?.len() > LARGEST_PAGE_BYTES {
            let path = folder.join(name).display().to_string();
            return Err(PreflightError::LargePage { path }.into());
        }
        pages.insert(name.to_owned(), fs_err::read_to_string(&path).map_err(failed)?);
    }
    Ok(pages)
}

/// Reads who has to have signed the images.
///
/// # Errors
/// A file is not there, or holds no key.
pub(crate) fn trust(context: &Context, project: &Project) -> Result<ImageTrust, CommandError> {
    let directory = context.process.directory.clone();
    let scans = project.scan.is_some();
    let Some(verification) = &project.verification else {
        return Ok(ImageTrust { scans, directory, ..ImageTrust::default() });
    };
    let read = |path: &std::path::Path, operation: &str| {
        let failed = |source| FileError { operation: operation.to_owned(), source };
        fs_err::read(directory.join(path)).map_err(failed)
    };
    let mut signers = Signers::default();
    for path in &verification.keys {
        let text = read(path, "read a key for signatures")?;
        let key = PublicKey::parse(&text)
            .map_err(|source| PreflightError::Key { path: path.display().to_string(), source })?;
        signers.keys.push(key);
    }
    if let Some(keyless) = &verification.keyless {
        let text = read(&keyless.trusted_root, "read whom signatures are trusted for")?;
        let root = TrustedRoot::parse(&text).map_err(|source| PreflightError::TrustedRoot {
            path: keyless.trusted_root.display().to_string(),
            source,
        })?;
        let signer = KeylessSigner::new(root, &keyless.identity, &keyless.issuer);
        signers.keyless = Some(signer.map_err(PreflightError::Signer)?);
    }
    let signatures = verification.signatures.as_ref().map(|folder| directory.join(folder));
    Ok(ImageTrust { signers, signatures, scans, directory })
}

/// Says that what hosts have is not checked again, so that nobody takes it for checked: it may be older than the demand.
pub(crate) fn warn_of_unchecked(context: &Context, project: &Project) {
    if project.verification.is_some() {
        context.ui.warn(
            "images that hosts have already are not checked: `verify` is about those that a deploy brings",
        );
    }
}

/// Says whether a file is one of Kamal's error pages: `4??.html` or `5??.html`.
fn is_page(name: &str) -> bool {
    name.len() == 8 && name.starts_with(['4', '5']) && name.ends_with(".html")
}

/// Says what the images are built from, after checking that it is there.
///
/// # Errors
/// What is missing.
pub(crate) async fn build_contexts(
    context: &Context,
    project: &Project,
    repository: &Repository,
    cache: BuildCache,
) -> Result<BTreeMap<ImageName, BuildContext>, CommandError> {
    let mut contexts = BTreeMap::new();
    if project.digest.is_none() {
        let own =
            build_context(context, (project, &project.image, &project.builder), repository, cache).await?;
        contexts.insert(project.image.clone(), own);
    }
    for image in project.images.values() {
        let further =
            build_context(context, (project, &image.repository, &image.builder), repository, cache).await?;
        contexts.insert(image.repository.clone(), further);
    }
    Ok(contexts)
}

async fn build_context(
    context: &Context,
    (project, name, builder): (&Project, &ImageName, &Builder),
    repository: &Repository,
    cache: BuildCache,
) -> Result<BuildContext, CommandError> {
    let tool = tool(context, project, builder).await;
    let destination = destination(project, builder, &tool)?;
    let ssh_agents = match tool {
        BuildTool::Engine | BuildTool::RemoteEngine(_) => builders::ssh_agents(context, builder)?,
        BuildTool::Buildx(_) | BuildTool::Pack(_) => BTreeMap::new(),
    };
    let project_directory = &context.process.directory;
    let clone = match &builder.context {
        Some(_) => None,
        None => git::clone(context, project, repository).await?,
    };
    let is_clone = clone.is_some();
    let clone_of = repository.revision.clone().filter(|_| is_clone);
    let directory = match (clone, &builder.context) {
        (Some(clone), _) => clone,
        (None, Some(path)) => project_directory.join(path),
        (None, None) => project_directory.clone(),
    };
    let dockerfile = (!matches!(tool, BuildTool::Pack(_))).then_some(builder.dockerfile.as_path());
    check(&directory, project_directory, dockerfile, is_clone)?;
    Ok(BuildContext {
        directory,
        builder: builder.clone(),
        labels: BTreeMap::from([("service".to_owned(), project.service.to_string())]),
        cache,
        tool,
        ssh_agents,
        destination,
        clone_of,
        hosts: hosts_of_image(project, name),
        registry_latest: registry_name(project).and(latest_image(project)).map(|latest| latest.tag),
    })
}

/// Says where a tool that is no engine leaves the image; what would be lost on the way is refused.
fn destination(
    project: &Project,
    builder: &Builder,
    tool: &BuildTool,
) -> Result<BuildDestination, PreflightError> {
    if !matches!(tool, BuildTool::Buildx(_)) {
        return Ok(BuildDestination::Engine);
    }
    if let (Some(_), Some(latest)) = (registry_name(project), latest_image(project)) {
        return Ok(BuildDestination::Registry { latest: latest.tag });
    }
    if builder.architectures.len() > 1 {
        let list = builder.architectures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(PreflightError::Architectures { list });
    }
    for (key, value) in [("provenance", &builder.provenance), ("sbom", &builder.sbom)] {
        if value.as_deref().is_some_and(|value| value != "false") {
            return Err(PreflightError::Attestation { key });
        }
    }
    Ok(BuildDestination::Engine)
}

fn check(
    directory: &Path,
    project: &Path,
    dockerfile: Option<&Path>,
    is_clone: bool,
) -> Result<(), PreflightError> {
    let shown =
        |path: PathBuf| path.strip_prefix(project).map(Path::to_owned).unwrap_or(path).display().to_string();
    if !directory.is_dir() {
        return Err(PreflightError::NoContext { path: shown(directory.to_owned()) });
    }
    let Some(dockerfile) = dockerfile else { return Ok(()) };
    if !directory.join(dockerfile).is_file() {
        let path =
            if is_clone { dockerfile.display().to_string() } else { shown(directory.join(dockerfile)) };
        return Err(PreflightError::NoDockerfile { path, is_clone });
    }
    Ok(())
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use freehold_docker::BuildCache;
use freehold_fleet::BuildContext;
use freehold_model::{Diagnose, ErrorKind, Project};

use crate::context::Context;
use crate::error::CommandError;
use crate::git::{self, Repository};

/// What is missing on this machine before anything can be built.
#[derive(Debug, thiserror::Error)]
enum PreflightError {
    /// There is no Dockerfile.
    #[error("missing Dockerfile: there is no `{path}`{}", if *is_clone { " in the last commit" } else { "" })]
    NoDockerfile { path: String, is_clone: bool },
    /// The build context is not a folder.
    #[error("the build context `{path}` is not a folder")]
    NoContext { path: String },
    /// The image would be for several architectures.
    #[error("an image for several architectures is not supported by this version: {list}")]
    Architectures { list: String },
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
            Self::Architectures { .. } => vec!["keep one of them under `builder: arch:`".to_owned()],
        }
    }
}

/// Says what the image is built from, after checking that it is there.
///
/// # Errors
/// What is missing.
pub(crate) async fn build_context(
    context: &Context,
    project: &Project,
    repository: &Repository,
    cache: BuildCache,
) -> Result<BuildContext, CommandError> {
    let builder = &project.builder;
    let architecture = match builder.architectures.as_slice() {
        [] => None,
        [one] => Some(*one),
        many => {
            let list = many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(PreflightError::Architectures { list }.into());
        }
    };
    let project_directory = &context.process.directory;
    let clone = match &builder.context {
        Some(_) => None,
        None => git::clone(context, project, repository).await?,
    };
    let is_clone = clone.is_some();
    let directory = match (clone, &builder.context) {
        (Some(clone), _) => clone,
        (None, Some(path)) => project_directory.join(path),
        (None, None) => project_directory.clone(),
    };
    check(&directory, project_directory, &builder.dockerfile, is_clone)?;
    Ok(BuildContext {
        directory,
        dockerfile: builder.dockerfile.clone(),
        target: builder.target.clone(),
        args: builder.args.clone(),
        secrets: builder.secrets.clone(),
        labels: BTreeMap::from([("service".to_owned(), project.service.to_string())]),
        architecture,
        cache,
    })
}

fn check(directory: &Path, project: &Path, dockerfile: &Path, is_clone: bool) -> Result<(), PreflightError> {
    let shown =
        |path: PathBuf| path.strip_prefix(project).map(Path::to_owned).unwrap_or(path).display().to_string();
    if !directory.is_dir() {
        return Err(PreflightError::NoContext { path: shown(directory.to_owned()) });
    }
    if !directory.join(dockerfile).is_file() {
        let path =
            if is_clone { dockerfile.display().to_string() } else { shown(directory.join(dockerfile)) };
        return Err(PreflightError::NoDockerfile { path, is_clone });
    }
    Ok(())
}

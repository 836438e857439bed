use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engine::{Engine, repository};
use super::owner::Owner;
use super::state::{lab_directories, labs_directory};
use super::{LabError, command};

/// The label that holds a lab's id.
pub(super) const LAB_LABEL: &str = "freehold.lab";
/// The label that holds a lab's owner.
pub(super) const OWNER_LABEL: &str = "freehold.lab.owner";

/// Removes the labs whose owner died and could not remove them, and returns how many there were.
///
/// # Errors
/// [`LabError::Command`] where the engine does not do as told.
pub async fn sweep() -> Result<usize, LabError> {
    sweep_with(&Engine::find().await?).await
}

/// Removes every lab, also those that a living process uses, and returns how many there were.
///
/// # Errors
/// [`LabError::Command`] where the engine does not do as told.
pub async fn remove_all() -> Result<usize, LabError> {
    remove_where(&Engine::find().await?, |_| true).await
}

/// Removes the labs that `freehold-lab up` started, and returns how many there were.
///
/// # Errors
/// [`LabError::Command`] where the engine does not do as told.
pub async fn remove_kept() -> Result<usize, LabError> {
    remove_where(&Engine::find().await?, |owner| owner == Some(&Owner::Kept)).await
}

/// As [`sweep`], with an engine that was found already.
pub(super) async fn sweep_with(engine: &Engine) -> Result<usize, LabError> {
    remove_where(engine, |owner| !owner.is_some_and(Owner::is_alive)).await
}

async fn remove_where(engine: &Engine, goes: impl Fn(Option<&Owner>) -> bool) -> Result<usize, LabError> {
    let mut removed = 0;
    for (id, owner) in labs(engine).await? {
        if goes(owner.as_ref()) {
            remove(engine, &id, &labs_directory().join(&id)).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes one lab now.
pub(super) async fn remove(engine: &Engine, id: &str, directory: &Path) -> Result<(), LabError> {
    let watch = repository().join("e2e/lab/watch");
    let host = format!("DOCKER_HOST={}", engine.address());
    let arguments = [&host, &*watch.to_string_lossy(), "--now", id, &*directory.to_string_lossy()];
    command::run("env", &arguments, Duration::from_secs(120)).await.map(drop)
}

/// Returns every lab that left an object in the engine or a folder, with its owner where that is known.
async fn labs(engine: &Engine) -> Result<BTreeMap<String, Option<Owner>>, LabError> {
    let mut labs = BTreeMap::new();
    for directory in lab_directories() {
        let owner = fs_err::read_to_string(directory.join("owner")).ok();
        labs.insert(file_name(directory), owner.as_deref().and_then(Owner::parse));
    }
    let format = format!("{{{{.Label \"{LAB_LABEL}\"}}}} {{{{.Label \"{OWNER_LABEL}\"}}}}");
    let filter = format!("label={LAB_LABEL}");
    for list in [&["ps", "--all"][..], &["network", "ls"], &["volume", "ls"]] {
        let rest = ["--filter", &filter, "--format", &format];
        let lines = engine.call(&[list, &rest].concat()).await?;
        for (id, owner) in lines.lines().filter_map(|line| line.split_once(' ')) {
            labs.insert(id.to_owned(), Owner::parse(owner));
        }
    }
    Ok(labs)
}

fn file_name(path: PathBuf) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

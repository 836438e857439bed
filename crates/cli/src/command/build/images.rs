//! What `build push`, `pull` and `deliver` do with images.

use std::sync::Arc;

use freehold_fleet::{EngineHost, Host, Outcome, Progress, StepError, Work};
use freehold_model::{Diagnose, ErrorKind, HostName, ImageReference, RegistryPlace, ReleaseVersion};
use freehold_plan::{BuildPlaceName, BuiltImage, ImageOrigin, built_images, registry_name};
use futures_util::future::join_all;
use serde::Serialize;

use crate::audit;
use crate::change::Change;
use crate::error::CommandError;
use crate::hook::Hook;
use crate::image_work;
use crate::ui::{Line, Tone, counted_items};

/// What became of images.
#[derive(Debug, Serialize)]
pub(super) struct Delivered {
    pub(super) images: Vec<String>,
    /// The registry that has them, or none if they are on the engine that built them only.
    pub(super) registry: Option<String>,
    /// The hosts that have them.
    pub(super) hosts: Vec<String>,
}

/// The deploy file has nothing to build.
#[derive(Debug, thiserror::Error)]
#[error("there is nothing to build: every image is made elsewhere, or no role has a host")]
struct NothingToBuild;

impl Diagnose for NothingToBuild {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }
}

/// Images did not reach every host.
#[derive(Debug, thiserror::Error)]
#[error("{} of the hosts did not get the image", .0.len())]
struct NotEverywhere(Vec<StepError>);

impl Diagnose for NotEverywhere {
    fn kind(&self) -> ErrorKind {
        self.0.first().map_or(ErrorKind::Failed, Diagnose::kind)
    }

    fn help(&self) -> Vec<String> {
        self.0.first().map(Diagnose::help).unwrap_or_default()
    }
}

/// Returns the images of a version.
///
/// # Errors
/// There are none.
pub(super) fn all(change: &Change<'_>, version: &ReleaseVersion) -> Result<Vec<BuiltImage>, CommandError> {
    let images = built_images(change.project(), version, None);
    if images.is_empty() { Err(NothingToBuild.into()) } else { Ok(images) }
}

/// Builds images and pushes them, where there is a registry.
///
/// # Errors
/// What went wrong.
pub(super) async fn push(change: &Change<'_>, images: &[BuiltImage]) -> Result<(), CommandError> {
    log_in(change, images).await?;
    change.hooks.run(Hook::PreBuild).await?;
    for BuiltImage { image, latest, place } in images {
        build(change, image, place).await?;
        let Some(registry) = &change.project().registry else { continue };
        let workshop = change.hosts.workshop();
        let act = async |work: Work<'_>| match (&registry.place, place) {
            (RegistryPlace::Local { port }, BuildPlaceName::Host(name)) => match change.hosts.builder(name) {
                Some(host) => {
                    let operation = format!("push image `{image}`");
                    let push = workshop.push(image, latest, place, &work);
                    host.with_registry_of_build_machine(*port, &operation, push).await
                }
                None => workshop.push(image, latest, place, &work).await,
            },
            _ => workshop.push(image, latest, place, &work).await,
        };
        image_work::show(change, "push", &image.to_string(), act).await?;
    }
    Ok(())
}

/// Builds one image.
///
/// # Errors
/// What the builder says.
pub(super) async fn build(
    change: &Change<'_>,
    image: &ImageReference,
    place: &BuildPlaceName,
) -> Result<(), CommandError> {
    let act = async |work: Work<'_>| change.hosts.workshop().build(image, place, &work).await;
    image_work::show(change, "build", &image.to_string(), act).await.map(drop)
}

/// Makes sure, before anything is built, that the registry will take it.
async fn log_in(change: &Change<'_>, images: &[BuiltImage]) -> Result<(), CommandError> {
    let project = change.project();
    if let Some(RegistryPlace::Local { port }) = project.registry.as_ref().map(|registry| &registry.place) {
        return start_registry(change, *port).await.map(drop);
    }
    if let (Some(registry), Some(first)) = (registry_name(project), images.first()) {
        let act = async |_: Work<'_>| change.hosts.workshop().check_registry(&registry, &first.place).await;
        image_work::show(change, "login", &registry, act).await?;
    }
    Ok(())
}

/// Starts the registry of this machine.
///
/// # Errors
/// What this machine's engine says.
pub(in crate::command) async fn start_registry(
    change: &Change<'_>,
    port: u16,
) -> Result<Outcome, CommandError> {
    let act = async |work: Work<'_>| change.hosts.workshop().start_local_registry(port, &work).await;
    image_work::show(change, "registry", &format!("localhost:{port}"), act).await
}

/// Brings the images of a version to every host that runs them, all at once.
///
/// # Errors
/// Every host that did not get one.
pub(super) async fn pull(change: &Change<'_>, version: &ReleaseVersion) -> Result<Vec<String>, CommandError> {
    let project = change.project();
    let hosts: Vec<&Arc<EngineHost>> =
        project.hosts().iter().filter_map(|name| change.hosts.get(name)).collect();
    let title = format!("{version} on {}", counted_items(hosts.len(), "host"));
    let act = async |work: Work<'_>| {
        let brought = hosts.iter().map(|host| bring_all(change, (host, &hosts), version, work));
        let mut failed = Vec::new();
        for (host, outcome) in hosts.iter().zip(join_all(brought).await) {
            match outcome {
                Ok(notes) => {
                    let text = format!("{}: {}", host.name(), notes.join(", "));
                    (work.progress)(Progress::Status { text });
                }
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            0 => Ok(Outcome::Done(None)),
            1 => Err(failed.remove(0)),
            _ => Err(StepError::Image {
                operation: format!("bring version `{version}` to the hosts"),
                source: Arc::new(NotEverywhere(failed)),
            }),
        }
    };
    image_work::show(change, "pull", &title, act).await?;
    let line = format!("Pulled image with version {version}");
    let acts = hosts.iter().map(|host| (Arc::clone(host), line.clone()));
    audit::write_down(change.context, project, &change.author.email, acts).await;
    Ok(hosts.iter().map(|host| host.name().to_string()).collect())
}

async fn bring_all(
    change: &Change<'_>,
    (host, all): (&Arc<EngineHost>, &[&Arc<EngineHost>]),
    version: &ReleaseVersion,
    work: Work<'_>,
) -> Result<Vec<String>, StepError> {
    let project = change.project();
    let name = host.name();
    let service = Some(&project.service);
    let mut notes = Vec::new();
    for BuiltImage { image, place, .. } in built_images(project, version, Some(name)) {
        let outcome = match project.registry.as_ref().map(|registry| &registry.place) {
            None => {
                let needs = |name: &HostName| {
                    built_images(project, version, Some(name)).iter().any(|other| other.image == image)
                };
                let together =
                    all.iter().map(|other| other.name()).filter(|name| needs(name)).cloned().collect();
                host.deliver(&image, &place, &together, &work).await?
            }
            Some(RegistryPlace::Local { port }) => {
                let operation = format!("pull image `{image}`");
                let pull = host.pull(&image, &ImageOrigin::Tag, service, &work);
                host.with_registry_of_build_machine(*port, &operation, pull).await?
            }
            Some(_) => host.pull(&image, &ImageOrigin::Tag, service, &work).await?,
        };
        notes.push(image_work::note(&outcome).unwrap_or_else(|| image.to_string()));
    }
    Ok(notes)
}

/// Shows what became of images.
pub(super) fn show(change: &Change<'_>, images: &[BuiltImage], done: &str, hosts: Vec<String>) {
    let context = change.context;
    context.ui.close();
    let mark = context.ui.done_mark();
    let names: Vec<String> = images.iter().map(|image| image.image.to_string()).collect();
    let registry = change.project().registry.as_ref().map(|registry| match &registry.place {
        RegistryPlace::DockerHub => "Docker Hub".to_owned(),
        place => place.prefix().unwrap_or_default(),
    });
    let lines: Vec<Line> = names
        .iter()
        .map(|name| Line::new().add(Tone::Good, mark).plain(" ").plain(name).plain(" ").plain(done))
        .collect();
    context.ui.result(&lines);
    context.ui.result_json(context.command, &Delivered { images: names, registry, hosts });
}

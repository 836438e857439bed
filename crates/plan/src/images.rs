use freehold_model::{
    HostName, ImageReference, Project, RegistryPlace, ReleaseVersion, RemoteImage, Repository, Role,
    RoleImage,
};

use crate::naming::{latest_image, latest_of};
use crate::request::BuildPlaceName;

/// An image that a release needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NeededImage {
    /// Its tag on every host.
    pub(crate) reference: ImageReference,
    /// Where it comes from.
    pub(crate) source: NeededSource,
}

/// Where an image of a release comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NeededSource {
    /// It is built by this engine.
    Built(BuildPlaceName),
    /// It is made elsewhere.
    Pinned(RemoteImage),
}

/// Returns the tag of the image that a role's containers are made of. One that is pinned by digest is tagged with the
/// version too, so that it goes with the release.
#[must_use]
pub fn image_of(project: &Project, role: &Role, version: &ReleaseVersion) -> ImageReference {
    needed(project, role, version).reference
}

fn needed(project: &Project, role: &Role, version: &ReleaseVersion) -> NeededImage {
    let tagged =
        |repository: &Repository| ImageReference { repository: repository.clone(), tag: version.clone() };
    let built = |on| NeededSource::Built(BuildPlaceName::from(on));
    match &role.image {
        Some(RoleImage::Pinned(image)) => {
            NeededImage { reference: tagged(&image.repository), source: NeededSource::Pinned(image.clone()) }
        }
        Some(RoleImage::Built(key)) if let Some(image) = project.images.get(key) => {
            NeededImage { reference: tagged(&image.repository), source: built(&image.builder.on) }
        }
        Some(RoleImage::Built(_)) | None => {
            let source = match &project.digest {
                Some(digest) => NeededSource::Pinned(RemoteImage {
                    repository: project.image.clone(),
                    tag: None,
                    digest: Some(digest.clone()),
                }),
                None => built(&project.builder.on),
            };
            NeededImage { reference: tagged(&project.image), source }
        }
    }
}

/// Returns the images that some roles need, each once, in the order of the roles.
pub(crate) fn images<'a>(
    project: &Project,
    roles: impl Iterator<Item = &'a Role>,
    version: &ReleaseVersion,
) -> Vec<NeededImage> {
    let mut images = Vec::new();
    for role in roles {
        let image = needed(project, role, version);
        if !images.contains(&image) {
            images.push(image);
        }
    }
    images
}

/// An image that the project builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its tag.
    pub image: ImageReference,
    /// The tag of the latest one.
    pub latest: ImageReference,
    /// The engine that builds it.
    pub place: BuildPlaceName,
}

/// Returns the images of a version that the project builds, each once: those of all roles, or of the roles on a host.
#[must_use]
pub fn built_images(project: &Project, version: &ReleaseVersion, host: Option<&HostName>) -> Vec<BuiltImage> {
    let is_meant = |role: &&Role| match host {
        Some(host) => role.hosts.iter().any(|entry| entry.name == *host),
        None => !role.hosts.is_empty(),
    };
    let Some(latest) = latest_image(project) else { return Vec::new() };
    images(project, project.roles.values().filter(is_meant), version)
        .into_iter()
        .filter_map(|needed| match needed.source {
            NeededSource::Built(place) => {
                let latest = latest_of(&needed.reference, &latest);
                Some(BuiltImage { image: needed.reference, latest, place })
            }
            NeededSource::Pinned(_) => None,
        })
        .collect()
}

/// Returns the hosts that run an image that the project builds, each once.
#[must_use]
pub fn hosts_of_image(project: &Project, repository: &Repository) -> Vec<HostName> {
    let mut hosts = Vec::new();
    for role in project.roles.values() {
        let own = match &role.image {
            Some(RoleImage::Pinned(_)) => None,
            Some(RoleImage::Built(key)) => project.images.get(key).map(|image| &image.repository),
            None => Some(&project.image),
        };
        for entry in role.hosts.iter().filter(|_| own == Some(repository)) {
            if !hosts.contains(&entry.name) {
                hosts.push(entry.name.clone());
            }
        }
    }
    hosts
}

/// Returns the names of every image of the project's roles, without tags.
#[must_use]
pub fn repositories(project: &Project) -> Vec<Repository> {
    let mut names = vec![project.image.clone()];
    let others = project.roles.values().filter_map(|role| match &role.image {
        Some(RoleImage::Pinned(image)) => Some(&image.repository),
        Some(RoleImage::Built(key)) => project.images.get(key).map(|image| &image.repository),
        None => None,
    });
    for name in others {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Says what stands between the build and the hosts, for people; none where images are sent straight to the hosts. So
/// are those of Kamal's local registry: nothing is gained by a registry on the laptop.
#[must_use]
pub fn registry_name(project: &Project) -> Option<String> {
    match &project.registry.as_ref()?.place {
        RegistryPlace::DockerHub => Some("Docker Hub".to_owned()),
        RegistryPlace::Server(server) => Some(server.to_string()),
        RegistryPlace::Local { .. } => None,
    }
}

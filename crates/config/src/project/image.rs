//! The images of a project: its own, further ones, and those that roles choose.

use std::collections::BTreeMap;

use freehold_model::{
    Builder, ImageDigest, ImageKey, ProjectImage, RegistryPlace, RemoteImage, Repository, RoleImage,
    RoleName, ServiceName,
};

use super::builder;
use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::shorten;

/// The project's own image.
pub(super) struct OwnImage {
    pub(super) repository: Repository,
    pub(super) digest: Option<ImageDigest>,
}

/// Reads `image`; without one it is the service's name.
pub(super) fn own(
    section: &Section<'_>,
    service: Option<&ServiceName>,
    registry: Option<&RegistryPlace>,
    report: &mut Report,
) -> Option<OwnImage> {
    let prefix = registry.and_then(RegistryPlace::prefix);
    let Some(field) = section.get("image") else {
        let repository = of_service(section, service?, report)?;
        return Some(OwnImage { repository: prefixed(prefix.as_deref(), repository)?, digest: None });
    };
    let text = field.filled_text(report)?;
    if let Some(prefix) = prefix.as_deref().filter(|prefix| text.starts_with(&format!("{prefix}/"))) {
        let message = format!("the registry's server `{prefix}` is put before the image's name anyway");
        report.mistake(field.mistake(message).help("write the name without it"));
        return None;
    }
    let image = match RemoteImage::parse(&text) {
        Ok(image) if image.tag.is_some() && image.digest.is_none() => {
            let message = format!("`{}` has a tag", shorten(&text));
            let help = format!("write `image: {}`; the tag is the version of the release", image.repository);
            report.mistake(field.mistake(message).help(help));
            return None;
        }
        Ok(image) => image,
        Err(error) => {
            report.mistake(field.mistake(error.to_string()));
            return None;
        }
    };
    Some(OwnImage { repository: prefixed(prefix.as_deref(), image.repository)?, digest: image.digest })
}

fn of_service(section: &Section<'_>, service: &ServiceName, report: &mut Report) -> Option<Repository> {
    let image = Repository::parse(service.as_str());
    if image.is_err() {
        let message =
            format!("missing key `image`: the service's name `{service}` is not a valid image name");
        let at = section.get("service").map_or(Place::file(0), |field| field.node.at);
        let name = service.as_str().to_ascii_lowercase();
        report.mistake(
            Finding::new(at, "", message).help(format!("add `image: {}`", name.trim_matches(['-', '_']))),
        );
    }
    image.ok()
}

/// Puts the registry's server before a name.
fn prefixed(prefix: Option<&str>, repository: Repository) -> Option<Repository> {
    match prefix {
        Some(prefix) => Repository::parse(format!("{prefix}/{repository}")).ok(),
        None => Some(repository),
    }
}

/// Reads `images`: each is built as the root's `builder` says, but for what it says itself.
pub(super) fn further(
    field: &Field<'_>,
    own: &Repository,
    registry: Option<&RegistryPlace>,
    root: &Builder,
    report: &mut Report,
) -> BTreeMap<ImageKey, ProjectImage> {
    let prefix = registry.and_then(RegistryPlace::prefix);
    let mut images = BTreeMap::new();
    for (key, field) in field.map(report) {
        let name = match ImageKey::parse(key) {
            Ok(name) => name,
            Err(error) => {
                report.mistake(Finding::new(field.key_at, &field.path, error.to_string()));
                continue;
            }
        };
        let Some(section) = field.section("images/NAME", report) else { continue };
        let repository = match section.get("image") {
            Some(field) => {
                let parsed = field
                    .parsed(report, |text| Repository::parse(text).map_err(|error| (error, String::new())));
                parsed.and_then(|repository| prefixed(prefix.as_deref(), repository))
            }
            None => Repository::parse(format!("{own}-{}", name.as_str().to_ascii_lowercase())).ok(),
        };
        let Some(repository) = repository else { continue };
        if repository == *own || images.values().any(|image: &ProjectImage| image.repository == repository) {
            let message = format!("another image is called `{repository}` too");
            report.mistake(Finding::new(field.key_at, &field.path, message).help("give it another `image`"));
        }
        let builder = builder::what(&section, root.clone(), report);
        images.insert(name, ProjectImage { repository, builder });
    }
    images
}

/// Reads the `image` of a role: one of `images` by its name, or one by digest.
pub(super) fn of_role(field: &Field<'_>, report: &mut Report) -> Option<RoleImage> {
    let text = field.filled_text(report)?;
    if !text.contains('@') {
        return field
            .parsed(report, |text| ImageKey::parse(text).map_err(|error| (error, String::new())))
            .map(RoleImage::Built);
    }
    field
        .parsed(report, |text| RemoteImage::parse(text).map_err(|error| (error, String::new())))
        .map(RoleImage::Pinned)
}

/// Checks that a role's image is one of the project's.
pub(super) fn check_role(
    (role, image): (&RoleName, &RoleImage),
    images: &BTreeMap<ImageKey, ProjectImage>,
    servers: &Field<'_>,
    report: &mut Report,
) {
    let RoleImage::Built(key) = image else { return };
    if images.contains_key(key) {
        return;
    }
    let entry = servers.node.get(role.as_str()).and_then(|entry| entry.value.get("image"));
    let at = entry.map_or(servers.key_at, |entry| entry.value.at);
    let finding = Finding::new(at, format!("servers/{role}/image"), format!("`images` has no `{key}`"));
    report.mistake(finding.help("name one of `images`, or an image with its digest: `NAME@sha256:…`"));
}

use std::collections::BTreeMap;

use freehold_model::{AccessoryName, ContainerName, ImageReference, Project, ReleaseId, RoleName, Tag};

/// The network of all containers that the proxy reaches (Kamal 2.12's name).
pub const NETWORK: &str = "kamal";

/// The label that ties a container to the release that made it.
pub const RELEASE_LABEL: &str = "freehold.release";

/// The folder of the host that the proxy reads, relative to the login directory.
pub const APPS_CONFIG: &str = ".kamal/proxy/apps-config";

/// The same folder as it is called in the proxy's container.
pub const APPS_CONFIG_IN_PROXY: &str = "/home/kamal-proxy/.apps-config";

/// What stands between the name of a container and random digits when the container makes room for a newer one.
pub(crate) const REPLACED_MARK: &str = "_replaced_";

/// What stands between the name of a role's first container on a host and the number of a further one.
pub(crate) const REPLICA_MARK: &str = "_replica_";

/// Returns the folder of the assets that releases share, relative to the login directory.
pub(crate) fn assets_directory(project: &Project) -> String {
    format!(".kamal/apps/{}/assets", project.stem())
}

/// Returns the folder of the error pages of a version, relative to the login directory.
pub(crate) fn error_pages_directory(project: &Project, version: &str) -> String {
    format!("{APPS_CONFIG}/{}/error_pages/{version}", project.stem())
}

/// Returns the folder of the certificate of a role, relative to the login directory.
pub(crate) fn tls_directory(project: &Project, role: &RoleName) -> String {
    format!("{APPS_CONFIG}/{}/tls/{role}", project.stem())
}

/// Returns the folder of the file with those who may come to a role, relative to the login directory. Kamal has none.
pub(crate) fn users_directory(project: &Project, role: &RoleName) -> String {
    format!("{APPS_CONFIG}/{}/users/{role}", project.stem())
}

/// Returns the folders of the certificate and of those who may come to an accessory, relative to the login directory. Kamal
/// has none.
pub(crate) fn accessory_folders(project: &Project, accessory: &AccessoryName) -> [String; 2] {
    ["tls", "users"].map(|kind| format!("{APPS_CONFIG}/{}/{kind}/accessories/{accessory}", project.stem()))
}

/// Returns the version in the name of a container of a role.
pub(crate) fn container_version<'a>(
    project: &Project,
    role: &RoleName,
    container: &'a ContainerName,
) -> Option<&'a str> {
    let version = container.as_str().strip_prefix(&project.role_prefix(role))?.strip_prefix('-')?;
    version.split(REPLACED_MARK).next()?.split(REPLICA_MARK).next()
}

/// Returns the folder of our own state for a service and destination, relative to the login directory.
#[must_use]
pub fn state_directory(stem: &str) -> String {
    format!(".kamal/freehold/apps/{stem}")
}

/// Returns the tag that always names the running image: `latest` or `latest-DESTINATION`.
#[must_use]
pub fn latest_image(project: &Project) -> Option<ImageReference> {
    let tag = match &project.destination {
        Some(destination) => format!("latest-{destination}"),
        None => "latest".to_owned(),
    };
    Some(ImageReference { repository: project.image.clone(), tag: Tag::parse(tag).ok()? })
}

/// Returns the latest tag of another image of the project.
pub(crate) fn latest_of(image: &ImageReference, latest: &ImageReference) -> ImageReference {
    ImageReference { repository: image.repository.clone(), tag: latest.tag.clone() }
}

/// Returns the labels by which Kamal and Freehold find the containers of a role. Without a destination its label is
/// there and empty: Kamal filters on that.
#[must_use]
pub fn role_labels(project: &Project, role: &RoleName, release: &ReleaseId) -> BTreeMap<String, String> {
    let mut labels = project.roles.get(role).map(|role| role.labels.clone()).unwrap_or_default();
    labels.insert("service".to_owned(), project.service.to_string());
    labels.insert("role".to_owned(), role.to_string());
    labels.insert(
        "destination".to_owned(),
        project.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
    );
    labels.insert(RELEASE_LABEL.to_owned(), release.to_string());
    labels
}

/// Returns the file in which a host keeps the release that is tried, relative to the login directory.
#[must_use]
pub fn canary_file(stem: &str) -> String {
    format!("{}/canary.json", state_directory(stem))
}

/// Draws hexadecimal digits from a seed: the same seed and name give the same digits.
pub(crate) fn hex_digits(seed: [u8; 16], name: &str, digits: usize) -> String {
    // FNV-1a over seed and name, then SplitMix64: names have to differ from one another, nothing more.
    let mut state = seed.iter().copied().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut text = String::with_capacity(digits + 16);
    while text.len() < digits {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        text.push_str(&format!("{:016x}", mixed ^ (mixed >> 31)));
    }
    text.truncate(digits);
    text
}

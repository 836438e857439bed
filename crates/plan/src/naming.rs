use std::collections::BTreeMap;

use freehold_model::{ImageReference, Project, ReleaseId, RoleName, Tag};

/// The network of all containers that the proxy reaches (Kamal 2.12's name).
pub const NETWORK: &str = "kamal";

/// The label that ties a container to the release that made it.
pub const RELEASE_LABEL: &str = "freehold.release";

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

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Destination, ImageReference, RoleName, ServiceName, Tag};

/// The version of a release: the tag of its image and the last part of its containers' names.
pub type ReleaseVersion = Tag;

/// The identifier of one rollout of a release, sortable by time: `20261122T033912Z-5f3a9c`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseId(String);

impl ReleaseId {
    /// Makes an identifier of a UTC time, already written as `YYYYMMDDTHHMMSSZ`, and 24 random bits.
    #[must_use]
    pub fn new(compact_utc: &str, random: [u8; 3]) -> Self {
        let [a, b, c] = random;
        Self(format!("{compact_utc}-{a:02x}{b:02x}{c:02x}"))
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// Who deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// Git's `user.name`, or the login name.
    pub name: String,
    /// Git's `user.email`, or the login name.
    pub email: String,
}

/// What ran, exactly: enough to run it again without the deploy file, the registry or the laptop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The rollout that made it.
    pub id: ReleaseId,
    /// Its version.
    pub version: ReleaseVersion,
    /// The service.
    pub service: ServiceName,
    /// The destination, if the service has several.
    pub destination: Option<Destination>,
    /// The image.
    pub image: ImageReference,
    /// When it became live, UTC, `2026-01-31T12:00:00Z`.
    pub created_at: String,
    /// Who deployed it.
    pub author: Author,
    /// The git revision of the source, if there is one.
    pub git_revision: Option<String>,
    /// Whether it has error pages of its own for the proxy.
    #[serde(default, skip_serializing_if = "is_false")]
    pub has_error_pages: bool,
    /// The roles on this host with the whole configuration of their containers, secrets by fingerprint only.
    pub roles: BTreeMap<RoleName, ReleaseRole>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// One role of a release on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRole {
    /// The role's settings at that time, as the plan had them.
    pub role: crate::Role,
    /// The container's name when it was made; its label `freehold.release` finds it after a rename.
    pub container: crate::ContainerName,
    /// Secrets of the environment by name of the variable.
    pub secrets: BTreeMap<crate::EnvName, crate::SecretFingerprint>,
    /// The scheduled jobs of the role that run on this host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<crate::JobName, crate::ScheduledJob>,
}

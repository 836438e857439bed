use std::collections::BTreeMap;
use std::fmt;

use freehold_model::{Architecture, ImageReference, Repository};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::engine::filters;
use crate::json::or_default;
use crate::request::{EngineRequest, escape};
use crate::{Engine, EngineError};

/// The digest of a layer's uncompressed tar, which names its content on every engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub(crate) String);

impl DiffId {
    /// Returns the digest as text: `sha256:` and 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// One image of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The engine's identifier of it, which differs between engines of different stores.
    pub id: String,
    /// Its names with tags, none for a dangling image.
    pub tags: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its size in bytes, shared layers included.
    pub size_bytes: u64,
}

/// An image in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetails {
    /// The engine's identifier of it, which differs between engines of different stores; compare layers instead.
    pub id: String,
    /// Its names with tags.
    pub tags: Vec<String>,
    /// Its names with the digests under which registries know it.
    pub repository_digests: Vec<String>,
    /// Its layers, the lowest first.
    pub layers: Vec<DiffId>,
    /// The processor architecture as the image names it (`amd64`).
    pub architecture_name: String,
    /// The architecture, if it is one that Freehold knows.
    pub architecture: Option<Architecture>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The ports that it says it listens on, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Whether it has a health check of its own.
    pub has_healthcheck: bool,
    /// The names, never the values, of its environment variables.
    pub env_names: Vec<String>,
    /// The entry point.
    pub entrypoint: Vec<String>,
    /// The command.
    pub command: Vec<String>,
    /// The user, empty for root.
    pub user: String,
    /// A digest over layers and configuration, the same for the same image on every engine whatever its store.
    pub fingerprint: String,
}

/// What came of the removal of a name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// The name was removed, and the image if that was its last.
    Untagged,
    /// There was no such name.
    AlreadyGone,
    /// A container needs the image, so it stays as it is.
    InUse,
}

/// What a pruning removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many images and names.
    pub images: usize,
    /// How many bytes that freed.
    pub reclaimed_bytes: u64,
}

/// How large the layers of an image are when they are unpacked, as far as its history tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerSizes {
    /// Whether each size is that of the layer in the same place.
    is_exact: bool,
    layers: usize,
    /// The sizes of the layers that have any, the lowest first.
    sizes: Vec<u64>,
}

impl LayerSizes {
    /// Returns the size of the layers from that one on, or nothing where that is not certain.
    pub(crate) fn from(&self, present: usize) -> Option<u64> {
        self.is_exact.then(|| self.sizes.iter().skip(present).sum())
    }

    /// Returns what the layers from that one on have at most: those without a size are left out of the count.
    pub(crate) fn at_most(&self, present: usize) -> u64 {
        let missing = self.layers.saturating_sub(present);
        self.sizes.iter().rev().take(missing).sum()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSummary {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawDetails {
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    repo_digests: Vec<String>,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    size: u64,
    #[serde(default, deserialize_with = "or_default")]
    created: String,
    #[serde(default, deserialize_with = "or_default")]
    config: RawConfig,
    #[serde(default, rename = "RootFS", deserialize_with = "or_default")]
    root_fs: RawRootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    healthcheck: Option<RawHealthcheck>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealthcheck {
    #[serde(default, deserialize_with = "or_default")]
    test: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRootFs {
    #[serde(deserialize_with = "or_default")]
    layers: Vec<DiffId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPruned {
    #[serde(default, deserialize_with = "or_default")]
    images_deleted: Vec<serde_json::Value>,
    #[serde(default)]
    space_reclaimed: u64,
}

impl RawDetails {
    /// Engines differ in how they write the same image: lists that are absent, null or empty, digits of a time.
    fn fingerprint(&self) -> String {
        let config = &self.config;
        let created: Option<jiff::Timestamp> = self.created.parse().ok();
        let parts = serde_json::json!([
            self.root_fs.layers,
            self.architecture,
            created.map(jiff::Timestamp::as_second),
            config.labels,
            config.exposed_ports.keys().collect::<Vec<_>>(),
            config.healthcheck.as_ref().map(|check| &check.test),
            config.env,
            config.entrypoint,
            config.cmd,
            config.user,
            config.working_dir,
            config.stop_signal,
            config.volumes.keys().collect::<Vec<_>>(),
        ]);
        crate::scratch_image::hex(&sha2::Sha256::digest(parts.to_string()))
    }
}

impl From<RawDetails> for ImageDetails {
    fn from(raw: RawDetails) -> Self {
        let fingerprint = raw.fingerprint();
        let config = raw.config;
        Self {
            id: raw.id,
            tags: raw.repo_tags,
            repository_digests: raw.repo_digests,
            layers: raw.root_fs.layers,
            architecture: Architecture::from_name(&raw.architecture),
            architecture_name: raw.architecture,
            labels: config.labels,
            size_bytes: raw.size,
            exposed_ports: config.exposed_ports.into_keys().collect(),
            has_healthcheck: config
                .healthcheck
                .is_some_and(|check| check.test.first().is_some_and(|kind| kind != "NONE")),
            env_names: config
                .env
                .iter()
                .filter_map(|entry| entry.split('=').next())
                .map(str::to_owned)
                .collect(),
            entrypoint: config.entrypoint,
            command: config.cmd,
            user: config.user,
            fingerprint,
        }
    }
}

impl From<RawSummary> for ImageSummary {
    fn from(raw: RawSummary) -> Self {
        let tags = raw.repo_tags.into_iter().filter(|tag| tag != "<none>:<none>").collect();
        Self { id: raw.id, tags, labels: raw.labels, size_bytes: raw.size }
    }
}

/// In every function here `image` is a name with tag or an identifier.
impl Engine {
    /// Lists the images with a tag of that repository.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list_images(&self, repository: &Repository) -> Result<Vec<ImageSummary>, EngineError> {
        self.images(&[("reference", vec![repository.to_string()])]).await
    }

    /// Lists the images that carry a label, given as `name` or `name=value`.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list_labelled_images(&self, label: &str) -> Result<Vec<ImageSummary>, EngineError> {
        self.images(&[("label", vec![label.to_owned()])]).await
    }

    /// Returns the identifiers of all images, also of those without a name that others are made of.
    pub(crate) async fn all_images(&self) -> Result<Vec<String>, EngineError> {
        let request = EngineRequest::get("list images", "/images/json").query("all", "1");
        let images: Vec<RawSummary> = self.read(request).await?;
        Ok(images.into_iter().map(|image| image.id).collect())
    }

    /// Returns the layers of images.
    pub(crate) async fn layers_of(&self, images: Vec<String>) -> Result<Vec<Vec<DiffId>>, EngineError> {
        const AT_ONCE: usize = 16;
        let details: Vec<Option<ImageDetails>> = stream::iter(images)
            .map(|id| async move { self.inspect_image(&id).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(details.into_iter().flatten().map(|image| image.layers).collect())
    }

    /// Returns about how large each layer is, the lowest first, where the image's history tells.
    pub(crate) async fn layer_sizes(&self, image: &ImageDetails) -> Result<LayerSizes, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Step {
            size: u64,
        }
        let request = EngineRequest::get(
            "tell the history of an image",
            format!("/images/{}/history", escape(&image.id)),
        );
        let steps: Vec<Step> = self.read(request).await?;
        // Steps that made no layer have no size; a layer without size cannot be told from them.
        let sizes: Vec<u64> = steps.iter().rev().map(|step| step.size).filter(|size| *size > 0).collect();
        Ok(LayerSizes { is_exact: sizes.len() == image.layers.len(), layers: image.layers.len(), sizes })
    }

    async fn images(&self, wanted: &[(&str, Vec<String>)]) -> Result<Vec<ImageSummary>, EngineError> {
        let request = EngineRequest::get("list images", "/images/json").query("filters", filters(wanted));
        let images: Vec<RawSummary> = self.read(request).await?;
        Ok(images.into_iter().map(ImageSummary::from).collect())
    }

    /// Describes an image, or gives nothing if there is none.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn inspect_image(&self, image: &str) -> Result<Option<ImageDetails>, EngineError> {
        let action = format!("describe image `{image}`");
        let details: Option<RawDetails> =
            self.read_if_there(EngineRequest::get(action, format!("/images/{}/json", escape(image)))).await?;
        Ok(details.map(ImageDetails::from))
    }

    /// Gives an image a further name; a name that another image had moves over.
    ///
    /// # Errors
    /// [`EngineError`]; status 404 if there is no such image.
    ///
    /// # Cancel safety
    /// The name may have been given; doing it again is harmless.
    pub async fn tag_image(&self, image: &str, name: &ImageReference) -> Result<(), EngineError> {
        let action = format!("tag image `{image}` as `{name}`");
        let request = EngineRequest::post(action, format!("/images/{}/tag", escape(image)))
            .query("repo", name.repository.as_str())
            .query("tag", name.tag.as_str());
        self.order(request, self.deadlines().request).await.map(|_| ())
    }

    /// Removes a name of an image, and the image with the layers that nobody else uses if it was the last. Never
    /// forced: an image by identifier that a container uses is refused.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The engine may go on; doing it again is harmless.
    pub async fn remove_image(&self, image: &str) -> Result<Untagged, EngineError> {
        let action = format!("remove image `{image}`");
        let request = EngineRequest::delete(action, format!("/images/{}", escape(image)));
        match self.order(request, self.deadlines().request).await {
            Ok(_) => Ok(Untagged::Untagged),
            Err(error) if error.status() == Some(404) => Ok(Untagged::AlreadyGone),
            Err(error) if error.status() == Some(409) => Ok(Untagged::InUse),
            Err(error) => Err(error),
        }
    }

    /// Removes the images without a name that carry the label (`name` or `name=value`) and that no container uses.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The engine goes on.
    pub async fn prune_dangling_images(&self, label: &str) -> Result<Pruned, EngineError> {
        let wanted = filters(&[("dangling", vec!["true".to_owned()]), ("label", vec![label.to_owned()])]);
        let request = EngineRequest::post("remove unused images", "/images/prune").query("filters", wanted);
        let pruned: RawPruned = self.read(request).await?;
        Ok(Pruned { images: pruned.images_deleted.len(), reclaimed_bytes: pruned.space_reclaimed })
    }
}

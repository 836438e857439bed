//! What is known already: an image whose content key somebody has is not built, pushed or pulled again.

use std::collections::BTreeMap;

use freehold_docker::{Authorities, ContentKey, Engine, KeyFacts, Manifest, RegistryClient, RegistryError};
use freehold_model::{ImageDigest, ImageReference, RemoteImage, Repository, Tag};
use freehold_plan::BuildTool;

use crate::engine_host::EngineHost;
use crate::engine_host::build::build_request;
use crate::engine_host::trust::TrustError;
use crate::engine_host::workshop::{BuildContext, Workshop};
use crate::host::{Outcome, StepError, Work};

/// The label that holds the key of an image's content.
pub(super) const BUILD_LABEL: &str = "freehold.build";

/// Where Docker keeps what it knows of single registries.
const DOCKER_CERTIFICATES: &str = "/etc/docker/certs.d";

/// An image that was not built because somebody has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Every host that runs it has an image of this key.
    OnHosts(ContentKey),
    /// The registry has it under its tag.
    InRegistry(ImageDigest),
    /// The engine that builds has it, and it was checked there.
    Checked(ImageDigest),
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Workshop {
    /// Returns the key of what would be built; none where nobody can tell all that the build takes in.
    pub(super) async fn content_key(
        &self,
        source: &BuildContext,
        work: &Work<'_>,
        engine: &Engine,
    ) -> Option<ContentKey> {
        // Buildpacks come with base images of their own, which move without a trace here.
        if matches!(source.tool, BuildTool::Pack(_)) {
            return None;
        }
        let key = self.key(source, work, engine).await;
        key.inspect_err(|error| tracing::debug!(%error, "no content key")).ok().flatten()
    }

    async fn key(
        &self,
        source: &BuildContext,
        work: &Work<'_>,
        engine: &Engine,
    ) -> Result<Option<ContentKey>, AnyError> {
        let request = build_request(source, &[], work)?;
        let asked = request.clone();
        let Some(names) = tokio::task::spawn_blocking(move || asked.base_images()).await?? else {
            return Ok(None);
        };
        let mut facts = KeyFacts { clone_of: source.clone_of.clone(), ..KeyFacts::default() };
        let mut architectures: Vec<&str> =
            source.builder.architectures.iter().map(|architecture| architecture.as_str()).collect();
        match &source.tool {
            BuildTool::Buildx(buildx) => {
                let builder = &source.builder;
                let wanted = [&builder.provenance, &builder.sbom, &builder.ssh];
                facts.builder = format!("buildx {} {wanted:?}", buildx.driver);
            }
            _ => {
                let info = engine.info().await?;
                facts.builder = if info.buildkit { "buildkit" } else { "classic" }.to_owned();
                if architectures.is_empty() {
                    let Some(own) = info.architecture else { return Ok(None) };
                    architectures.push(own.as_str());
                }
            }
        }
        if architectures.is_empty() {
            return Ok(None);
        }
        facts.architectures = architectures.join(",");
        for name in names {
            let Some(digest) = self.base_digest(&name, source, engine).await? else { return Ok(None) };
            facts.bases.insert(name, digest);
        }
        Ok(Some(request.content_key(&facts).await?))
    }

    /// Returns the digest of a base image that the build would take: the one on the engine, otherwise the registry's.
    async fn base_digest(
        &self,
        name: &str,
        source: &BuildContext,
        engine: &Engine,
    ) -> Result<Option<String>, AnyError> {
        let Ok(image) = RemoteImage::parse(name) else { return Ok(None) };
        if let Some(digest) = image.digest {
            return Ok(Some(digest.to_string()));
        }
        // A builder of buildx sees no image of the engine.
        if !matches!(source.tool, BuildTool::Buildx(_))
            && let Some(details) = engine.inspect_image(name).await?
        {
            let known = details.repository_digests.iter().filter_map(|known| known.split_once('@'));
            let known = known.map(|(_, digest)| digest.to_owned()).next();
            return Ok(Some(known.unwrap_or(details.fingerprint)));
        }
        let asked = engine.registry_digest(name, self.credentials(&image.repository)).await;
        let asked = asked.inspect_err(|error| tracing::debug!(%error, name, "no digest of a base image"));
        Ok(asked.ok().map(|digest| digest.to_string()))
    }

    /// Looks for an image of this key where it would go anyway, and gives it the tag there.
    pub(super) async fn known(
        &self,
        source: &BuildContext,
        image: &ImageReference,
        key: &ContentKey,
        engine: &Engine,
    ) -> Result<Option<Outcome>, StepError> {
        if let Some(latest) = &source.registry_latest {
            match self.known_in_registry(image, latest, key).await {
                Ok(Some(outcome)) => return Ok(Some(outcome)),
                Ok(None) => {}
                // The build and the push find out by themselves what is wrong.
                Err(error) => {
                    tracing::debug!(%error, "the registry was not asked for an image that is known")
                }
            }
        }
        let is_on_engine = source.destination == super::BuildDestination::Engine;
        if is_on_engine && let Some(outcome) = tag_known(engine, image, key).await? {
            return Ok(Some(outcome));
        }
        // What is checked has to be where it is checked.
        let is_checked = self.trust.read().decides();
        if source.registry_latest.is_some() || source.hosts.is_empty() || is_checked {
            return Ok(None);
        }
        for name in &source.hosts {
            let Some(host) = self.host(name) else { return Ok(None) };
            let link = host.link().await?;
            if labelled(&link.engine, image, key).await?.is_none() {
                return Ok(None);
            }
        }
        self.found.write().insert(image.clone(), Found::OnHosts(key.clone()));
        Ok(Some(Outcome::Done(Some("not built: every host has the same already".to_owned()))))
    }

    async fn known_in_registry(
        &self,
        image: &ImageReference,
        latest: &Tag,
        key: &ContentKey,
    ) -> Result<Option<Outcome>, RegistryError> {
        let client = self.registry_client(&image.repository)?;
        for tag in [&image.tag, latest] {
            let Some(manifest) = client.manifest(tag.as_str()).await? else { continue };
            if client.labels(&manifest).await?.get(BUILD_LABEL).map(String::as_str) != Some(key.as_str()) {
                continue;
            }
            for wanted in [&image.tag, latest] {
                let is_there = wanted == tag || tag_names(&client, wanted, &manifest).await?;
                if !is_there {
                    client.tag(&manifest, wanted.as_str()).await?;
                }
            }
            self.found.write().insert(image.clone(), Found::InRegistry(manifest.digest));
            return Ok(Some(Outcome::Done(Some("not built: the registry has the same already".to_owned()))));
        }
        Ok(None)
    }

    /// Makes a client for the registry of an image.
    pub(super) fn registry_client(&self, repository: &Repository) -> Result<RegistryClient, RegistryError> {
        RegistryClient::new(repository, self.credentials(repository), &self.authorities())
    }

    fn authorities(&self) -> Authorities {
        Authorities {
            bundle: self.environment.get("SSL_CERT_FILE").map(Into::into),
            of_registries: DOCKER_CERTIFICATES.into(),
        }
    }

    /// Returns where an image was found that was not built.
    pub(super) fn found(&self, image: &ImageReference) -> Option<Found> {
        self.found.read().get(image).cloned()
    }
}

impl EngineHost {
    /// Gives the image that is sent its tag again, should another build on the same engine have taken it meanwhile.
    pub(super) async fn hold_tag(&self, image: &ImageReference, engine: &Engine) -> Result<(), StepError> {
        let key = self.workshop.keys.read().get(image).cloned();
        if let Some(key) = key {
            tag_known(engine, image, &key).await?;
        }
        let Some(Found::Checked(digest)) = self.workshop.found(image) else { return Ok(()) };
        let failed = |error| StepError::image(format!("look for image `{image}`"), error);
        let there = engine.inspect_image(&image.to_string()).await.map_err(failed)?;
        if there.is_some_and(|there| there.id == digest.as_str()) {
            return Ok(());
        }
        Err(StepError::image(format!("send image `{image}`"), TrustError::Moved { image: image.to_string() }))
    }

    /// Gives an image that the host has under another name its tag, where the build found that it has one.
    pub(super) async fn take_known(
        &self,
        image: &ImageReference,
        engine: &Engine,
    ) -> Result<Option<Outcome>, StepError> {
        match self.workshop.found(image) {
            Some(Found::OnHosts(key)) => tag_known(engine, image, &key).await,
            Some(Found::InRegistry(_) | Found::Checked(_)) | None => Ok(None),
        }
    }
}

async fn tag_names(client: &RegistryClient, tag: &Tag, manifest: &Manifest) -> Result<bool, RegistryError> {
    Ok(client.manifest(tag.as_str()).await?.is_some_and(|there| there.digest == manifest.digest))
}

/// Gives an image of this key its tag, if the engine has one.
async fn tag_known(
    engine: &Engine,
    image: &ImageReference,
    key: &ContentKey,
) -> Result<Option<Outcome>, StepError> {
    let Some(known) = labelled(engine, image, key).await? else { return Ok(None) };
    let wanted = image.to_string();
    if known.tags.contains(&wanted) {
        return Ok(Some(Outcome::AlreadyDone));
    }
    let failed = |error| StepError::image(format!("tag image `{image}`"), error);
    engine.tag_image(&known.id, image).await.map_err(failed)?;
    let prefix = format!("{}:", image.repository);
    let other = known.tags.iter().find_map(|tag| tag.strip_prefix(&prefix)).filter(|tag| *tag != "latest");
    Ok(Some(Outcome::Done(Some(match other {
        Some(version) => format!("not built: the same as {version}"),
        None => "not built: the same is there".to_owned(),
    }))))
}

async fn labelled(
    engine: &Engine,
    image: &ImageReference,
    key: &ContentKey,
) -> Result<Option<freehold_docker::ImageSummary>, StepError> {
    let failed = |error| StepError::image(format!("look for image `{image}`"), error);
    let wanted = image.to_string();
    let mut images = engine.list_labelled_images(&format!("{BUILD_LABEL}={key}")).await.map_err(failed)?;
    // Whoever builds upon an image of ours inherits its labels.
    let ours = format!("{}:", image.repository);
    images.retain(|known| known.tags.iter().any(|tag| tag.starts_with(&ours)));
    // One that has the tag goes first.
    images.sort_by_key(|known| !known.tags.contains(&wanted));
    Ok(images.into_iter().next())
}

/// Returns the labels of an image with its key; an empty one where there is none, as it may be built upon an image that has
/// one.
pub(super) fn with_key(
    labels: &BTreeMap<String, String>,
    key: Option<&ContentKey>,
) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert(BUILD_LABEL.to_owned(), key.map(ToString::to_string).unwrap_or_default());
    labels
}

//! What refers to an image: signatures, attestations and other things that were pushed beside it. Source: the OCI
//! distribution specification 1.1, "Listing Referrers" and "Unavailable Referrers API".

use freehold_model::ImageDigest;
use http::header::ACCEPT;
use http::{StatusCode, Uri};

use super::exchange::Asked;
use super::{Descriptor, Manifest, RegistryClient, RegistryError};

/// The form of a list.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How many pages of a list are read.
const PAGES: usize = 100;

impl RegistryClient {
    /// Returns what of one type refers to an image: by the registry's list, or in registries that keep none by the tag
    /// `sha256-DIGEST` that clients keep instead.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn referrers(
        &self,
        digest: &ImageDigest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let mut found = Vec::new();
        let mut path = Some(format!("/v2/{}/referrers/{digest}", self.repository));
        let mut is_kept = false;
        for _ in 0..PAGES {
            let Some(page) = path.take() else { break };
            let answer = self.ask(Asked::get(page).header(ACCEPT, INDEX), "pull").await?;
            // What has no such list answers in many ways; only this form is one.
            if !is_kept && (answer.status != StatusCode::OK || !answer.content_type.starts_with(INDEX)) {
                break;
            }
            let answer = self.good(answer, "read")?;
            is_kept = true;
            path = answer.next.as_deref().and_then(|next| self.path_of(next));
            found.extend(self.list(&answer.body)?);
        }
        if !is_kept {
            let tag = digest.as_str().replacen(':', "-", 1);
            if let Some(Manifest { bytes, .. }) = self.manifest(&tag).await? {
                found = self.list(&bytes)?;
            }
        }
        found.retain(|referrer| referrer.artifact_type == artifact_type);
        Ok(found)
    }

    /// Returns the path of an address at this registry.
    fn path_of(&self, address: &str) -> Option<String> {
        let uri: Uri = address.parse().ok()?;
        let is_here = uri.host().is_none_or(|host| host == self.host);
        is_here.then(|| uri.path_and_query().map(ToString::to_string))?
    }

    fn list(&self, text: &[u8]) -> Result<Vec<Descriptor>, RegistryError> {
        let content: super::ManifestContent =
            serde_json::from_slice(text).map_err(|error| self.not_understood(error))?;
        Ok(content.manifests)
    }
}

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use freehold_model::{ImageDigest, ImageReference};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::json::or_default;
use crate::load::{Activity, ErrorDetail, failure};
use crate::request::{EngineRequest, JsonLines, escape};
use crate::{Engine, EngineError, EngineMessage};

/// What a registry is told about who asks.
#[derive(Clone)]
pub struct RegistryCredentials {
    /// The registry's server (`ghcr.io`), or none for Docker Hub.
    pub server: Option<String>,
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: SecretString,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryCredentials")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The server by which engines and `~/.docker/config.json` know Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Serialize)]
struct AuthConfig<'a> {
    username: &'a str,
    password: &'a str,
    serveraddress: &'a str,
}

impl RegistryCredentials {
    fn json(&self) -> Vec<u8> {
        let config = AuthConfig {
            username: &self.username,
            password: self.password.expose_secret(),
            serveraddress: self.server.as_deref().unwrap_or(DOCKER_HUB),
        };
        // Three strings always become JSON.
        serde_json::to_vec(&config).unwrap_or_default()
    }

    fn header(&self) -> String {
        URL_SAFE.encode(self.json())
    }
}

/// How far a pull or a push is, in bytes of the layers that it has begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryProgress {
    /// Bytes that moved.
    pub bytes: u64,
    /// Bytes of the layers begun so far; it grows.
    pub bytes_known: u64,
    /// Layers that are done, also those that were there.
    pub layers_done: usize,
    /// Layers seen so far.
    pub layers: usize,
}

/// One line of the answer to a pull or push: of a layer, of the whole image, or a failure.
#[derive(Debug, Deserialize)]
struct RegistryLine {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default, rename = "progressDetail", deserialize_with = "or_default")]
    progress: Amount,
    #[serde(default)]
    error: Option<String>,
    #[serde(default, rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
}

impl RegistryLine {
    fn failure(&self) -> Option<EngineMessage> {
        failure(self.error.as_ref(), self.error_detail.as_ref())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Amount {
    #[serde(default)]
    current: u64,
    #[serde(default)]
    total: u64,
}

#[derive(Default)]
struct Layer {
    current: u64,
    total: u64,
    is_done: bool,
}

/// Adds up the lines of a pull or a push.
#[derive(Default)]
struct Tally {
    layers: BTreeMap<String, Layer>,
}

impl Tally {
    fn note(&mut self, line: RegistryLine) -> Option<RegistryProgress> {
        // The first line of a pull names the tag, and lines about the whole image have no amount.
        let id = line.id.filter(|id| id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let layer = self.layers.entry(id).or_default();
        // These texts only make the progress look right; nothing is decided by them.
        let moves = matches!(line.status.as_str(), "Downloading" | "Pushing");
        if moves && line.progress.total > 0 {
            layer.total = line.progress.total;
            layer.current = line.progress.current.min(line.progress.total);
        }
        if matches!(
            line.status.as_str(),
            "Pull complete" | "Already exists" | "Pushed" | "Layer already exists" | "Download complete"
        ) {
            layer.current = layer.total;
            layer.is_done = line.status != "Download complete";
        }
        Some(RegistryProgress {
            bytes: self.layers.values().map(|layer| layer.current).sum(),
            bytes_known: self.layers.values().map(|layer| layer.total).sum(),
            layers_done: self.layers.values().filter(|layer| layer.is_done).count(),
            layers: self.layers.len(),
        })
    }
}

impl Engine {
    /// Makes the engine pull an image by tag or digest (`app:1`, `postgres@sha256:…`).
    ///
    /// # Errors
    /// [`EngineError`]; status 404 where the registry has no such image or does not show it to these credentials.
    ///
    /// # Cancel safety
    /// The engine stops pulling when the connection ends; layers that are complete stay.
    pub async fn pull_image(
        &self,
        image: &str,
        credentials: Option<&RegistryCredentials>,
        progress: &mut (dyn FnMut(RegistryProgress) + Send),
    ) -> Result<(), EngineError> {
        let request =
            EngineRequest::post(format!("pull image `{image}`"), "/images/create").query("fromImage", image);
        self.registry_stream(with_credentials(request, credentials), progress).await
    }

    /// Makes the engine push a tag.
    ///
    /// # Errors
    /// [`EngineError`]; [`EngineError::Failed`] with the registry's words where it refuses.
    ///
    /// # Cancel safety
    /// The engine stops pushing when the connection ends; the tag is the last thing that it writes.
    pub async fn push_image(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        progress: &mut (dyn FnMut(RegistryProgress) + Send),
    ) -> Result<(), EngineError> {
        let path = format!("/images/{}/push", escape(image.repository.as_str()));
        let request =
            EngineRequest::post(format!("push image `{image}`"), path).query("tag", image.tag.as_str());
        // Docker 20.10 refuses a push without the header, even one that needs no password.
        let request = match credentials {
            Some(credentials) => request.header("X-Registry-Auth", credentials.header()),
            None => request.header("X-Registry-Auth", URL_SAFE.encode("{}")),
        };
        self.registry_stream(request, progress).await
    }

    /// Has the engine ask the registry for the digest of a tag, without pulling anything.
    ///
    /// # Errors
    /// [`EngineError`]; status 404 where the engine cannot ask, as Podman's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn registry_digest(
        &self,
        image: &str,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<ImageDigest, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Distribution {
            descriptor: Descriptor,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: ImageDigest,
        }
        let action = format!("ask the registry for image `{image}`");
        // The slashes of the name are part of this path.
        let request = EngineRequest::get(action, format!("/distribution/{image}/json"));
        let answer: Distribution = self.read(with_credentials(request, credentials)).await?;
        Ok(answer.descriptor.digest)
    }

    /// Has the engine log in to a registry, which shows that name and password are good. The engine keeps nothing.
    ///
    /// # Errors
    /// [`EngineError`] with the engine's words where the registry refuses them or cannot be reached; engines tell the
    /// two apart in words only.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn check_credentials(&self, credentials: &RegistryCredentials) -> Result<(), EngineError> {
        let server = credentials.server.as_deref().unwrap_or("Docker Hub");
        let request = EngineRequest::post(format!("log in to `{server}`"), "/auth");
        let request = request.json(credentials.json());
        self.order(request, self.deadlines().request).await.map(drop)
    }

    async fn registry_stream(
        &self,
        request: EngineRequest,
        progress: &mut (dyn FnMut(RegistryProgress) + Send),
    ) -> Result<(), EngineError> {
        let (activity, idle) = (Activity::new(), self.deadlines().transfer_idle);
        let action = request.action.clone();
        let mut tally = Tally::default();
        activity
            .bound(idle, &action, async {
                // A connection of its own: its end is how the engine learns that nobody waits any more.
                let (answer, _connection) = self.send_apart(request, idle).await?;
                let mut lines = JsonLines::new(answer.chunks(idle));
                while let Some(line) = lines.next::<RegistryLine>().await {
                    activity.touch();
                    let line = line?;
                    if let Some(source) = line.failure() {
                        return Err(EngineError::Failed { action: action.clone(), source });
                    }
                    if let Some(now) = tally.note(line) {
                        progress(now);
                    }
                }
                Ok(())
            })
            .await
    }
}

fn with_credentials(request: EngineRequest, credentials: Option<&RegistryCredentials>) -> EngineRequest {
    match credentials {
        Some(credentials) => request.header("X-Registry-Auth", credentials.header()),
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(server: Option<&str>) -> RegistryCredentials {
        RegistryCredentials {
            server: server.map(str::to_owned),
            username: "ann".to_owned(),
            password: SecretString::from("p?ss>word"),
        }
    }

    #[test]
    fn the_header_is_url_safe_and_debug_hides_the_password() {
        let ours = credentials(Some("registry.example.com"));
        let header = ours.header();
        assert!(!header.contains('+') && !header.contains('/'));
        let json: serde_json::Value =
            serde_json::from_slice(&URL_SAFE.decode(header).expect("base64")).expect("JSON");
        assert_eq!(json["password"], "p?ss>word");
        assert_eq!(json["serveraddress"], "registry.example.com");
        assert!(!format!("{ours:?}").contains("p?ss"));
    }

    #[test]
    fn docker_hub_goes_by_its_old_address() {
        let json = credentials(None).json();
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["serveraddress"], DOCKER_HUB);
    }

    #[test]
    fn layers_add_up_and_other_lines_do_not_count() {
        let mut tally = Tally::default();
        let mut note = |text: &str| {
            let line: RegistryLine = serde_json::from_str(text).expect("a line");
            assert_eq!(line.failure(), None);
            tally.note(line)
        };
        assert_eq!(note(r#"{"status":"Pulling from library/postgres","id":"16"}"#), None);
        assert_eq!(note(r#"{"status":"Digest: sha256:00"}"#), None);
        note(r#"{"status":"Already exists","progressDetail":{},"id":"aaaaaaaaaaaa"}"#);
        note(r#"{"status":"Downloading","progressDetail":{"current":5,"total":20},"id":"bbbbbbbbbbbb"}"#);
        let now =
            note(r#"{"status":"Extracting","progressDetail":{"current":1,"total":9},"id":"bbbbbbbbbbbb"}"#);
        let expected = RegistryProgress { bytes: 5, bytes_known: 20, layers_done: 1, layers: 2 };
        assert_eq!(now, Some(expected));
        let done = note(r#"{"status":"Pull complete","progressDetail":{},"id":"bbbbbbbbbbbb"}"#);
        assert_eq!(done, Some(RegistryProgress { bytes: 20, layers_done: 2, ..expected }));
    }

    #[test]
    fn a_refusal_is_seen() {
        let text = r#"{"errorDetail":{"message":"denied"},"error":"denied"}"#;
        let line: RegistryLine = serde_json::from_str(text).expect("a line");
        assert_eq!(line.failure().map(|message| message.0), Some("denied".to_owned()));
    }
}

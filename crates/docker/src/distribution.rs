//! A registry, spoken to directly: what no engine can be asked. The protocol is that of the OCI distribution
//! specification 1.1; logging in is that of the Docker registry's token specification.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_model::{ImageDigest, Repository};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode, Uri};
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_rustls::rustls::ClientConfig;

use crate::RegistryCredentials;
use crate::request::escape;

pub use error::{RegistryError, RegistryMessage};

use challenge::Challenge;
use error::Refusal;
use exchange::{Answer, Asked, Scheme, exchange, trusting};

mod challenge;
mod error;
mod exchange;
mod referrers;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How many times an answer may send us elsewhere.
const REDIRECTS: usize = 5;

/// The forms of a manifest that are understood.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Where certificates of authorities are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// A bundle that takes the place of the system's, as `SSL_CERT_FILE` names it.
    pub bundle: Option<PathBuf>,
    /// Where Docker keeps those of single registries: `SERVER/*.crt` in `/etc/docker/certs.d`.
    pub of_registries: PathBuf,
}

/// A manifest as a registry stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest, which was checked.
    pub digest: ImageDigest,
    /// Its form.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The digest of the content.
    pub digest: String,
    /// Its form.
    #[serde(default)]
    pub media_type: String,
    /// What it is for, where it refers to an image.
    #[serde(default)]
    pub artifact_type: String,
    /// Notes beside it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What is in a manifest of an image, or in an index of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ManifestContent {
    /// The configuration of an image.
    #[serde(default)]
    pub config: Option<Descriptor>,
    /// The layers of an image.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The images of an index.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// One repository of a registry.
#[derive(Debug)]
pub struct RegistryClient {
    registry: String,
    repository: String,
    host: String,
    port: Option<u16>,
    credentials: Option<RegistryCredentials>,
    tls: Arc<ClientConfig>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How it is spoken to, once that is known.
    scheme: Option<Scheme>,
    /// What it wants to see, by what is asked for.
    authorization: BTreeMap<&'static str, String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens are secrets.
        formatter.debug_struct("State").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// Makes a client; nothing is connected.
    ///
    /// # Errors
    /// [`RegistryError::Authorities`] when no certificate of an authority can be read.
    pub fn new(
        repository: &Repository,
        credentials: Option<&RegistryCredentials>,
        authorities: &Authorities,
    ) -> Result<Self, RegistryError> {
        let server = repository.server().filter(|server| *server != "docker.io");
        let registry = server.unwrap_or("Docker Hub").to_owned();
        let path = match repository.server() {
            Some(server) => repository.as_str().get(server.len() + 1..).unwrap_or_default(),
            None => repository.as_str(),
        };
        let path =
            if server.is_none() && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let place = server.unwrap_or("registry-1.docker.io");
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (place, None),
        };
        let tls = trusting(authorities, place).map_err(|source| RegistryError::Authorities { source })?;
        Ok(Self {
            registry,
            repository: path,
            host: host.to_owned(),
            port,
            credentials: credentials.cloned(),
            tls: Arc::new(tls),
            state: Mutex::default(),
        })
    }

    /// Returns a manifest by tag or digest, or none if there is no such image.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn manifest(&self, reference: &str) -> Result<Option<Manifest>, RegistryError> {
        let asked = Asked::get(format!("/v2/{}/manifests/{reference}", self.repository));
        let answer = self.ask(asked.header(ACCEPT, MANIFESTS), "pull").await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.good(answer, "read")?;
        let digest =
            ImageDigest::parse(digest_of(&answer.body)).map_err(|error| self.not_understood(error))?;
        if reference.starts_with("sha256:") && reference != digest.as_str() {
            return Err(self.not_understood("it is not what the digest names"));
        }
        Ok(Some(Manifest { digest, media_type: answer.content_type, bytes: answer.body }))
    }

    /// Returns a small blob.
    ///
    /// # Errors
    /// [`RegistryError`], also where it is not what its digest names.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn blob(&self, digest: &str) -> Result<Bytes, RegistryError> {
        let asked = Asked::get(format!("/v2/{}/blobs/{digest}", self.repository));
        let answer = self.ask(asked, "pull").await?;
        let answer = self.good(answer, "read")?;
        if digest_of(&answer.body) != digest {
            return Err(self.not_understood("it is not what the digest names"));
        }
        Ok(answer.body)
    }

    /// Returns the labels of an image; of an index, those of the first image in it.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn labels(&self, manifest: &Manifest) -> Result<BTreeMap<String, String>, RegistryError> {
        #[derive(Deserialize)]
        struct Configuration {
            #[serde(default)]
            config: Labelled,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Labelled {
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
        }
        let mut content = self.content(manifest)?;
        if content.config.is_none() {
            // Attestations stand in an index too, for no platform.
            let is_image = |image: &&Descriptor| !image.annotations.contains_key("vnd.docker.reference.type");
            let Some(first) = content.manifests.iter().find(is_image) else { return Ok(BTreeMap::new()) };
            let Some(first) = self.manifest(&first.digest).await? else { return Ok(BTreeMap::new()) };
            content = self.content(&first)?;
        }
        let Some(config) = content.config else { return Ok(BTreeMap::new()) };
        let text = self.blob(&config.digest).await?;
        let config: Configuration =
            serde_json::from_slice(&text).map_err(|error| self.not_understood(error))?;
        Ok(config.config.labels.unwrap_or_default())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`RegistryError::Answer`] when it is none.
    pub fn content(&self, manifest: &Manifest) -> Result<ManifestContent, RegistryError> {
        serde_json::from_slice(&manifest.bytes).map_err(|error| self.not_understood(error))
    }

    /// Gives an image that the registry has a further tag; none of its bytes move.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// The tag is set or not.
    pub async fn tag(&self, manifest: &Manifest, tag: &str) -> Result<(), RegistryError> {
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        let mut asked = Asked::new(Method::PUT, path).header(CONTENT_TYPE, &manifest.media_type);
        asked.body = manifest.bytes.clone();
        let answer = self.ask(asked, "pull,push").await?;
        self.good(answer, "write to").map(drop)
    }

    /// Begins an upload and gives it up: shows that the registry is there, lets us in, has the repository or makes it, and
    /// can store something.
    ///
    /// # Errors
    /// [`RegistryError`] with which of these is not so.
    ///
    /// # Cancel safety
    /// The registry forgets the upload by itself.
    pub async fn check_push(&self) -> Result<(), RegistryError> {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        let answer = self.ask(Asked::new(Method::POST, path), "pull,push").await?;
        let answer = self.good(answer, "write to")?;
        if let Some(place) = answer.location.and_then(|place| place.parse::<Uri>().ok())
            && place.host().is_none_or(|host| host == self.host)
        {
            let path = place.path_and_query().map_or("/", |path| path.as_str());
            let given_up = self.ask(Asked::new(Method::DELETE, path.to_owned()), "pull,push").await;
            tracing::debug!(given_up = given_up.is_ok(), "upload");
        }
        Ok(())
    }

    async fn ask(&self, asked: Asked, actions: &'static str) -> Result<Answer, RegistryError> {
        let mut state = self.state.lock().await;
        let mut is_new = false;
        loop {
            let mut request = asked.clone();
            if let Some(authorization) = state.authorization.get(actions) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let answer = self.send(request, &mut state).await?;
            if answer.status != StatusCode::UNAUTHORIZED || is_new {
                return Ok(answer);
            }
            // A token may have expired: then a new one is had.
            let challenge = answer.challenges.iter().find_map(|text| Challenge::parse(text));
            let Some(challenge) = challenge else { return Ok(answer) };
            state.authorization.insert(actions, self.authorization(&challenge, actions).await?);
            is_new = true;
        }
    }

    /// Sends a request to the registry, by TLS unless it is one on this machine that speaks none, and follows where the
    /// answer leads.
    async fn send(&self, asked: Asked, state: &mut State) -> Result<Answer, RegistryError> {
        let known = state.scheme;
        let schemes: &[Scheme] = match known {
            Some(Scheme::Tls) => &[Scheme::Tls],
            Some(Scheme::Plain) => &[Scheme::Plain],
            None if is_loopback(&self.host) => &[Scheme::Tls, Scheme::Plain],
            None => &[Scheme::Tls],
        };
        let mut failed = None;
        for scheme in schemes {
            let place = (self.host.as_str(), self.port, *scheme);
            match tokio::time::timeout(LIMIT, exchange(place, &asked, &self.tls)).await {
                Ok(Ok(answer)) => {
                    state.scheme = Some(*scheme);
                    return self.follow(answer, &asked).await;
                }
                // What TLS had to say is what counts.
                Ok(Err(source)) => failed = failed.or(Some(source)),
                Err(_) => failed = failed.or(Some(io::ErrorKind::TimedOut.into())),
            }
        }
        let source = failed.unwrap_or_else(|| io::ErrorKind::NotConnected.into());
        Err(RegistryError::Unreachable { registry: self.registry.clone(), source })
    }

    /// Blobs may be stored elsewhere, at an address that needs no authorization.
    async fn follow(&self, mut answer: Answer, asked: &Asked) -> Result<Answer, RegistryError> {
        for _ in 0..REDIRECTS {
            let is_elsewhere = asked.method == Method::GET && answer.status.is_redirection();
            let Some(place) = answer.location.clone().filter(|_| is_elsewhere) else { return Ok(answer) };
            answer = self.fetch(&place, None).await?;
        }
        Ok(answer)
    }

    /// Gets something by its whole address.
    async fn fetch(&self, address: &str, authorization: Option<&str>) -> Result<Answer, RegistryError> {
        let uri: Uri = address.parse().map_err(|error| self.not_understood(error))?;
        let scheme = if uri.scheme_str() == Some("http") { Scheme::Plain } else { Scheme::Tls };
        let host = uri.host().ok_or_else(|| self.not_understood("it leads to no host"))?;
        if scheme == Scheme::Plain && !is_loopback(host) {
            return Err(self.not_understood("it leads to plain HTTP"));
        }
        let mut asked = Asked::get(uri.path_and_query().map_or("/", |path| path.as_str()).to_owned());
        if let Some(authorization) = authorization {
            asked = asked.header(AUTHORIZATION, authorization);
        }
        let place = (host, uri.port_u16(), scheme);
        let failed = |source| RegistryError::Unreachable { registry: host.to_owned(), source };
        match tokio::time::timeout(LIMIT, exchange(place, &asked, &self.tls)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Returns what the header `Authorization` has to say.
    async fn authorization(&self, challenge: &Challenge, actions: &str) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
        }
        let basic = self.credentials.as_ref().map(basic);
        match challenge {
            Challenge::Basic => basic.ok_or_else(|| self.unauthorized(None)),
            Challenge::Bearer { realm, service, .. } => {
                let scope = format!("repository:{}:{actions}", self.repository);
                let separator = if realm.contains('?') { '&' } else { '?' };
                let mut address = format!("{realm}{separator}scope={}", escape(&scope));
                if let Some(service) = service {
                    address += &format!("&service={}", escape(service));
                }
                let answer = self.fetch(&address, basic.as_deref()).await?;
                let answer = self.good(answer, "get a token for")?;
                let token: Token =
                    serde_json::from_slice(&answer.body).map_err(|error| self.not_understood(error))?;
                let token = token.token.or(token.access_token);
                let token = token.ok_or_else(|| self.not_understood("it holds no token"))?;
                Ok(format!("Bearer {token}"))
            }
        }
    }

    fn good(&self, answer: Answer, act: &'static str) -> Result<Answer, RegistryError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let refusal = Refusal::read(&answer.body);
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        let source = refusal.message;
        let is_denial = answer
            .challenges
            .iter()
            .any(|text| Challenge::parse(text).is_some_and(|challenge| challenge.is_denial()));
        Err(match answer.status {
            StatusCode::UNAUTHORIZED if is_denial => {
                RegistryError::Denied { registry, who: self.who(), act, repository, source }
            }
            StatusCode::UNAUTHORIZED => self.unauthorized(source),
            StatusCode::FORBIDDEN => {
                RegistryError::Denied { registry, who: self.who(), act, repository, source }
            }
            StatusCode::NOT_FOUND => RegistryError::NoRepository { registry, repository, source },
            _ if refusal.is_full => RegistryError::Full { registry, source },
            status => RegistryError::Refused { registry, status: status.as_u16(), source },
        })
    }

    fn unauthorized(&self, source: Option<RegistryMessage>) -> RegistryError {
        RegistryError::Unauthorized { registry: self.registry.clone(), who: self.who(), source }
    }

    fn who(&self) -> String {
        match &self.credentials {
            Some(credentials) => format!("user `{}`", credentials.username),
            None => "anybody without a password".to_owned(),
        }
    }

    fn not_understood(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RegistryError {
        RegistryError::Answer { registry: self.registry.clone(), source: source.into() }
    }
}

fn basic(credentials: &RegistryCredentials) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", credentials.username, credentials.password.expose_secret());
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", crate::scratch_image::hex(&Sha256::digest(bytes)))
}

/// Engines take registries on this machine without TLS; so do we.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bundle_of(authorities: &Authorities, server: &str) -> Vec<PathBuf> {
    let folder = authorities.of_registries.join(server);
    let Ok(entries) = fs_err::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files.sort();
    files
}

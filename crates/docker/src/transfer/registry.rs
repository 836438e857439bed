//! The registry way: the engine pulls what it lacks from a read-only registry that lives for one pull.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_model::ImageReference;
use futures_util::{Stream, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::archive::ArchiveReader;
use super::fan_out::{LoadError, Share};
use super::layers::LayerNames;
use super::{TransferProgress, TransferTarget};
use crate::load::ProgressLine;
use crate::request::{EngineRequest, JsonLines};
use crate::scratch_image::hex;
use crate::{ByteStream, Engine, EngineError};

/// Configurations and manifests are far smaller.
const LARGEST_DOCUMENT: u64 = 4 * 1024 * 1024;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Makes a port of the loopback address of an engine's machine lead to us, for instance by SSH's remote forwarding.
#[async_trait]
pub trait RegistryExposure: Send + Sync {
    /// Opens the port. It must close when the returned value is dropped.
    ///
    /// # Errors
    /// Whatever forbids it.
    async fn expose(&self) -> io::Result<ExposedRegistry>;
}

/// Connections as they come in.
pub type IncomingConnections = Pin<Box<dyn Stream<Item = io::Result<Box<dyn ByteStream>>> + Send>>;

/// A port that leads to us.
pub struct ExposedRegistry {
    /// The port on 127.0.0.1, as the engine sees it.
    pub port: u16,
    /// The connections that come in through it.
    pub connections: IncomingConnections,
}

/// The exposure for an engine of this machine: a free port.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalRegistry;

#[async_trait]
impl RegistryExposure for LocalRegistry {
    async fn expose(&self) -> io::Result<ExposedRegistry> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let connections = futures_util::stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await;
            let connection = accepted.map(|(stream, _)| Box::new(stream) as Box<dyn ByteStream>);
            Some((connection, listener))
        });
        Ok(ExposedRegistry { port, connections: Box::pin(connections) })
    }
}

/// Lets the engine pull the image.
pub(super) async fn pull(
    source: &Engine,
    reference: &ImageReference,
    names: LayerNames,
    target: &TransferTarget,
    progress: &(dyn Fn(TransferProgress) + Sync),
) -> Result<Share, LoadError> {
    let offer = LoadError::Offer;
    let exposure = target.exposure.as_ref().ok_or_else(|| offer(io::ErrorKind::Unsupported.into()))?;
    let catalogue =
        Catalogue::read(source, reference, names).await.map_err(|cause| LoadError::Source(cause.into()))?;
    let exposed = exposure.expose().await.map_err(offer)?;
    let port = exposed.port;
    let registry = Arc::new(Registry {
        source: source.clone(),
        reference: reference.clone(),
        catalogue,
        // Other users of that machine can reach the port, but not guess the name.
        repository: format!("freehold-{}", random_name().map_err(offer)?),
        share: Arc::new(Mutex::new(Share::default())),
        // The engine decides what it asks for.
        bytes_total: None,
    });
    let temporary = format!("127.0.0.1:{port}/{}", registry.repository);
    let pulling = pull_and_tag(&target.engine, &temporary, reference);
    let report = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            ticks.tick().await;
            progress(registry.progress());
        }
    };
    let outcome = tokio::select! {
        outcome = pulling => outcome,
        () = serve(Arc::clone(&registry), exposed) => {
            Err(EngineError::connection("pull an image", "the forwarded port has closed"))
        }
        () = report => Ok(()),
    };
    progress(registry.progress());
    let share = *registry.share.lock();
    outcome.map(|()| share).map_err(LoadError::Target)
}

async fn pull_and_tag(
    engine: &Engine,
    temporary: &str,
    reference: &ImageReference,
) -> Result<(), EngineError> {
    let action = format!("pull image `{reference}`");
    let idle = engine.deadlines().transfer_idle;
    let request =
        EngineRequest::post(&action, "/images/create").query("fromImage", temporary).query("tag", "latest");
    let (answer, _connection) = engine.send_apart(request, idle).await?;
    let mut lines = JsonLines::new(answer.chunks(idle));
    let mut failure = None;
    while let Some(line) = lines.next::<ProgressLine>().await {
        failure = line?.failure().or(failure);
    }
    if let Some(source) = failure {
        return Err(EngineError::Failed { action, source });
    }
    let pulled = format!("{temporary}:latest");
    let tagged = engine.tag_image(&pulled, reference).await;
    engine.remove_image(&pulled).await?;
    tagged
}

fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex(&bytes))
}

/// What the registry offers: everything but the content of layers, which is read when it is asked for.
struct Catalogue {
    names: LayerNames,
    config: Bytes,
    manifest: Bytes,
    /// Digest to size, of every layer.
    sizes: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedManifest {
    config: String,
}

impl Catalogue {
    /// Reads the whole image once, for the sizes of its layers and its configuration.
    async fn read(source: &Engine, reference: &ImageReference, mut names: LayerNames) -> io::Result<Self> {
        let saved = source.save_image(&reference.to_string()).await.map_err(io::Error::other)?;
        let mut archive = ArchiveReader::new(saved);
        let mut documents = BTreeMap::new();
        let mut sizes = BTreeMap::new();
        while let Some(entry) = archive.next_entry().await? {
            let layers = names.of_file(&entry.path);
            if !entry.is_file {
                continue;
            }
            for layer in &layers {
                if let Some(diff_id) = names.diff_id(*layer) {
                    sizes.insert(diff_id.to_string(), entry.size);
                }
            }
            if layers.is_empty() && entry.size <= LARGEST_DOCUMENT {
                let mut content = Vec::new();
                while let Some(piece) = archive.next_piece().await? {
                    content.extend_from_slice(&piece);
                }
                content.truncate(usize::try_from(entry.size).unwrap_or_default());
                names.learn(&entry.path, &content);
                documents.insert(entry.path, content);
            }
        }
        let broken = |what: &str| io::Error::other(format!("the archive of the engine has no {what}"));
        let listed = documents.get("manifest.json").ok_or_else(|| broken("manifest"))?;
        let manifests: Vec<SavedManifest> = serde_json::from_slice(listed)?;
        let name = &manifests.first().ok_or_else(|| broken("image"))?.config;
        let config = Bytes::from(documents.get(name).ok_or_else(|| broken("configuration"))?.clone());
        let manifest = Bytes::from(manifest(&names, &sizes, &config)?);
        Ok(Self { names, config, manifest, sizes })
    }
}

/// Source: https://github.com/opencontainers/image-spec/blob/main/manifest.md
fn manifest(names: &LayerNames, sizes: &BTreeMap<String, u64>, config: &Bytes) -> io::Result<Vec<u8>> {
    let mut layers = Vec::new();
    for index in 0..names.count() {
        let digest = names.diff_id(index).map(ToString::to_string).unwrap_or_default();
        // Compressed layers have other digests, under which we do not know them.
        let size = sizes
            .get(&digest)
            .ok_or_else(|| io::Error::other(format!("layer {digest} is not in the archive of the engine")))?;
        layers.push(serde_json::json!({ "mediaType": LAYER_TYPE, "digest": digest, "size": size }));
    }
    let config =
        serde_json::json!({ "mediaType": CONFIG_TYPE, "digest": digest(config), "size": config.len() });
    Ok(serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    }))?)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

struct Registry {
    source: Engine,
    reference: ImageReference,
    catalogue: Catalogue,
    repository: String,
    share: Arc<Mutex<Share>>,
    bytes_total: Option<u64>,
}

/// Serves until the port closes.
async fn serve(registry: Arc<Registry>, mut exposed: ExposedRegistry) {
    let mut connections = JoinSet::new();
    while let Some(connection) = exposed.connections.next().await {
        match connection {
            Ok(connection) => {
                let registry = Arc::clone(&registry);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let registry = Arc::clone(&registry);
                        async move { Ok::<_, Infallible>(registry.answer(&request).await) }
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), service)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "a pull's connection ended"
                        );
                    }
                });
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a pull's connection was not accepted"
                );
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

impl Registry {
    fn progress(&self) -> TransferProgress {
        let share = *self.share.lock();
        TransferProgress {
            layers_total: self.catalogue.names.count(),
            layers_sent: share.layers,
            bytes_total: self.bytes_total,
            bytes_sent: share.bytes,
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let whole = request.method() == Method::GET;
        let path = request.uri().path();
        if path == "/v2/" {
            return plain(StatusCode::OK);
        }
        let inside = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(self.repository.as_str()));
        let answer =
            match inside.and_then(|path| path.strip_prefix('/')).and_then(|path| path.split_once('/')) {
                Some(("manifests", name)) => self.manifest(name, whole),
                Some(("blobs", digest)) => self.blob(digest, whole).await,
                _ => Ok(plain(StatusCode::NOT_FOUND)),
            };
        answer.unwrap_or_else(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, path, "a pull was not answered");
            plain(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }

    fn manifest(&self, name: &str, whole: bool) -> io::Result<Response<Body>> {
        let manifest = &self.catalogue.manifest;
        let own = digest(manifest);
        if name != "latest" && name != own {
            return Ok(plain(StatusCode::NOT_FOUND));
        }
        self.document(MANIFEST_TYPE, &own, manifest, whole)
    }

    async fn blob(&self, wanted: &str, whole: bool) -> io::Result<Response<Body>> {
        let own = digest(&self.catalogue.config);
        if wanted == own {
            return self.document("application/octet-stream", &own, &self.catalogue.config, whole);
        }
        let Some(size) = self.catalogue.sizes.get(wanted).copied() else {
            return Ok(plain(StatusCode::NOT_FOUND));
        };
        let body = if whole {
            let layer = self.layer(wanted).await?;
            let share = Arc::clone(&self.share);
            share.lock().layers += 1;
            let counted = layer.inspect(move |piece| {
                let size = u64::try_from(piece.as_ref().map_or(0, Bytes::len)).unwrap_or_default();
                let mut share = share.lock();
                share.bytes += size;
                share.content += size;
            });
            BodyExt::boxed_unsync(StreamBody::new(counted.map(|piece| piece.map(Frame::data))))
        } else {
            empty()
        };
        head("application/octet-stream", wanted, size).body(body).map_err(io::Error::other)
    }

    fn document(&self, kind: &str, digest: &str, content: &Bytes, whole: bool) -> io::Result<Response<Body>> {
        let size = u64::try_from(content.len()).map_err(io::Error::other)?;
        let body = if whole {
            let mut share = self.share.lock();
            share.bytes += size;
            share.content += size;
            drop(share);
            Full::new(content.clone()).map_err(|never| match never {}).boxed_unsync()
        } else {
            empty()
        };
        head(kind, digest, size).body(body).map_err(io::Error::other)
    }

    /// Reads the source up to one layer and gives its content.
    async fn layer(
        &self,
        wanted: &str,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>> {
        let saved = self.source.save_image(&self.reference.to_string()).await.map_err(io::Error::other)?;
        let mut archive = ArchiveReader::new(saved);
        while let Some(entry) = archive.next_entry().await? {
            let names = &self.catalogue.names;
            let is_it = names
                .of_file(&entry.path)
                .iter()
                .any(|layer| names.diff_id(*layer).is_some_and(|diff_id| diff_id.as_str() == wanted));
            if is_it && entry.is_file {
                return Ok(futures_util::stream::unfold(
                    (archive, entry.size),
                    |(mut archive, left)| async move {
                        if left == 0 {
                            return None;
                        }
                        let next = archive.next_piece().await.transpose()?;
                        let next = next.map(|piece| {
                            let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                            piece.slice(..count)
                        });
                        let left = left - next.as_ref().map_or(left, |piece| piece.len() as u64);
                        Some((next, (archive, left)))
                    },
                ));
            }
        }
        Err(io::Error::other("the layer is not in the archive of the engine any more"))
    }
}

fn head(kind: &str, digest: &str, size: u64) -> http::response::Builder {
    Response::builder()
        .header("content-type", kind)
        .header("docker-content-digest", digest)
        .header("content-length", size)
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

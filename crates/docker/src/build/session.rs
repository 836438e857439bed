use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use freehold_model::SecretName;
use futures_util::stream;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;
use tonic::transport::server::{Connected, Server};
use tonic::{Request, Response, Status};

use super::agent::Agents;
use super::file_sync::FileSource;
use crate::engine::{HijackedConnection, within};
use crate::request::EngineRequest;
use crate::{Engine, EngineError};

/// What a build may ask for.
pub(crate) struct Served {
    pub(crate) secrets: BTreeMap<SecretName, SecretString>,
    pub(crate) agents: BTreeMap<String, PathBuf>,
    pub(crate) files: FileSource,
}

/// The connection on which BuildKit asks back: for files, for secrets, and whether we are still there. Dropping it ends it, and
/// with it the build.
pub(crate) struct Session {
    pub(crate) id: String,
    _server: JoinSet<()>,
}

impl Session {
    pub(crate) async fn open(engine: &Engine, id: String, served: Served) -> Result<Self, EngineError> {
        let Served { secrets, agents, files } = served;
        let action = "open a build session";
        let mut request = EngineRequest::post(action, "/session")
            .header("connection", "Upgrade")
            .header("upgrade", "h2c")
            .header("x-docker-expose-session-uuid", &id)
            .header("x-docker-expose-session-name", "freehold")
            .header("x-docker-expose-session-sharedkey", files.shared_key());
        for method in [
            "/grpc.health.v1.Health/Check",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.sshforward.v1.SSH/CheckAgent",
            "/moby.sshforward.v1.SSH/ForwardAgent",
        ] {
            request = request.header("x-docker-expose-session-grpc-method", method);
        }
        let limit = engine.deadlines().request;
        let (_, connection) = engine.send_apart(request, limit).await?;
        let connection = within(limit, action, async {
            connection.upgraded().await.map_err(|error| EngineError::connection(action, error))
        })
        .await?;
        let served = Server::builder()
            .add_service(HealthServer::new(Alive))
            .add_service(SecretsServer::new(BuildSecrets(Arc::new(secrets))))
            .add_service(FileSyncServer::new(files))
            .add_service(SshServer::new(Agents(agents)))
            .serve_with_incoming(stream::iter([Ok::<_, std::io::Error>(connection)]));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // A session that breaks fails the build, which is told with the engine's reason.
            if let Err(error) = served.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "build session ended");
            }
        });
        Ok(Self { id, _server: server })
    }
}

impl Connected for HijackedConnection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

struct BuildSecrets(Arc<BTreeMap<SecretName, SecretString>>);

#[tonic::async_trait]
impl Secrets for BuildSecrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let found = SecretName::parse(&id).ok().and_then(|name| self.0.get(&name));
        match found {
            Some(secret) => Ok(Response::new(GetSecretResponse { data: secret.expose_secret().into() })),
            None => Err(Status::not_found(format!("secret `{id}` is not one of this build"))),
        }
    }
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("one service, always there"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask with Check"))
    }
}

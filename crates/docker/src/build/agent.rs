//! How a build uses SSH agents of this machine (`RUN --mount=type=ssh`): keys stay here, each signature is asked for.
//!
//! Source: github.com/moby/buildkit/session/sshforward.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

/// The name that BuildKit gives to the agent without one.
const DEFAULT: &str = "default";

/// Where a request names its agent.
const ID: &str = "buildkit.ssh.id";

/// The size of a piece of an answer; agents' messages are smaller.
const PIECE: usize = 32 * 1024;

/// The agents that a build may use, by name.
pub(crate) struct Agents(pub(crate) BTreeMap<String, PathBuf>);

impl Agents {
    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("this build has no SSH agent `{id}`")))
    }
}

/// The agent's end of one connection, and what carries the builder's words to it.
struct Answers {
    from_agent: OwnedReadHalf,
    _to_agent: JoinSet<()>,
}

#[tonic::async_trait]
impl Ssh for Agents {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(ID).and_then(|id| id.to_str().ok()).unwrap_or(DEFAULT);
        let socket = self.socket(id)?;
        let opened = UnixStream::connect(socket).await;
        let opened =
            opened.map_err(|error| Status::unavailable(format!("the SSH agent does not answer: {error}")))?;
        let (from_agent, mut agent) = opened.into_split();
        let mut words = request.into_inner();
        let mut to_agent = JoinSet::new();
        to_agent.spawn(async move {
            // The end of either side is the end of both; the builder sees it by its own stream.
            while let Some(Ok(message)) = words.next().await {
                if agent.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        let answers = Answers { from_agent, _to_agent: to_agent };
        let stream = futures_util::stream::unfold(answers, async |mut answers| {
            let mut piece = vec![0; PIECE];
            match answers.from_agent.read(&mut piece).await {
                Ok(0) | Err(_) => None,
                Ok(count) => {
                    piece.truncate(count);
                    Some((Ok(BytesMessage { data: piece }), answers))
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

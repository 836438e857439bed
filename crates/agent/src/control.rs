//! The control API over a Unix socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_model::{InvalidName, JobName, ReleaseId, ScheduleName};
use freehold_wire::agent::{
    AGENT_API_VERSION, AgentErrorCode, AgentRefusal, AgentVersion, RunList, ScheduleList, StoreRequest,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::agent::{Agent, IsNew, RunKey};
use crate::error::{chain, refusal};

const MOST_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves the API until the agent stops. Only the agent's own user and root are let in.
pub(crate) async fn serve(agent: Arc<Agent>, listener: UnixListener, own_uid: u32) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = agent.stopping.cancelled() => return,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(error = chain(&error), "a control connection panicked");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_allowed(&stream, own_uid) => {
                    connections.spawn(serve_connection(Arc::clone(&agent), stream));
                }
                Ok(_) => tracing::warn!("a control connection of another user was refused"),
                Err(error) => {
                    tracing::error!(error = chain(&error), "a control connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

fn is_allowed(stream: &UnixStream, own_uid: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own_uid || peer.uid() == 0)
}

async fn serve_connection(agent: Arc<Agent>, stream: UnixStream) {
    let service = service_fn(move |request| {
        let agent = Arc::clone(&agent);
        async move { Ok::<_, Infallible>(respond(&agent, request).await) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error = chain(&error), "a control connection ended");
    }
}

async fn respond(agent: &Arc<Agent>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match route(agent, request).await {
        Ok(body) => reply(StatusCode::OK, body),
        Err(error) => {
            let status =
                StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply(status, serde_json::to_vec(&error).unwrap_or_default())
        }
    }
}

fn reply(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

async fn route(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Vec<u8>, AgentRefusal> {
    if agent.stopping.is_cancelled() {
        return Err(refusal(AgentErrorCode::Stopping, "the agent is stopping"));
    }
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().map(str::to_owned);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (&method, segments.as_slice()) {
        (&Method::GET, ["v1", "version"]) => json(&AgentVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: AGENT_API_VERSION,
            started_at: agent.started_at,
        }),
        (&Method::GET, ["v1", "schedules"]) => json(&ScheduleList { schedules: agent.statuses() }),
        (&Method::GET, ["v1", "schedules", name, "runs"]) => {
            json(&RunList { runs: agent.runs(&schedule(name)?)? })
        }
        (&Method::POST, ["v1", "schedules", name, "jobs", job, "runs"]) => {
            json(&agent.run_now(&schedule(name)?, &job_name(job)?)?)
        }
        (&Method::GET, ["v1", "schedules", name, "jobs", job, "runs", run]) => {
            let run = run.parse().map_err(|_| invalid(format!("`{run}` is not the number of a run")))?;
            let key = RunKey { schedule: schedule(name)?, job: job_name(job)?, run };
            json(&agent.output(&key, number(query.as_deref(), "after")?.unwrap_or(0))?)
        }
        (&Method::DELETE, ["v1", "schedules", name]) => {
            let fence = number(query.as_deref(), "fence")?;
            let fence = fence.ok_or_else(|| invalid("`fence` is missing".to_owned()))?;
            json(&agent.remove(&schedule(name)?, fence).await?)
        }
        (_, ["v1", "schedules", name, verb @ ..]) => {
            change(agent, (&method, verb), &schedule(name)?, request).await
        }
        _ => Err(unknown_request(&method, &path)),
    }
}

/// Changes which jobs are stored and which run.
async fn change(
    agent: &Arc<Agent>,
    (method, verb): (&Method, &[&str]),
    name: &ScheduleName,
    request: Request<Incoming>,
) -> Result<Vec<u8>, AgentRefusal> {
    match (method, verb) {
        (&Method::PUT, ["releases", release]) => {
            let release: ReleaseId = serde_json::from_value((*release).into())
                .map_err(|error| invalid(format!("`{release}` is not a release: {error}")))?;
            let body: StoreRequest = read(request).await?;
            json(&agent.change(name, IsNew::Allowed, |book, _| book.store(release, body))?)
        }
        (&Method::POST, ["forget"]) => {
            let body = read(request).await?;
            json(&agent.change(name, IsNew::Refused, |book, _| book.forget(&body))?)
        }
        (&Method::POST, ["switch"]) => {
            let body = read(request).await?;
            json(&agent.change(name, IsNew::Refused, |book, now| book.switch(&body, now))?)
        }
        (&Method::POST, ["revert"]) => {
            let body = read(request).await?;
            json(&agent.change(name, IsNew::Refused, |book, now| book.revert(&body, now))?)
        }
        _ => Err(unknown_request(method, request.uri().path())),
    }
}

fn unknown_request(method: &Method, path: &str) -> AgentRefusal {
    refusal(AgentErrorCode::UnknownRequest, format!("there is no `{method} {path}` in this API"))
}

fn invalid(message: String) -> AgentRefusal {
    refusal(AgentErrorCode::Invalid, message)
}

fn schedule(name: &str) -> Result<ScheduleName, AgentRefusal> {
    ScheduleName::parse(name).map_err(|error: InvalidName| invalid(error.to_string()))
}

fn job_name(name: &str) -> Result<JobName, AgentRefusal> {
    JobName::parse(name).map_err(|error: InvalidName| invalid(error.to_string()))
}

/// Reads `NAME=NUMBER`, the only thing that a query may be.
fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, AgentRefusal> {
    let Some(query) = query else { return Ok(None) };
    let value = query.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    match value.map(str::parse) {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(invalid(format!("`{query}` is not `{name}=` and a number"))),
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, AgentRefusal> {
    let body = Limited::new(request.into_body(), MOST_REQUEST_BYTES).collect().await;
    let body = body.map_err(|error| invalid(format!("the body cannot be read: {error}")))?;
    // The text of the error names fields and types, never values, unless they are of the wrong type: then none of ours.
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| invalid(format!("the body is not acceptable: {}", chain(&error))))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, AgentRefusal> {
    serde_json::to_vec(value)
        .map_err(|error| refusal(AgentErrorCode::State, format!("the answer cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use freehold_model::{Overlap, ScheduleState};
    use freehold_wire::agent::{AgentClient, ForgetRequest, RevertRequest, RunState, SwitchRequest};

    use super::*;
    use crate::agent::tests::Scene;
    use crate::book::tests::{job, release, set};

    const LIMIT: Duration = Duration::from_secs(10);

    /// The whole life of a schedule as a client sees it.
    #[tokio::test]
    async fn the_api_is_what_its_client_expects() {
        let scene = Scene::empty();
        let (agent, name) = (Arc::clone(&scene.agent), scene.name.clone());
        let path = scene.folder.path().join("agent.sock");
        let uid = std::os::unix::fs::MetadataExt::uid(&fs_err::metadata(scene.folder.path()).unwrap());
        let server = serve(Arc::clone(&agent), UnixListener::bind(&path).unwrap(), uid);
        let client = async {
            let stream = UnixStream::connect(&path).await.unwrap();
            let mut client = AgentClient::over(stream, LIMIT).await.unwrap();
            assert_eq!(client.version().await.unwrap().api, AGENT_API_VERSION);
            let to = ScheduleState::Active { release: release(1) };
            let switch = SwitchRequest { to: to.clone(), fence: 3 };
            let early = client.switch(&name, &switch).await.unwrap_err();
            assert_eq!(early.code(), Some(AgentErrorCode::Unknown));

            let store = StoreRequest { set: set("@daily", Overlap::Skip), fence: 3 };
            assert!(client.store(&name, &release(1), &store).await.unwrap().changed);
            assert!(!client.store(&name, &release(1), &store).await.unwrap().changed);
            assert_eq!(client.switch(&name, &switch).await.unwrap().state, to);
            let list = client.schedules().await.unwrap().schedules;
            assert_eq!((list.len(), list[0].jobs.len(), &list[0].state), (1, 1, &to));
            assert!(list[0].jobs[0].next_at.is_some());

            let run = client.run(&name, &job("tidy")).await.unwrap();
            assert_eq!((run.run, run.state), (1, RunState::Waiting));
            let unknown = client.run(&name, &job("other")).await.unwrap_err();
            assert_eq!(unknown.code(), Some(AgentErrorCode::Unknown));
            loop {
                let seen = client.output(&name, (&job("tidy"), 1), 0).await.unwrap();
                if seen.lines == ["hello from app-cron-tidy-run-1"] {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(client.runs(&name).await.unwrap().runs.len(), 1);

            let late = SwitchRequest { to: ScheduleState::Off, fence: 2 };
            let late = client.switch(&name, &late).await.unwrap_err();
            assert_eq!(late.code(), Some(AgentErrorCode::Fenced));
            let revert = RevertRequest { from: to.clone(), fence: 3 };
            assert_eq!(client.revert(&name, &revert).await.unwrap().state, ScheduleState::Off);
            let forget = ForgetRequest { releases: vec![release(1)], fence: 3 };
            assert!(client.forget(&name, &forget).await.unwrap().changed);
            assert_eq!(client.remove(&name, 3).await.unwrap().ending_runs, 0);
            assert_eq!(client.schedules().await.unwrap().schedules, []);
            agent.stopping.cancel();
        };
        tokio::join!(server, client);
    }
}

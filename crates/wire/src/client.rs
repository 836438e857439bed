use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use freehold_model::ProxyServiceName;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::call::{Call, CallFailure, CallLine};
use crate::{
    CanaryReply, CanaryRequest, ConfirmReply, ConfirmRequest, DeployReply, DeployRequest, DrainReport,
    DrainRequest, ErrorReply, Gate, GateReply, GateRequest, ProbeReport, ProbeRequest, ProxyError,
    RemoveReply, ServiceList, ServiceStatus, SplitRequest, UpgradeReply, UpgradeRequest, VersionReply,
};

/// Calls the proxy's API over one byte stream: a socket, or a tunnel to one.
///
/// Calls are made one after the other; to probe two targets at once, open two clients. A call that failed for any
/// reason but an answer of the proxy leaves the client unusable: later calls report [`ProxyError::Closed`].
///
/// # Cancel safety
/// Dropping a call leaves the client unusable; the proxy may or may not have done what was asked.
pub struct ProxyClient {
    line: CallLine,
}

impl std::fmt::Debug for ProxyClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProxyClient").field("open", &self.line.is_open()).finish()
    }
}

impl ProxyClient {
    /// Makes a client of a stream whose other end is the proxy's control socket.
    ///
    /// # Errors
    /// [`ProxyError::Transport`] where the stream fails.
    pub async fn over<S>(stream: S) -> Result<Self, ProxyError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let line = CallLine::over(stream)
            .await
            .map_err(|source| ProxyError::Transport { operation: "open a connection".to_owned(), source })?;
        Ok(Self { line })
    }

    /// Connects to the control socket at a path of this machine.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] where nothing listens there, [`ProxyError::Deadline`] where it takes too long.
    pub async fn connect(path: &Path, deadline: Duration) -> Result<Self, ProxyError> {
        let stream = timeout(deadline, tokio::net::UnixStream::connect(path))
            .await
            .map_err(|_| ProxyError::Deadline { operation: "connect".to_owned(), deadline })?
            .map_err(|source| ProxyError::Connect { path: path.to_owned(), source })?;
        Self::over(stream).await
    }

    /// Asks which proxy answers.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn version(&mut self, deadline: Duration) -> Result<VersionReply, ProxyError> {
        self.get("say its version".to_owned(), "/v4/version", deadline).await
    }

    /// Asks for all services, ordered by name.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn services(&mut self, deadline: Duration) -> Result<Vec<ServiceStatus>, ProxyError> {
        let list: ServiceList = self.get("list services".to_owned(), "/v4/services", deadline).await?;
        Ok(list.services)
    }

    /// Asks for one service.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name; else see [`ProxyError`].
    pub async fn service(
        &mut self,
        name: &ProxyServiceName,
        deadline: Duration,
    ) -> Result<ServiceStatus, ProxyError> {
        self.get(format!("show service `{name}`"), &format!("/v4/services/{name}"), deadline).await
    }

    /// Lets the proxy check a target until it is healthy or the request's deadline has passed.
    ///
    /// A target that stays unhealthy is no error: the report says what the checks saw. `deadline` bounds the call and
    /// must be longer than the request's.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub async fn probe(
        &mut self,
        request: &ProbeRequest,
        deadline: Duration,
    ) -> Result<ProbeReport, ProxyError> {
        let operation = format!("probe target `{}`", request.target);
        let call = with_body(operation, Method::POST, "/v4/probe".to_owned(), request)?;
        self.call(call, deadline).await
    }

    /// Installs a service's targets, or replaces the earlier ones. `deadline` must be longer than the request's own
    /// time limits together.
    ///
    /// # Errors
    /// [`ProxyError::Unhealthy`], [`ProxyError::HostConflict`] and [`ProxyError::Fenced`]: nothing was changed. After
    /// [`ProxyError::Deadline`], [`ProxyError::Transport`] and [`ProxyError::Closed`] the switch may have been made: ask for
    /// the service and compare its generation.
    pub async fn deploy(
        &mut self,
        name: &ProxyServiceName,
        request: &DeployRequest,
        deadline: Duration,
    ) -> Result<DeployReply, ProxyError> {
        let operation = format!("deploy service `{name}`");
        let call = with_body(operation, Method::PUT, format!("/v4/services/{name}"), request)?;
        self.call(call, deadline).await
    }

    /// Waits until the service's earlier generations have nothing in flight, and says what was left.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name; else see [`ProxyError`].
    pub async fn drain(
        &mut self,
        name: &ProxyServiceName,
        request: &DrainRequest,
        deadline: Duration,
    ) -> Result<DrainReport, ProxyError> {
        let operation = format!("drain service `{name}`");
        let call = with_body(operation, Method::POST, format!("/v4/services/{name}/drain"), request)?;
        self.call(call, deadline).await
    }

    /// Says that the service's last switch is final, so that its earlier targets do not stand by any longer.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Fenced`] where the proxy has seen a
    /// greater fencing number; else see [`ProxyError`].
    pub async fn confirm(
        &mut self,
        name: &ProxyServiceName,
        request: &ConfirmRequest,
        deadline: Duration,
    ) -> Result<ConfirmReply, ProxyError> {
        let operation = format!("confirm service `{name}`");
        let call = with_body(operation, Method::POST, format!("/v4/services/{name}/confirm"), request)?;
        self.call(call, deadline).await
    }

    /// Pauses, stops or resumes a service: see [`Gate`]. `deadline` must be longer than the drain's limit.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Fenced`] where the proxy has seen a
    /// greater fencing number; else see [`ProxyError`].
    pub async fn set_gate(
        &mut self,
        name: &ProxyServiceName,
        request: &GateRequest,
        deadline: Duration,
    ) -> Result<GateReply, ProxyError> {
        let operation = match request.gate {
            Gate::Open => format!("resume service `{name}`"),
            Gate::Paused { .. } => format!("pause service `{name}`"),
            Gate::Stopped { .. } => format!("stop service `{name}`"),
        };
        let call = with_body(operation, Method::POST, format!("/v4/services/{name}/gate"), request)?;
        self.call(call, deadline).await
    }

    /// Installs targets that are tried beside a service's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the proxy may or may not have installed them, and this client cannot be used any more.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Unhealthy`] where the targets are not
    /// healthy in time, [`ProxyError::Fenced`] where the proxy has seen a greater fencing number; else see [`ProxyError`].
    pub async fn install_canary(
        &mut self,
        name: &ProxyServiceName,
        request: &CanaryRequest,
        deadline: Duration,
    ) -> Result<CanaryReply, ProxyError> {
        let operation = format!("install targets to try for service `{name}`");
        let path = format!("/v4/services/{name}/canary");
        self.call(with_body(operation, Method::PUT, path, request)?, deadline).await
    }

    /// Says which visitors go to the targets that are tried.
    ///
    /// # Cancel safety
    /// Dropped half-way, the proxy may or may not do it, and this client cannot be used any more.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Refused`] where no targets are tried,
    /// [`ProxyError::Fenced`] where the proxy has seen a greater fencing number; else see [`ProxyError`].
    pub async fn split(
        &mut self,
        name: &ProxyServiceName,
        request: &SplitRequest,
        deadline: Duration,
    ) -> Result<CanaryReply, ProxyError> {
        let operation = format!("split the visitors of service `{name}`");
        let path = format!("/v4/services/{name}/split");
        self.call(with_body(operation, Method::POST, path, request)?, deadline).await
    }

    /// Makes the targets that are tried the service's own; the earlier ones are drained.
    ///
    /// # Cancel safety
    /// Dropped half-way, the proxy may or may not do it, and this client cannot be used any more.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Refused`] where no targets are tried,
    /// [`ProxyError::Fenced`] where the proxy has seen a greater fencing number; else see [`ProxyError`].
    pub async fn promote(
        &mut self,
        name: &ProxyServiceName,
        fence: Option<u64>,
        deadline: Duration,
    ) -> Result<CanaryReply, ProxyError> {
        let operation = format!("promote the targets that are tried for service `{name}`");
        let path = format!("/v4/services/{name}/promote");
        let request = SplitRequest { split: None, fence };
        self.call(with_body(operation, Method::POST, path, &request)?, deadline).await
    }

    /// Takes the targets that are tried out of a service, where there are any; their requests in flight finish by themselves.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Fenced`] where the proxy has seen a
    /// greater fencing number; else see [`ProxyError`].
    pub async fn remove_canary(
        &mut self,
        name: &ProxyServiceName,
        fence: Option<u64>,
        deadline: Duration,
    ) -> Result<CanaryReply, ProxyError> {
        let query = fence.map_or_else(String::new, |fence| format!("?fence={fence}"));
        let path = format!("/v4/services/{name}/canary{query}");
        let operation = format!("take the targets that are tried out of service `{name}`");
        self.call(Call { operation, method: Method::DELETE, path, body: Bytes::new() }, deadline).await
    }

    /// Removes a service at once; its requests in flight finish by themselves.
    ///
    /// # Errors
    /// [`ProxyError::UnknownService`] where there is none of that name, [`ProxyError::Fenced`] where the proxy has seen a
    /// greater fencing number; else see [`ProxyError`].
    pub async fn remove(
        &mut self,
        name: &ProxyServiceName,
        fence: Option<u64>,
        deadline: Duration,
    ) -> Result<RemoveReply, ProxyError> {
        let query = fence.map_or_else(String::new, |fence| format!("?fence={fence}"));
        let path = format!("/v4/services/{name}{query}");
        let operation = format!("remove service `{name}`");
        self.call(Call { operation, method: Method::DELETE, path, body: Bytes::new() }, deadline).await
    }

    /// Lets the proxy hand over to a new process. The connection ends afterwards: connect again to speak with the new one.
    ///
    /// # Cancel safety
    /// Dropped half-way, the new process may or may not have taken over, and this client cannot be used any more.
    ///
    /// # Errors
    /// [`ProxyError::Refused`] where the new process does not come up; the earlier one goes on. Else see [`ProxyError`].
    pub async fn upgrade(
        &mut self,
        request: &UpgradeRequest,
        deadline: Duration,
    ) -> Result<UpgradeReply, ProxyError> {
        let operation = "hand over to a new process".to_owned();
        self.call(with_body(operation, Method::POST, "/v4/upgrade".to_owned(), request)?, deadline).await
    }

    async fn get<R: DeserializeOwned>(
        &mut self,
        operation: String,
        path: &str,
        deadline: Duration,
    ) -> Result<R, ProxyError> {
        let call = Call { operation, method: Method::GET, path: path.to_owned(), body: Bytes::new() };
        self.call(call, deadline).await
    }

    async fn call<R: DeserializeOwned>(&mut self, call: Call, deadline: Duration) -> Result<R, ProxyError> {
        let operation = call.operation.clone();
        let answer = self.line.call(call, deadline).await.map_err(|failure| match failure {
            CallFailure::Request(source) => ProxyError::Request { operation: operation.clone(), source },
            CallFailure::Closed => ProxyError::Closed { operation: operation.clone() },
            CallFailure::Deadline => ProxyError::Deadline { operation: operation.clone(), deadline },
            CallFailure::Transport(source) => ProxyError::Transport { operation: operation.clone(), source },
        })?;
        let status = answer.status.as_u16();
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|source| ProxyError::Malformed {
                operation,
                status,
                source,
            });
        }
        match serde_json::from_slice::<ErrorReply>(&answer.body) {
            Ok(reply) => Err(ProxyError::refused(operation, reply)),
            Err(source) => Err(ProxyError::Malformed { operation, status, source }),
        }
    }
}

fn with_body<B: Serialize>(
    operation: String,
    method: Method,
    path: String,
    body: &B,
) -> Result<Call, ProxyError> {
    Call::with_body(operation.clone(), method, path, body).map_err(|source| ProxyError::Malformed {
        operation,
        status: 0,
        source,
    })
}

//! The port on which the counts can be read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::control::Control;
use crate::log::Level;

/// How many may read at once: scrapes are rare and short.
const MAX_CONNECTIONS: usize = 32;

/// For a whole request head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// Answers every request with the counts, until the proxy stops.
pub(crate) async fn serve(control: Arc<Control>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = control.stopping.cancelled() => return,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    control.log.error("Metrics connection panicked", &[("error", &error)]);
                }
            }
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_connection(Arc::clone(&control), stream))),
                Err(error) => {
                    control.log.error("Metrics connection not accepted", &[("error", &error)]);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn serve_connection(control: Arc<Control>, stream: TcpStream) {
    let log = control.log.clone();
    let service = service_fn(move |_| {
        let mut response = Response::new(Full::new(Bytes::from(control.metrics_page())));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert("content-type", kind);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        log.line(Level::Debug, "Metrics connection ended", &[("error", &error)]);
    }
}

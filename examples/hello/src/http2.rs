use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::http::Head;
use crate::server::Application;
use crate::settings::variable;

/// What is below HTTP/2.
#[derive(Clone)]
pub(crate) enum Http2 {
    /// Nothing: clients know before that it is spoken.
    Plain,
    /// TLS, over which nothing else is agreed on.
    Tls(TlsAcceptor),
}

impl Http2 {
    /// `HELLO_HTTP2`: speak nothing but HTTP/2, `h2c` without TLS, `h2` over it with the certificate and the key, in PEM, of
    /// `HELLO_CERTIFICATE` and `HELLO_PRIVATE_KEY`.
    pub(crate) fn from_environment() -> io::Result<Option<Self>> {
        match variable("HELLO_HTTP2").as_deref() {
            None => Ok(None),
            Some("h2c") => Ok(Some(Self::Plain)),
            Some("h2") => Ok(Some(Self::Tls(acceptor()?))),
            Some(other) => Err(io::Error::other(format!("HELLO_HTTP2 is `h2c` or `h2`, not `{other}`"))),
        }
    }

    /// Answers one connection's requests until either side wants no more.
    pub(crate) async fn serve(self, application: Arc<Application>, stream: TcpStream) {
        stream.set_nodelay(true).ok();
        match self {
            Self::Plain => drive(application, stream).await,
            Self::Tls(acceptor) => {
                if let Ok(stream) = acceptor.accept(stream).await {
                    drive(application, stream).await;
                }
            }
        }
    }
}

fn acceptor() -> io::Result<TlsAcceptor> {
    let text = |name| variable(name).ok_or_else(|| io::Error::other(format!("{name} is not set")));
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text("HELLO_CERTIFICATE")?.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(text("HELLO_PRIVATE_KEY")?.as_bytes());
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(certificates.map_err(io::Error::other)?, key.map_err(io::Error::other)?)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin>(application: Arc<Application>, stream: S) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut is_leaving = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = application.stop.cancelled(), if !is_leaving => {
                connection.graceful_shutdown();
                is_leaving = true;
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        application.tasks.spawn(answer(Arc::clone(&application), request, respond));
    }
}

/// Answers a request; a client that is gone gets nothing.
async fn answer(application: Arc<Application>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += u64::try_from(data.len()).unwrap_or(0);
        body.flow_control().release_capacity(data.len()).ok();
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let head = Head::new(parts.method.as_str(), target);
    let response = application.answer(&head, length).await;
    send(&application.settings.version, response, &head, respond).ok();
}

fn send(
    version: &str,
    response: crate::http::Response,
    head: &Head,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Response::builder().status(response.status).header("x-hello-version", version);
    for (name, value) in &response.headers {
        builder = builder.header(name.to_ascii_lowercase(), value);
    }
    let builder = builder.header("content-length", response.body.len());
    let is_empty = head.method == "HEAD" || response.body.is_empty();
    let mut stream = respond.send_response(builder.body(())?, is_empty)?;
    if !is_empty {
        stream.send_data(response.body.into(), true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::settings::Settings;

    #[tokio::test]
    async fn requests_over_http2_are_answered_and_a_stop_ends_the_connection() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let application = Arc::new(Application::new(Arc::new(Settings::from_environment())));
        let served = Http2::Plain.serve(Arc::clone(&application), listener.accept().await.unwrap().0);
        let asked = async {
            let (mut requests, connection) = h2::client::handshake(socket).await.unwrap();
            let ask = async {
                let uri = "http://hello/upload?x=1";
                let request = Request::post(uri).body(()).unwrap();
                let (response, mut body) = requests.send_request(request, false).unwrap();
                body.send_data(Bytes::from_static(b"hello"), true).unwrap();
                let (head, mut body) = response.await.unwrap().into_parts();
                let said = body.data().await.unwrap().unwrap();
                application.stop.cancel();
                (head.status.as_u16(), said)
            };
            let (answer, ended) = tokio::join!(ask, connection);
            ended.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(served, asked);
        assert_eq!(answer, (200, Bytes::from_static(b"5\n")));
    }
}

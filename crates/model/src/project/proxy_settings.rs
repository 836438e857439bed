use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Compression, ContainerOptions, Network, ProxyAcme, TargetProtocol, TargetTls, Traffic};
use crate::SecretName;

/// How the proxy serves a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// Host names that are routed to the role; empty takes every name that no other service has.
    pub hosts: Vec<String>,
    /// The port on which the containers listen.
    pub app_port: u16,
    /// How the proxy finds out that a container is healthy.
    pub health_check: HealthCheck,
    /// How long a container may take to begin its response.
    pub response_timeout: Duration,
    /// Path prefixes that are routed to the role; empty is `/`.
    pub path_prefixes: Vec<String>,
    /// Whether the prefix is removed before the request is forwarded.
    pub strip_path_prefix: bool,
    /// Whether `X-Forwarded-*` headers of the client are kept.
    pub forward_headers: bool,
    /// What the proxy buffers.
    pub buffering: Buffering,
    /// Whether and with which certificate the proxy serves HTTPS.
    #[serde(default, skip_serializing_if = "Tls::is_off")]
    pub tls: Tls,
    /// Whether HTTP is redirected to HTTPS, where the proxy serves it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub redirect_to_https: bool,
    /// Whose clients are served, where not everybody's are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientAuthorities>,
    /// The headers that the proxy logs with each request.
    #[serde(default, skip_serializing_if = "LoggedHeaders::is_default")]
    pub logged_headers: LoggedHeaders,
    /// What the proxy speaks with the containers.
    #[serde(default, skip_serializing_if = "TargetProtocol::is_default")]
    pub target_protocol: TargetProtocol,
    /// How containers are known that speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_tls: Option<TargetTls>,
    /// The codings by which answers are compressed, the most wanted first; none for not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compression: Vec<Compression>,
    /// How requests are shared out, limited and changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Box<Traffic>>,
    /// The secret with a line `USER:HASH` for each of those who may come, where not everybody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<SecretName>,
}

impl ProxyRun {
    /// Returns the first key below `proxy` that only Freehold's proxy follows, if one is set.
    #[must_use]
    pub fn own_proxy_only(&self) -> Option<&'static str> {
        let keys = [
            (!self.edge.is_default(), "run: proxy_protocol, trusted_proxies, max_client_connections"),
            (self.buffer_disk_bytes.is_some(), "run: buffer_disk"),
            (self.traces.is_some(), "run: otlp_endpoint"),
            (self.acme.is_some(), "run: acme"),
        ];
        keys.into_iter().find(|(is_set, _)| *is_set).map(|(_, key)| key)
    }
}

impl ProxySettings {
    /// Returns the first key below `proxy` that only Freehold's proxy follows, if one is set: a kamal-proxy would serve as if it
    /// were not there.
    #[must_use]
    pub fn own_proxy_only(&self) -> Option<&'static str> {
        let keys = [
            (self.clients.is_some(), "ssl: client_ca"),
            (self.basic_auth.is_some(), "basic_auth"),
            (self.traffic.is_some(), "rate_limit, allow_ips, headers and the like"),
            (self.target_protocol != TargetProtocol::default(), "target_protocol"),
            (!self.compression.is_empty(), "compress"),
        ];
        keys.into_iter().find(|(is_set, _)| *is_set).map(|(_, key)| key)
    }
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            app_port: 80,
            health_check: HealthCheck::default(),
            response_timeout: Duration::from_secs(30),
            path_prefixes: Vec::new(),
            strip_path_prefix: true,
            forward_headers: true,
            buffering: Buffering::default(),
            tls: Tls::Off,
            redirect_to_https: true,
            clients: None,
            logged_headers: LoggedHeaders::default(),
            target_protocol: TargetProtocol::default(),
            target_tls: None,
            compression: Vec::new(),
            traffic: None,
            basic_auth: None,
        }
    }
}

impl ProxySettings {
    /// Returns the secrets that it needs.
    #[must_use]
    pub fn secret_names(&self) -> Vec<SecretName> {
        self.tls.secret_names().into_iter().chain(self.basic_auth.clone()).collect()
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_no(value: &bool) -> bool {
    !*value
}

/// Whether and with which certificate the proxy serves HTTPS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// It serves HTTP only.
    #[default]
    Off,
    /// The proxy orders certificates and renews them (ACME).
    Automatic(CertificateAuthority),
    /// The certificate and its key are secrets, both in PEM.
    Custom {
        /// The secret that holds the certificate with its chain.
        certificate: SecretName,
        /// The secret that holds the private key.
        private_key: SecretName,
    },
}

/// Where the proxy orders certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateAuthority {
    /// The URL of its directory; none is the proxy's own choice, Let's Encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// An e-mail address that it may write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Whether it is not found out before an order whether the names lead to the host.
    #[serde(default, skip_serializing_if = "is_no")]
    pub skip_name_check: bool,
    /// Who says, when a client asks for a name that nobody has named, whether a certificate is ordered for it: a path of the
    /// service itself, or an `http` or `https` URL. Only for a service without hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_url: Option<String>,
    /// The other hosts that serve the same names, and share their certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<CertificateFleet>,
}

/// The hosts whose proxies share their certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFleet {
    /// The secret that holds the key that they share; none where only the proxies know it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretName>,
    /// Where their proxies listen for HTTP, `host:port`.
    pub peers: Vec<String>,
}

/// Which clients a role serves: those that show a certificate of these authorities (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthorities {
    /// The authorities' certificates, in PEM.
    pub certificates: String,
    /// The lists of certificates that they have revoked, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// Whether clients that show none are served, too.
    #[serde(default, skip_serializing_if = "is_no")]
    pub is_optional: bool,
}

impl Tls {
    /// Says whether the proxy serves HTTP only.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }

    /// Returns the secrets that it needs.
    #[must_use]
    pub fn secret_names(&self) -> Vec<SecretName> {
        match self {
            Self::Off => Vec::new(),
            Self::Automatic(authority) => {
                authority.fleet.iter().filter_map(|fleet| fleet.key.clone()).collect()
            }
            Self::Custom { certificate, private_key } => vec![certificate.clone(), private_key.clone()],
        }
    }
}

/// The headers that the proxy logs with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedHeaders {
    /// Of the request; by default `Cache-Control`, `Last-Modified` and `User-Agent`, as Kamal does.
    pub request: Vec<String>,
    /// Of the response; none by default.
    pub response: Vec<String>,
}

impl LoggedHeaders {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for LoggedHeaders {
    fn default() -> Self {
        let request = ["Cache-Control", "Last-Modified", "User-Agent"].map(str::to_owned);
        Self { request: request.into(), response: Vec::new() }
    }
}

/// How the proxy finds out that a container is healthy: `GET` of a path answered with 200 to 299.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The path, `/up` by default.
    pub path: String,
    /// The pause between two checks.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// What is spoken.
    #[serde(default, skip_serializing_if = "TargetProtocol::is_default")]
    pub protocol: TargetProtocol,
    /// How a container is known that speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TargetTls>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/up".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            protocol: TargetProtocol::default(),
            tls: None,
        }
    }
}

/// What the proxy buffers. A streaming response is never held back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffering {
    /// Whether request bodies are read before they are forwarded.
    pub requests: bool,
    /// Whether response bodies are read before they are forwarded.
    pub responses: bool,
    /// How many bytes of a body are kept in memory before a file takes the rest; none is the proxy's 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The greatest request body in bytes; none is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_body_bytes: Option<u64>,
    /// The greatest response body in bytes; none is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_body_bytes: Option<u64>,
}

/// How the proxy's container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRun {
    /// The host's port for HTTP.
    pub http_port: u16,
    /// The host's port for HTTPS.
    pub https_port: u16,
    /// Whether the ports are published at all.
    pub publish: bool,
    /// The host's addresses to which the ports are bound; empty is all.
    pub bind_addresses: Vec<IpAddr>,
    /// The size at which the engine rotates the log, as Docker writes it; empty is never.
    pub log_max_size: String,
    /// Labels of the container, beside our own.
    pub labels: BTreeMap<String, String>,
    /// Whether the proxy logs at debug level.
    pub debug: bool,
    /// The port inside the container that answers with metrics, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_port: Option<u16>,
    /// Who may connect, and what is believed of it.
    #[serde(default, skip_serializing_if = "ProxyEdge::is_default")]
    pub edge: ProxyEdge,
    /// How many bytes of held-back bodies may be on the disk at a time; what the proxy takes by default where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_disk_bytes: Option<u64>,
    /// Where traces go, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<ProxyTraces>,
    /// How certificates are ordered, where the file says anything of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Box<ProxyAcme>>,
    /// The image of kamal-proxy that the file asks for. Freehold's own proxy needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ProxyImage>,
    /// Options of `docker run` for the proxy.
    #[serde(default, skip_serializing_if = "ContainerOptions::is_default")]
    pub options: Box<ContainerOptions>,
}

/// How the proxy takes connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyEdge {
    /// The proxies in front of this one that it trusts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Network>,
    /// The ports on which their connections begin with a PROXY header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<ProxyPort>,
    /// How many connections one client may have at once, 0 for any number; none is the proxy's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_client_connections: Option<u32>,
}

/// A port of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyPort {
    /// For HTTP.
    Http,
    /// For HTTPS.
    Https,
}

impl ProxyPort {
    /// Returns its name, as flags have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl ProxyEdge {
    /// Says whether the deploy file asks for nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the flags of the proxy's `run`.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> =
            self.trusted_proxies.iter().map(|network| format!("--trusted-proxy={network}")).collect();
        flags.extend(self.proxy_protocol.iter().map(|port| format!("--proxy-protocol={}", port.as_str())));
        flags.extend(self.max_client_connections.map(|most| format!("--max-client-connections={most}")));
        flags
    }
}

/// Traces of requests for a collector of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyTraces {
    /// The collector's address, without `/v1/traces`.
    pub endpoint: String,
    /// How many of a million requests are traced, of those that no client traces.
    pub per_million: u32,
}

/// An image of kamal-proxy, `[REGISTRY/]REPOSITORY:VERSION`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyImage {
    /// The registry's server, or none for Docker Hub.
    pub registry: Option<String>,
    /// The name without tag; `basecamp/kamal-proxy` by default.
    pub repository: String,
    /// The tag; `v0.9.2` by default.
    pub version: String,
}

impl Default for ProxyRun {
    fn default() -> Self {
        Self {
            http_port: 80,
            https_port: 443,
            publish: true,
            bind_addresses: Vec::new(),
            log_max_size: "10m".to_owned(),
            labels: BTreeMap::new(),
            debug: false,
            metrics_port: None,
            edge: ProxyEdge::default(),
            buffer_disk_bytes: None,
            traces: None,
            acme: None,
            image: None,
            options: Box::default(),
        }
    }
}

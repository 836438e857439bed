//! The verbs and flags, shared by `freehold proxy` and `kamal-proxy`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use freehold_wire::TargetProtocol;

use super::edge::EdgeArguments;
use super::traffic::TrafficArguments;
use super::{content, duration, number};

/// The reverse proxy of a host.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Serves traffic in the foreground until SIGTERM or SIGINT.
    #[command(alias = "run")]
    Serve(ServeArguments),
    /// Installs a service's targets, or replaces the earlier ones once the new are healthy.
    Deploy(Box<DeployArguments>),
    /// Removes a service.
    #[command(alias = "rm")]
    Remove(RemoveArguments),
    /// Lets the requests to a service wait.
    Pause(PauseArguments),
    /// Refuses the requests to a service, with a message.
    Stop(StopArguments),
    /// Lets the requests to a service go to its targets again.
    Resume(ResumeArguments),
    /// Lists the services.
    #[command(alias = "ls")]
    List(ListArguments),
    /// Tries other targets with a part of the visitors.
    #[command(subcommand, arg_required_else_help = true)]
    Rollout(Rollout),
    /// Hands over to a new process, without a refused connection.
    Upgrade(UpgradeArguments),
    /// Connects standard input and output to the control socket, byte for byte.
    Api(ApiArguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum Rollout {
    /// Installs targets to try once they are healthy. No visitor goes there before `set`.
    Deploy(RolloutDeployArguments),
    /// Says which visitors go there; replaces what was said before.
    Set(RolloutSetArguments),
    /// Makes the targets that are tried the service's own, and drains the earlier ones.
    Promote(RolloutStopArguments),
    /// Lets nobody go there any more. The targets stay.
    Stop(RolloutStopArguments),
}

#[derive(Debug, Args)]
pub(super) struct RolloutDeployArguments {
    /// The service.
    pub(super) service: String,
    /// The targets, `host` or `host:port`.
    #[arg(long, required = true)]
    pub(super) target: Vec<String>,
    /// The targets that get reads only.
    #[arg(long)]
    pub(super) read_target: Vec<String>,
    /// How long to wait for the targets to be healthy.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) deploy_timeout: Duration,
    /// How long to wait for requests at the targets that were tried before.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) drain_timeout: Duration,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct RolloutSetArguments {
    /// The service.
    pub(super) service: String,
    /// How many of a hundred values of the cookie `kamal-rollout` go there.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) percent: Option<u8>,
    /// The values that go there in any case.
    #[arg(long)]
    pub(super) list: Option<Vec<String>>,
    /// The cookie that tells visitors apart, instead of `kamal-rollout`.
    #[arg(long, default_value = "")]
    pub(super) cookie: String,
    /// Give visitors without the cookie one with a value of their own, so that the share is one of all visitors.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) anonymous: bool,
    /// The header, `NAME` or `NAME: VALUE`, with which a request goes there in any case.
    #[arg(long, default_value = "")]
    pub(super) header: String,
    #[command(flatten)]
    pub(super) verdict: VerdictArguments,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct VerdictArguments {
    /// Compare the targets with the service's own, and promote them or let nobody go there any more.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) verdict: bool,
    /// For how long they are compared; 10m unless it is given.
    #[arg(long, value_parser = duration::parse_own)]
    pub(super) verdict_window: Option<Duration>,
    /// How many requests each side must have had by then; 50 unless it is given.
    #[arg(long, value_parser = number::whole::<u64>)]
    pub(super) verdict_min_requests: Option<u64>,
    /// By how many thousandths of all requests errors may be more; 5 unless it is given.
    #[arg(long, value_parser = number::whole::<u32>)]
    pub(super) verdict_errors: Option<u32>,
    /// By how many hundredths the time of the slowest may be longer; 50 unless it is given.
    #[arg(long, value_parser = number::whole::<u32>)]
    pub(super) verdict_latency: Option<u32>,
    /// Whether targets that are as good become the service's own, or it is only said.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(super) verdict_promote: Option<bool>,
}

#[derive(Debug, Args)]
pub(super) struct RolloutStopArguments {
    /// The service.
    pub(super) service: String,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct UpgradeArguments {
    /// The executable of the new process; the one that runs where none is given.
    #[arg(long)]
    pub(super) executable: Option<String>,
    /// How long requests, WebSockets and streams may go on in the earlier process.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) drain_timeout: Duration,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// The port for HTTP [default: 80].
    #[arg(long, value_parser = number::whole::<u16>)]
    pub(super) http_port: Option<u16>,
    /// The port for HTTPS [default: 443].
    #[arg(long, value_parser = number::whole::<u16>)]
    pub(super) https_port: Option<u16>,
    /// The port for metrics; 0 for none [default: 0].
    #[arg(long, value_parser = number::whole::<u16>)]
    pub(super) metrics_port: Option<u16>,
    /// Log debug lines [default: false].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(super) debug: Option<bool>,
    /// The address to listen on; every address where none is given.
    #[arg(long)]
    pub(super) bind: Option<IpAddr>,
    /// The address of a collector of OpenTelemetry that gets traces, by OTLP over HTTP: `http://collector:4318`.
    #[arg(long)]
    pub(super) otlp_endpoint: Option<String>,
    /// The share of requests that are traced, 0 to 1; those that a client traces are in any case [default: 1].
    #[arg(long, value_parser = number::share)]
    pub(super) trace_ratio: Option<f64>,
    /// How many bytes of bodies that are held back may be on the disk at a time, of all services together [default: 4294967296].
    #[arg(long, value_parser = number::bytes)]
    pub(super) buffer_disk: Option<u64>,
    /// The folder that holds the state [default: ~/.config/kamal-proxy].
    #[arg(long)]
    pub(super) state_dir: Option<PathBuf>,
    /// The URL of the directory of the certificate authority; Let's Encrypt's where none is given.
    #[arg(long)]
    pub(super) acme_directory: Option<String>,
    /// An e-mail address that the certificate authority may write to.
    #[arg(long)]
    pub(super) acme_contact: Option<String>,
    /// The name of the key of an account that exists already at the certificate authority. The key itself is read from
    /// `ACME_EAB_HMAC_KEY` or from a file.
    #[arg(long)]
    pub(super) acme_eab_key_id: Option<String>,
    /// The file with that key, in URL-safe base64.
    #[arg(long)]
    pub(super) acme_eab_hmac_key_file: Option<PathBuf>,
    /// The name server, `host:port`, that takes changes of the zones (RFC 2136), by which certificates for wildcards are proven.
    #[arg(long)]
    pub(super) acme_dns_server: Option<String>,
    /// The name of the key with which the changes are signed, by HMAC-SHA256.
    #[arg(long)]
    pub(super) acme_dns_key_name: Option<String>,
    /// The file with that key, in base64; else it is read from `ACME_DNS_KEY`.
    #[arg(long)]
    pub(super) acme_dns_key_file: Option<PathBuf>,
    /// The file with the certificates, in PEM, that are trusted when the certificate authority is talked to; the public ones
    /// where none is given.
    #[arg(long)]
    pub(super) acme_ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) edge: EdgeArguments,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct SocketArgument {
    /// The control socket [default: kamal-proxy.sock in $XDG_RUNTIME_DIR, else in the folder for temporary files].
    #[arg(long)]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DeployArguments {
    /// The service.
    pub(super) service: String,
    /// The targets, `host` or `host:port`.
    #[arg(long, required = true)]
    pub(super) target: Vec<String>,
    /// The targets that get reads only, and all of them.
    #[arg(long)]
    pub(super) read_target: Vec<String>,
    /// Let WebSockets go to the targets for reads, too.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) read_target_websockets: bool,
    /// For how long the reads of a client that has written go to the targets that write; 0s for not at all.
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    pub(super) writer_affinity_timeout: Duration,
    /// The hosts that it answers to; none means any.
    #[arg(long)]
    pub(super) host: Vec<String>,
    /// The paths that it is mounted on; none means `/`.
    #[arg(long)]
    pub(super) path_prefix: Vec<String>,
    /// Remove the mount point before forwarding.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) strip_path_prefix: bool,
    /// How long to wait for the targets to be healthy.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) deploy_timeout: Duration,
    /// How long to wait for requests at the earlier targets.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) drain_timeout: Duration,
    /// How long upgraded connections at the earlier targets may go on.
    #[arg(long, default_value = "0s", value_parser = duration::parse_own)]
    pub(super) tunnel_timeout: Duration,
    /// Do not wait for the targets to be healthy.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) force: bool,
    /// The time between health checks.
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    pub(super) health_check_interval: Duration,
    /// The longest that a health check may take.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    pub(super) health_check_timeout: Duration,
    /// The path of the health check.
    #[arg(long, default_value = "/up")]
    pub(super) health_check_path: String,
    /// The port of the health check; 0 for the target's.
    #[arg(long, default_value_t = 0, value_parser = number::whole::<u16>)]
    pub(super) health_check_port: u16,
    /// The `Host` of the health check; empty for the target's address.
    #[arg(long, default_value = "")]
    pub(super) health_check_host: String,
    /// How long to wait for the head of an answer; 0s for no limit.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) target_timeout: Duration,
    /// Serve the service over HTTPS, with certificates that are ordered for its hosts unless one of your own is given.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) tls: bool,
    /// Who is asked before a certificate is ordered for a name that a client asks for: a path of the service, or a URL. The
    /// service has no hosts then.
    #[arg(long, default_value = "")]
    pub(super) tls_on_demand_url: String,
    /// Order certificates where Let's Encrypt lets people try; browsers do not trust them.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) tls_staging: bool,
    /// The URL of the directory of the certificate authority; empty for the one that the proxy was started with.
    #[arg(long, default_value = "")]
    pub(super) tls_acme_directory: String,
    /// The folder for certificates that were ordered; empty for the proxy's own.
    #[arg(long, default_value = "")]
    pub(super) tls_acme_cache_path: String,
    /// Order certificates without finding out before whether the names lead here.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) tls_acme_skip_name_check: bool,
    /// The proxies, `host:port` for HTTP, that share the certificates that one of them orders; this one may be among them.
    #[arg(long)]
    pub(super) tls_fleet_peer: Vec<String>,
    /// The file with the key that they share, at least 32 characters.
    #[arg(long, default_value = "")]
    pub(super) tls_fleet_key_path: String,
    /// The file with the certificate and its chain, in PEM.
    #[arg(long, default_value = "")]
    pub(super) tls_certificate_path: String,
    /// The file with the private key, in PEM.
    #[arg(long, default_value = "")]
    pub(super) tls_private_key_path: String,
    /// The file with the certificates, in PEM, of the authorities whose clients are served; clients have to show a certificate
    /// then.
    #[arg(long, default_value = "")]
    pub(super) tls_client_ca_path: String,
    /// The file with the lists of clients' certificates that were revoked, in PEM, one of each authority.
    #[arg(long, default_value = "")]
    pub(super) tls_client_crl_path: String,
    /// Serve clients that show no certificate, too; the target sees which did.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) tls_client_optional: bool,
    /// Redirect plain HTTP to HTTPS.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) tls_redirect: bool,
    /// Receive the body of a request as a whole before it is forwarded.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(super) buffer_requests: Option<bool>,
    /// Receive the body of an answer of known length as a whole before it is sent.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(super) buffer_responses: Option<bool>,
    /// How many bytes of each body are kept in memory; the rest goes to a temporary file.
    #[arg(long, default_value_t = 1_048_576, value_parser = number::bytes)]
    pub(super) buffer_memory: u64,
    /// The longest body of a request, in bytes; 0 for no limit.
    #[arg(long, value_parser = number::bytes)]
    pub(super) max_request_body: Option<u64>,
    /// The longest body of an answer, in bytes; 0 for no limit.
    #[arg(long, value_parser = number::bytes)]
    pub(super) max_response_body: Option<u64>,
    /// The folder with the error pages, `STATUS.html` each.
    #[arg(long, default_value = "")]
    pub(super) error_pages: String,
    /// The headers of requests that are logged.
    #[arg(long)]
    pub(super) log_request_header: Vec<String>,
    /// The headers of answers that are logged.
    #[arg(long)]
    pub(super) log_response_header: Vec<String>,
    /// The paths, as the target sees them, whose requests are not counted in metrics.
    #[arg(long)]
    pub(super) exclude_metrics_path: Vec<String>,
    /// The header in which a proxy in front of this one names the client's address.
    #[arg(long, default_value = "")]
    pub(super) client_ip_header: String,
    /// Redirect requests for other hosts to this one.
    #[arg(long, default_value = "")]
    pub(super) canonical_host: String,
    /// Put the paths of cookies under the prefix that was removed.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    pub(super) scope_cookie_paths: bool,
    /// Trust the `X-Forwarded-*` lines of clients; without TLS they are trusted unless this says otherwise.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
    pub(super) forward_headers: Option<bool>,
    /// What the targets speak: `http1`; `h2c` for HTTP/2 without TLS, which gRPC needs; `h2` for HTTP/2 over TLS, or HTTP/1.1 with
    /// targets that do not agree on it; `https` for HTTP/1.1 over TLS.
    #[arg(long, default_value = "http1", value_parser = content::parse_protocol)]
    pub(super) target_protocol: TargetProtocol,
    /// The file with the certificates, in PEM, of the authorities by which targets that speak TLS are trusted; the public ones
    /// where none is given.
    #[arg(long, default_value = "")]
    pub(super) target_tls_ca_path: String,
    /// The name that the certificates of such targets must have; empty for the target's host.
    #[arg(long, default_value = "")]
    pub(super) target_tls_server_name: String,
    /// Compress answers for clients that accept it: all of `zstd,br,gzip`, or those that are given, the most wanted first.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = content::parse_codings)]
    pub(super) compress: content::Codings,
    #[command(flatten)]
    pub(super) traffic: TrafficArguments,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArguments {
    /// The service.
    pub(super) service: String,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct PauseArguments {
    /// The service.
    pub(super) service: String,
    /// How long to wait for requests in flight.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) drain_timeout: Duration,
    /// How long a request may wait.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) max_pause: Duration,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct StopArguments {
    /// The service.
    pub(super) service: String,
    /// How long to wait for requests in flight.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    pub(super) drain_timeout: Duration,
    /// What the page says to visitors.
    #[arg(long, default_value = "")]
    pub(super) message: String,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// The service.
    pub(super) service: String,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

#[derive(Debug, Args)]
pub(super) struct ApiArguments {
    #[command(flatten)]
    pub(super) socket: SocketArgument,
}

/// Flags of kamal-proxy that this version does not have: they are refused by name and never ignored.
pub(super) const MISSING_FLAGS: [&str; 1] = ["--http3"];

/// Reads the values of a flag that may be given several times, each of them a line of comma-separated values, which may be
/// quoted. An empty one is none.
pub(super) fn list(texts: &[String]) -> Vec<String> {
    texts.iter().flat_map(|text| values(text)).filter(|value| !value.is_empty()).collect()
}

fn values(text: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(value) = values.last_mut() else { break };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                value.push('"');
            }
            '"' if quoted || value.is_empty() => quoted = !quoted,
            ',' if !quoted => values.push(String::new()),
            character => value.push(character),
        }
    }
    values
}

/// Reads a boolean as Go does.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat case 28.
    #[test]
    fn lists_are_given_at_once_or_one_by_one() {
        let list = |texts: &[&str]| list(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&["a.com,b.com", "c.com"]), ["a.com", "b.com", "c.com"]);
        assert_eq!(list(&[""]), [""; 0]);
        assert_eq!(list(&[r#""a,b",c"#, r#""say ""x""""#]), ["a,b", "c", r#"say "x""#]);
    }
}

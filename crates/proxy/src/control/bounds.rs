//! Values that a request may carry, checked before anything is done.

use freehold_model::printable;
use freehold_wire::{
    Acme, CanaryRequest, CertificateSource, ConfirmRequest, DeployRequest, ErrorCode, ErrorReply, Gate,
    GateRequest, HealthCheck, HostPattern, PathPrefix, ProbeRequest, ServiceSettings, SplitRequest,
    TargetAddress, TargetTls, UpgradeRequest, VerdictRule,
};

use super::refusal;
use crate::acme::Question;
use crate::target_tls::is_server_name;

/// The longest span that makes sense anywhere: a day.
const MAX_SPAN_MS: u64 = 24 * 60 * 60 * 1000;

const MAX_TARGETS: usize = 256;

/// Checks a deploy.
pub(crate) fn deploy(request: &DeployRequest) -> Result<(), ErrorReply> {
    targets(&request.targets, &request.read_targets)?;
    settings(&request.settings)?;
    for (name, value) in [
        ("deploy_timeout_ms", request.deploy_timeout_ms),
        ("drain_timeout_ms", request.drain_timeout_ms),
        ("tunnel_timeout_ms", request.tunnel_timeout_ms),
        ("standby_ms", request.standby_ms),
        ("response_timeout_ms", request.settings.response_timeout_ms),
        ("writer_affinity_ms", request.settings.writer_affinity_ms),
    ] {
        span(name, value, 0)?;
    }
    Ok(())
}

fn targets(targets: &[TargetAddress], read_targets: &[TargetAddress]) -> Result<(), ErrorReply> {
    let count = targets.len();
    if targets.is_empty() || count > MAX_TARGETS {
        return Err(invalid(format!("a service needs 1 to {MAX_TARGETS} targets, not {count}")));
    }
    let count = read_targets.len();
    if count > MAX_TARGETS {
        return Err(invalid(format!(
            "a service may have up to {MAX_TARGETS} targets for reads, not {count}"
        )));
    }
    Ok(())
}

/// Checks targets that are to be tried.
pub(crate) fn canary(request: &CanaryRequest) -> Result<(), ErrorReply> {
    targets(&request.targets, &request.read_targets)?;
    span("deploy_timeout_ms", request.deploy_timeout_ms, 0)?;
    span("drain_timeout_ms", request.drain_timeout_ms, 0)
}

/// Checks a hand-over.
pub(crate) fn upgrade(request: &UpgradeRequest) -> Result<(), ErrorReply> {
    span("drain_timeout_ms", request.drain_timeout_ms, 0)?;
    match request.executable.as_deref() {
        Some(path) if !path.starts_with('/') => {
            Err(invalid(format!("`executable` must be a path from the root, not `{path}`")))
        }
        _ => Ok(()),
    }
}

/// The most values in a list.
const MAX_LISTED: usize = 10_000;

/// Checks a split.
pub(crate) fn split(request: &SplitRequest) -> Result<(), ErrorReply> {
    let Some(split) = &request.split else { return Ok(()) };
    if split.percentage > 100 {
        return Err(invalid(format!("`percentage` must be 0 to 100, not {}", split.percentage)));
    }
    if split.allow_list.len() > MAX_LISTED {
        return Err(invalid(format!("`allow_list` must not have more than {MAX_LISTED} values")));
    }
    let is_token = |name: &String| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if let Some(name) = split.cookie.as_ref().filter(|name| !is_token(name)) {
        return Err(invalid(format!("`{}` is not the name of a cookie", printable(name))));
    }
    if let Some(header) = split.header.as_ref().filter(|header| !is_token(&header.name)) {
        return Err(invalid(format!("`{}` is not the name of a header", printable(&header.name))));
    }
    match &split.verdict {
        Some(rule) => verdict(rule, split.percentage),
        None => Ok(()),
    }
}

/// Checks how targets that are tried are compared.
fn verdict(rule: &VerdictRule, percentage: u8) -> Result<(), ErrorReply> {
    span("verdict.window_ms", rule.window_ms, 1)?;
    if !(1..=99).contains(&percentage) {
        return Err(invalid(format!(
            "a verdict needs visitors on both sides: `percentage` must be 1 to 99, not {percentage}"
        )));
    }
    if !(1..=1_000_000).contains(&rule.min_requests) {
        let count = rule.min_requests;
        return Err(invalid(format!("`verdict.min_requests` must be 1 to 1000000, not {count}")));
    }
    if rule.error_tolerance_permille > 1000 || rule.latency_tolerance_percent > 10_000 {
        return Err(invalid(
            "`verdict.error_tolerance_permille` must be up to 1000, `verdict.latency_tolerance_percent` up to 10000"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The most memory for one body.
const MAX_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;

/// Checks how a service is to be reached and used.
pub(crate) fn settings(settings: &ServiceSettings) -> Result<(), ErrorReply> {
    health_check(&settings.health_check)?;
    if settings.buffering.memory_bytes > MAX_MEMORY_BYTES {
        return Err(invalid(format!("`buffering.memory_bytes` must be 0 to {MAX_MEMORY_BYTES}")));
    }
    for name in settings
        .log_request_headers
        .iter()
        .chain(&settings.log_response_headers)
        .chain(&settings.client_ip_header)
    {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(invalid(format!("`{name}` is not the name of a header")));
        }
    }
    if let Some(Err(error)) = settings.traffic.as_ref().map(|traffic| traffic.check()) {
        return Err(invalid(format!("{error}: {}", error.rule())));
    }
    if let Some(rule) = broken_rule_of_targets(settings) {
        return Err(invalid(format!("service options invalid: {rule}")));
    }
    if let Some(rule) = broken_rule_of_tls(settings) {
        return Err(invalid(format!("service options invalid: {rule}")));
    }
    match &settings.canonical_host {
        Some(canonical) if !settings.hosts.is_empty() && !settings.hosts.contains(canonical) => {
            let hosts: Vec<&str> = settings.hosts.iter().map(HostPattern::as_str).collect();
            Err(invalid(format!(
                "service options invalid: canonical-host '{canonical}' must be present in the hosts list: [{}]",
                hosts.join(" ")
            )))
        }
        Some(canonical) if canonical.is_any() || canonical.as_str().starts_with('*') => {
            Err(invalid("service options invalid: canonical-host must be the name of one host".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Returns what is wrong with how targets are to be known.
fn broken_rule_of_targets(settings: &ServiceSettings) -> Option<String> {
    if settings.target_tls.is_some() && !settings.target_protocol.is_encrypted() {
        return Some("targets have certificates only where `h2` or `https` is spoken with them".to_owned());
    }
    broken_rule_of_target(settings.target_tls.as_ref()?)
}

fn broken_rule_of_target(tls: &TargetTls) -> Option<String> {
    if tls.ca_path.is_some() && tls.ca_pem.is_some() {
        return Some("targets are known by the authorities in a file or by those that are given".to_owned());
    }
    let name = tls.server_name.as_deref().filter(|name| !is_server_name(name))?;
    Some(format!("`{}` is neither a host name nor an IP address", name.escape_debug()))
}

/// The most proxies that share certificates; each of them talks to all.
const MAX_PEERS: usize = 64;

/// Returns what is wrong with how a service is to be served over HTTPS, in kamal-proxy's words.
fn broken_rule_of_tls(settings: &ServiceSettings) -> Option<String> {
    let tls = settings.tls.as_ref()?;
    let orders = matches!(tls.certificate, CertificateSource::Acme(_));
    match tls.on_demand_url() {
        Some(_) if !settings.hosts.iter().all(HostPattern::is_any) => {
            return Some("cannot set hosts when using a TLS on-demand URL".to_owned());
        }
        Some(_) if settings.canonical_host.is_some() => {
            return Some("cannot set a canonical host when using a TLS on-demand URL".to_owned());
        }
        Some(url) => {
            if let Err(rule) = Question::parse(url) {
                return Some(rule);
            }
        }
        None if orders && (settings.hosts.is_empty() || settings.hosts.iter().any(HostPattern::is_any)) => {
            return Some("host must be set when using TLS".to_owned());
        }
        None => {}
    }
    if let CertificateSource::Acme(Acme { fleet: Some(fleet), .. }) = &tls.certificate
        && !(1..=MAX_PEERS).contains(&fleet.peers.len())
    {
        return Some(format!("a fleet has 1 to {MAX_PEERS} proxies"));
    }
    if let Some(clients) = &tls.clients {
        if clients.ca_path.is_some() == clients.ca_pem.is_some() {
            return Some(
                "clients are known by the authorities in a file or by those that are given".to_owned(),
            );
        }
        if clients.crl_path.is_some() && clients.crl_pem.is_some() {
            return Some("revoked certificates of clients are in a file or given".to_owned());
        }
        // Without it, plain HTTP would be a way in without a certificate.
        if !tls.redirect {
            return Some("plain HTTP must be redirected where clients show certificates".to_owned());
        }
    }
    let has_root =
        settings.path_prefixes.is_empty() || settings.path_prefixes.iter().any(PathPrefix::is_root);
    (!has_root).then(|| "TLS settings must be specified on the root path service".to_owned())
}

/// The longest text for people.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Checks a change of a gate.
pub(crate) fn gate(request: &GateRequest) -> Result<(), ErrorReply> {
    span("drain_timeout_ms", request.drain_timeout_ms, 0)?;
    match &request.gate {
        Gate::Open => Ok(()),
        Gate::Paused { max_pause_ms } => span("max_pause_ms", *max_pause_ms, 0),
        Gate::Stopped { message } if message.len() > MAX_MESSAGE_BYTES => {
            Err(invalid(format!("`message` must not be longer than {MAX_MESSAGE_BYTES} bytes")))
        }
        Gate::Stopped { .. } => Ok(()),
    }
}

/// Checks a confirmation.
pub(crate) fn confirm(request: &ConfirmRequest) -> Result<(), ErrorReply> {
    span("drain_timeout_ms", request.drain_timeout_ms, 0)?;
    span("tunnel_timeout_ms", request.tunnel_timeout_ms, 0)
}

/// Checks a probe.
pub(crate) fn probe(request: &ProbeRequest) -> Result<(), ErrorReply> {
    health_check(&request.health_check)?;
    span("deadline_ms", request.deadline_ms, 0)
}

fn health_check(check: &HealthCheck) -> Result<(), ErrorReply> {
    span("health_check.interval_ms", check.interval_ms, 1)?;
    span("health_check.timeout_ms", check.timeout_ms, 1)?;
    let is_line = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_line(&check.path) || check.path.len() > 2048 {
        return Err(invalid(
            "`health_check.path` must be visible ASCII characters without blanks".to_owned(),
        ));
    }
    if check.host.as_deref().is_some_and(|host| host.is_empty() || !is_line(host) || host.len() > 255) {
        return Err(invalid("`health_check.host` must be a host name".to_owned()));
    }
    if check.tls.is_some() && !check.protocol.is_encrypted() {
        return Err(invalid("`health_check.tls` needs `health_check.protocol` `h2` or `https`".to_owned()));
    }
    if let Some(rule) = check.tls.as_ref().and_then(broken_rule_of_target) {
        return Err(invalid(format!("`health_check.tls`: {rule}")));
    }
    if check.port == Some(0) {
        return Err(invalid("`health_check.port` must not be 0".to_owned()));
    }
    Ok(())
}

fn span(name: &str, value: u64, least: u64) -> Result<(), ErrorReply> {
    if (least..=MAX_SPAN_MS).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("`{name}` must be {least} to {MAX_SPAN_MS} milliseconds, not {value}")))
}

fn invalid(message: String) -> ErrorReply {
    refusal(ErrorCode::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &str) -> Result<(), String> {
        let settings: ServiceSettings = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
        super::settings(&settings).map_err(|error| error.message)
    }

    fn refused(fields: &str, rule: &str) {
        assert_eq!(check(fields), Err(format!("service options invalid: {rule}")), "{fields}");
    }

    const ACME: &str = r#""tls":{"acme":{}}"#;
    const FILES: &str = r#""tls":{"certificate_path":"/a","private_key_path":"/b"}"#;

    fn on_demand(url: &str) -> String {
        format!(r#""tls":{{"acme":{{"on_demand_url":"{url}"}}}}"#)
    }

    // proxy-compat cases 1-5, 17: a certificate of one's own needs no host, as in kamal-proxy 0.9.2.
    #[test]
    fn tls_needs_hosts_and_the_root_path() {
        for hosts in ["[]", r#"[""]"#, r#"["*.example.com",""]"#] {
            refused(&format!(r#"{ACME},"hosts":{hosts}"#), "host must be set when using TLS");
        }
        for hosts in [r#"["example.com"]"#, r#"["example.com","*.example.com"]"#] {
            assert_eq!(check(&format!(r#"{ACME},"hosts":{hosts}"#)), Ok(()));
        }
        assert_eq!(check(FILES), Ok(()));
        let root = "TLS settings must be specified on the root path service";
        refused(&format!(r#"{ACME},"hosts":["a.com"],"path_prefixes":["/api"]"#), root);
        refused(&format!(r#"{FILES},"path_prefixes":["/api"]"#), root);
        assert_eq!(check(&format!(r#"{ACME},"hosts":["a.com"],"path_prefixes":["/"]"#)), Ok(()));
    }

    // proxy-compat cases 6-13, 15, 16.
    #[test]
    fn certificates_on_demand_are_for_a_service_without_hosts() {
        for url in ["/allow", "/allow?token=abc", "http://h/c", "https://h/c"] {
            assert_eq!(check(&on_demand(url)), Ok(()), "{url}");
        }
        let with = |more: &str| format!("{},{more}", on_demand("/allow"));
        refused(&with(r#""hosts":["a.com"]"#), "cannot set hosts when using a TLS on-demand URL");
        refused(
            &with(r#""canonical_host":"a.com""#),
            "cannot set a canonical host when using a TLS on-demand URL",
        );
        refused(
            &with(r#""path_prefixes":["/api"]"#),
            "TLS settings must be specified on the root path service",
        );
        refused(&on_demand("ftp://h/c"), r#"unsupported scheme "ftp" in tls-on-demand-url"#);
        refused(&on_demand("http://"), "missing host in tls-on-demand-url");
        refused(&on_demand("//example.com/x"), "tls-on-demand-url must be a path or an absolute http(s) URL");
        for url in ["://invalid-url", "allow-host"] {
            refused(&on_demand(url), &format!("unable to parse tls-on-demand-url `{url}`"));
        }
    }

    // proxy-compat cases 18-20.
    #[test]
    fn a_canonical_host_is_one_of_the_hosts_if_there_are_any() {
        let with =
            |hosts: &str, canonical: &str| format!(r#""hosts":{hosts},"canonical_host":"{canonical}""#);
        let hosts = r#"["example.com","www.example.com"]"#;
        assert_eq!(check(&with(hosts, "example.com")), Ok(()));
        assert_eq!(check(&with(hosts, "www.example.com")), Ok(()));
        let rule = "canonical-host 'api.example.com' must be present in the hosts list: [example.com www.example.com]";
        refused(&with(hosts, "api.example.com"), rule);
        assert_eq!(check(&with("[]", "example.com")), Ok(()));
        assert_eq!(check(""), Ok(()));
    }

    #[test]
    fn what_cannot_be_a_header_or_a_share_is_refused() {
        assert!(check(r#""client_ip_header":"True-Client-IP""#).is_ok());
        assert!(check(r#""client_ip_header":"a b""#).is_err());
        let split = |percentage| SplitRequest {
            split: Some(freehold_wire::Split { percentage, ..freehold_wire::Split::default() }),
            fence: None,
        };
        assert!(super::split(&split(100)).is_ok());
        assert!(super::split(&split(101)).is_err());
    }
}

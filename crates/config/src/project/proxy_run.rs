//! The settings of the proxy's container, `proxy: run`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use freehold_model::{HostName, ProxyImage, ProxyRun, ProxyTraces};

use super::{authority, traffic};
use crate::container_option;
use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::Value;

/// Reads the section, with its place.
pub(super) fn run(section: &Section<'_>, report: &mut Report) -> Option<(Place, ProxyRun)> {
    let field = section.get("run")?;
    let section = field.section("proxy/run", report)?;
    let default = ProxyRun::default();
    let publish = section.get("publish").and_then(|field| field.boolean(report)).unwrap_or(true);
    if !publish {
        for field in ["http_port", "https_port", "bind_ips"].iter().filter_map(|key| section.get(key)) {
            let message = "cannot be set when `publish` is false";
            report.mistake(Finding::new(field.key_at, &field.path, message).help("remove one of the two"));
        }
    }
    let port = |key: &str, report: &mut Report| section.get(key).and_then(|field| field.port(report));
    let http_port = port("http_port", report).unwrap_or(default.http_port);
    let https_port = port("https_port", report).unwrap_or(default.https_port);
    if http_port == https_port {
        report.mistake(section.field().mistake(format!("HTTP and HTTPS cannot share the port {http_port}")));
    }
    let log_max_size = section.get("log_max_size").and_then(|field| log_size(&field, report));
    let options = section.get("options").map(|field| container_option::read(&field, report));
    let run = ProxyRun {
        metrics_port: metrics_port(&section, report),
        edge: traffic::edge(&section, report),
        buffer_disk_bytes: section.get("buffer_disk").and_then(|field| field.integer(0..=u64::MAX, report)),
        traces: traces(&section, report),
        acme: authority::of_proxy(&section, report),
        image: image(&section, report),
        options: Box::new(options.unwrap_or_default()),
        http_port,
        https_port,
        publish,
        bind_addresses: section.get("bind_ips").map(|field| addresses(&field, report)).unwrap_or_default(),
        log_max_size: log_max_size.unwrap_or(default.log_max_size),
        debug: section.get("debug").and_then(|field| field.boolean(report)).unwrap_or(default.debug),
        ..default
    };
    Some((field.key_at, run))
}

/// The port for metrics, which the proxy itself must not need.
fn metrics_port(section: &Section<'_>, report: &mut Report) -> Option<u16> {
    let field = section.get("metrics_port")?;
    let port = field.port(report)?;
    if matches!(port, 80 | 443) {
        let finding = field.mistake(format!("in its container the proxy serves requests on port {port}"));
        report.mistake(finding.help("use another port, such as 9090"));
    }
    Some(port)
}

/// Where traces go, and how many.
fn traces(section: &Section<'_>, report: &mut Report) -> Option<ProxyTraces> {
    let ratio = section.get("trace_ratio").and_then(|field| {
        let text = match &field.node.value {
            Value::Scalar(scalar) => scalar.raw.as_str(),
            _ => "",
        };
        match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Some(ratio),
            _ => {
                report.mistake(field.mistake(format!("`{text}` is not a number from 0 to 1")));
                None
            }
        }
    });
    let Some(field) = section.get("otlp_endpoint") else {
        if let Some(field) = section.get("trace_ratio") {
            let finding = Finding::new(field.key_at, &field.path, "has no effect without `otlp_endpoint`");
            report.mistake(finding.help("name the collector: `otlp_endpoint: http://collector:4318`"));
        }
        return None;
    };
    let endpoint = field.filled_text(report)?;
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    if !rest
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|character| character.is_ascii_graphic()))
    {
        let finding = field.mistake(format!("`{endpoint}` is not the address of a collector"));
        report.mistake(finding.help("write it as `http://collector:4318`"));
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1000000")]
    let per_million = (ratio.unwrap_or(1.0) * 1_000_000.0).round() as u32;
    Some(ProxyTraces { endpoint, per_million })
}

/// The image of kamal-proxy, if the file says anything of it.
fn image(section: &Section<'_>, report: &mut Report) -> Option<ProxyImage> {
    let mut text = |key: &str| section.get(key).and_then(|field| field.filled_text(report));
    let (registry, repository, version) = (text("registry"), text("repository"), text("version"));
    if registry.is_none() && repository.is_none() && version.is_none() {
        return None;
    }
    let repository = repository.unwrap_or_else(|| "basecamp/kamal-proxy".to_owned());
    Some(ProxyImage { registry, repository, version: version.unwrap_or_else(|| "v0.9.2".to_owned()) })
}

fn log_size(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.text(report)?;
    match crate::quantity::parse_size(&text) {
        Err(error) if !text.is_empty() => {
            report
                .mistake(field.mistake(error.to_string()).help(format!("write it like {}", error.example())));
            None
        }
        _ => Some(text),
    }
}

fn addresses(field: &Field<'_>, report: &mut Report) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (item, text) in field.texts(report) {
        match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => found.push(address),
            Err(_) => report.mistake(item.mistake(format!("`{text}` is not an IP address"))),
        }
    }
    found
}

/// The settings of the proxy's container that a role or an accessory asks for.
pub(super) struct WantedRun {
    /// The keys down to it.
    pub(super) path: String,
    pub(super) hosts: Vec<HostName>,
    pub(super) at: Place,
    pub(super) run: ProxyRun,
}

/// Returns the settings of the proxy's container on each host, on which all that run there must agree.
pub(super) fn agreed_runs(wanted: &[WantedRun], report: &mut Report) -> BTreeMap<HostName, ProxyRun> {
    let mut agreed: BTreeMap<HostName, (&str, &ProxyRun)> = BTreeMap::new();
    for WantedRun { path, hosts, at, run } in wanted {
        for host in hosts {
            let (first, known) = *agreed.entry(host.clone()).or_insert((path, run));
            if run != known {
                let message =
                    format!("`{first}` and `{path}` want different settings of the proxy of `{host}`");
                let finding = Finding::new(*at, format!("{path}/proxy/run"), message);
                report.mistake(finding.help("set `proxy: {run: …}` once, at the root"));
            }
        }
    }
    agreed.into_iter().map(|(host, (_, run))| (host, run.clone())).collect()
}

//! `list`: the services as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Display;

use freehold_wire::{CertificateState, HealthState, ServiceList, ServiceStatus};

use super::arguments::ListArguments;
use super::request::{CALL_LIMIT, call};
use super::{CommandError, Console, Invocation, socket_path};

/// kamal-proxy's columns, and behind them what only our own list has.
const HEADER: [&str; 8] = ["Service", "Host", "Path", "Target", "State", "TLS", "Health", "Certificate"];

/// How many of them kamal-proxy has.
const KAMAL_COLUMNS: usize = 6;

/// How the table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// All columns, without colours.
    Own,
    /// kamal-proxy's, in its colours.
    Coloured,
    /// kamal-proxy's, for a program or a file.
    Plain,
}

pub(super) fn run(
    arguments: &ListArguments,
    invocation: Invocation,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let services = call(&path, async |mut client| client.services(CALL_LIMIT).await)?;
    let text = if arguments.json {
        let text = serde_json::to_string_pretty(&ServiceList { services }).map_err(std::io::Error::from);
        text.map_err(|source| CommandError::Output { source })? + "\n"
    } else {
        let wants_none = environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = match invocation {
            Invocation::Freehold => Style::Own,
            Invocation::KamalProxy if console.is_terminal && !wants_none => Style::Coloured,
            Invocation::KamalProxy => Style::Plain,
        };
        table(&services, style)
    };
    console.output.write_all(text.as_bytes()).map_err(|source| CommandError::Output { source })
}

fn joined<T: Display>(values: impl IntoIterator<Item = T>, none: &str) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.iter().all(String::is_empty) { none.to_owned() } else { values.join(",") }
}

/// Says how a service's targets are, each as often as it has to be said.
fn health(service: &ServiceStatus) -> String {
    let targets = || service.targets.iter().chain(&service.read_targets);
    let word = |health| match health {
        HealthState::Adding => "adding",
        HealthState::Healthy => "healthy",
        HealthState::Unhealthy => "unhealthy",
    };
    let counts = [HealthState::Healthy, HealthState::Adding, HealthState::Unhealthy].map(|health| {
        let count = targets().filter(|target| target.health == health).count();
        match (count, targets().count()) {
            (0, _) => String::new(),
            (count, all) if count == all => word(health).to_owned(),
            (count, _) => format!("{count} {}", word(health)),
        }
    });
    joined(counts.into_iter().filter(|text| !text.is_empty()), "-")
}

/// Says until when a service's certificates are good, by the one that ends first, or what is wrong with one.
fn certificate(service: &ServiceStatus) -> String {
    let states = service.certificates.iter();
    if let Some(failed) = states.clone().find(|status| status.state == CertificateState::Failed) {
        return format!("failed: {}", failed.name);
    }
    if let Some(awaited) = states.clone().find(|status| status.state == CertificateState::Ordering) {
        return format!("ordering: {}", awaited.name);
    }
    let ends = states.filter_map(|status| status.expires_at.as_deref());
    ends.min().map_or_else(|| "-".to_owned(), |end| format!("until {}", end.get(..10).unwrap_or(end)))
}

fn table(services: &[ServiceStatus], style: Style) -> String {
    let rows = services.iter().map(|service| {
        [
            service.name.to_string(),
            joined(&service.settings.hosts, "*"),
            joined(&service.settings.path_prefixes, "/"),
            joined(service.targets.iter().chain(&service.read_targets).map(|target| &target.address), ""),
            service.gate.as_str().to_owned(),
            if service.settings.tls.is_some() { "yes" } else { "no" }.to_owned(),
            health(service),
            certificate(service),
        ]
    });
    let rows: Vec<[String; HEADER.len()]> = std::iter::once(HEADER.map(str::to_owned)).chain(rows).collect();
    let columns = if style == Style::Own { HEADER.len() } else { KAMAL_COLUMNS };
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (line, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).take(columns).enumerate() {
            let colour = match (line, column) {
                (0, _) => "\u{1b}[3;94m",
                (_, 0) => "\u{1b}[1;34m",
                _ => "\u{1b}[m",
            };
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()) + 2);
            match style {
                Style::Coloured => text.push_str(&format!("{colour}{cell}\u{1b}[0m{padding}")),
                Style::Own | Style::Plain => text.push_str(&format!("{cell}{padding}")),
            }
        }
        if style != Style::Coloured {
            text.truncate(text.trim_end().len());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_kamal_proxys_columns() {
        let text = r#"[{"name":"shop-web","settings":{"hosts":["a.example.com","b.example.com"]},"generation":1,
            "targets":[{"address":"web:3000","health":"healthy"},{"address":"web:3001","health":"unhealthy"}],
            "certificates":[{"name":"a.example.com","state":"valid","expires_at":"2027-03-01T00:00:00Z"},
            {"name":"b.example.com","state":"valid","expires_at":"2027-02-01T00:00:00Z"}],"in_flight":{"requests":0,"tunnels":0},"draining":[],
            "counters":{"since_switch_ms":1,"requests":0,"upgrades":0,"responses_2xx":0,"responses_3xx":0,
            "responses_4xx":0,"responses_5xx":0,"target_errors":{}}},
            {"name":"x","settings":{"path_prefixes":["/api"]},"generation":1,"targets":[],
            "in_flight":{"requests":0,"tunnels":0},"draining":[],
            "counters":{"since_switch_ms":1,"requests":0,"upgrades":0,"responses_2xx":0,"responses_3xx":0,
            "responses_4xx":0,"responses_5xx":0,"target_errors":{}}}]"#;
        let services: Vec<ServiceStatus> = serde_json::from_str(text).unwrap();
        assert_eq!(
            table(&services, Style::Own),
            "Service   Host                         Path  Target             State    TLS  Health                 Certificate\n\
             shop-web  a.example.com,b.example.com  /     web:3000,web:3001  running  no   1 healthy,1 unhealthy  until 2027-02-01\n\
             x         *                            /api                     running  no   -                      -\n"
        );
        assert!(table(&services, Style::Plain).starts_with(
            "Service   Host                         Path  Target             State    TLS\nshop-web  a.example.com"
        ));
        let coloured = table(&services[..1], Style::Coloured);
        assert!(
            coloured.starts_with("\u{1b}[3;94mService\u{1b}[0m   \u{1b}[3;94mHost\u{1b}[0m"),
            "{coloured:?}"
        );
        assert!(coloured.contains("\n\u{1b}[1;34mshop-web\u{1b}[0m  \u{1b}[ma.example.com"), "{coloured:?}");
    }
}

//! `list`: the services as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Display;

use freehold_wire::{ServiceList, ServiceStatus};

use super::arguments::ListArguments;
use super::request::{CALL_LIMIT, call};
use super::{CommandError, Console, Invocation, socket_path};

const HEADER: [&str; 6] = ["Service", "Host", "Path", "Target", "State", "TLS"];

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
        table(&services, invocation)
    };
    console.output.write_all(text.as_bytes()).map_err(|source| CommandError::Output { source })
}

fn joined<T: Display>(values: impl IntoIterator<Item = T>, none: &str) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.iter().all(String::is_empty) { none.to_owned() } else { values.join(",") }
}

/// kamal-proxy sets its cells in colours even where nobody sees them; a program that reads them expects that.
fn table(services: &[ServiceStatus], invocation: Invocation) -> String {
    let rows = services.iter().map(|service| {
        [
            service.name.to_string(),
            joined(&service.settings.hosts, "*"),
            joined(&service.settings.path_prefixes, "/"),
            joined(service.targets.iter().chain(&service.read_targets).map(|target| &target.address), ""),
            service.gate.as_str().to_owned(),
            if service.settings.tls.is_some() { "yes" } else { "no" }.to_owned(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(HEADER.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (line, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let style = match (line, column) {
                (0, _) => "\u{1b}[3;94m",
                (_, 0) => "\u{1b}[1;34m",
                _ => "\u{1b}[m",
            };
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()) + 2);
            if invocation == Invocation::KamalProxy {
                text.push_str(&format!("{style}{cell}\u{1b}[0m{padding}"));
            } else {
                text.push_str(&format!("{cell}{padding}"));
            }
        }
        if invocation == Invocation::Freehold {
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
            "targets":[{"address":"web:3000","health":"healthy"}],"in_flight":{"requests":0,"tunnels":0},"draining":[],
            "counters":{"since_switch_ms":1,"requests":0,"upgrades":0,"responses_2xx":0,"responses_3xx":0,
            "responses_4xx":0,"responses_5xx":0,"target_errors":{}}},
            {"name":"x","settings":{"path_prefixes":["/api"]},"generation":1,"targets":[],
            "in_flight":{"requests":0,"tunnels":0},"draining":[],
            "counters":{"since_switch_ms":1,"requests":0,"upgrades":0,"responses_2xx":0,"responses_3xx":0,
            "responses_4xx":0,"responses_5xx":0,"target_errors":{}}}]"#;
        let services: Vec<ServiceStatus> = serde_json::from_str(text).unwrap();
        assert_eq!(
            table(&services, Invocation::Freehold),
            "Service   Host                         Path  Target    State    TLS\n\
             shop-web  a.example.com,b.example.com  /     web:3000  running  no\n\
             x         *                            /api            running  no\n"
        );
        let coloured = table(&services[..1], Invocation::KamalProxy);
        assert!(
            coloured.starts_with("\u{1b}[3;94mService\u{1b}[0m   \u{1b}[3;94mHost\u{1b}[0m"),
            "{coloured:?}"
        );
        assert!(coloured.contains("\n\u{1b}[1;34mshop-web\u{1b}[0m  \u{1b}[ma.example.com"), "{coloured:?}");
    }
}

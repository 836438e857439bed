//! No option is parsed and ignored: each supported key of the reference changes the project or is checked.

use std::collections::BTreeMap;

use freehold_config::{ConfigErrors, Nowhere, Parsed, Source, Sources, json_schema, parse};

fn parsed(text: &str) -> Result<Parsed, ConfigErrors> {
    let environment = BTreeMap::new();
    let base = Source { path: "deploy.yml", text };
    parse(&Sources { base, destination: None, environment: &environment, surroundings: &Nowhere })
}

/// The rest of a project into which a key of a section is put. A key is in flow style, so that it may also be nothing.
fn around(section: &str, line: &str) -> String {
    let head = "service: base\nservers: {web: {hosts: [192.0.2.1]}, job: {hosts: [203.0.113.1]}}\n";
    let comma = if line.is_empty() { "" } else { ", " };
    match section {
        "" if line.starts_with("service") => {
            format!("servers: {{web: {{hosts: [192.0.2.1]}}, job: {{hosts: [203.0.113.1]}}}}\n{line}\n")
        }
        "" => format!("{head}{line}\n"),
        "servers/ROLE" => format!("service: base\nservers: {{web: {{hosts: [192.0.2.1]{comma}{line}}}}}\n"),
        "accessories/NAME" => {
            format!("{head}accessories: {{db: {{image: postgres, host: 192.0.2.1{comma}{line}}}}}\n")
        }
        "cron/NAME" => format!("{head}cron: {{tidy: {{schedule: \"@daily\", cmd: tidy{comma}{line}}}}}\n"),
        "proxy/redirects" => {
            format!("{head}proxy: {{redirects: [{{from: /old, to: /new{comma}{line}}}]}}\n")
        }
        "firewall/allow" => format!("{head}firewall: {{allow: [{{port: 9{comma}{line}}}]}}\n"),
        "proxy/headers/changes" => format!("{head}proxy: {{headers: {{response: {{{line}}}}}}}\n"),
        "proxy/run" if line.starts_with("trace_ratio") => {
            format!("{head}proxy: {{run: {{otlp_endpoint: \"http://collector\", {line}}}}}\n")
        }
        "proxy/target_tls" if line.is_empty() => head.to_owned(),
        "proxy/target_tls" => format!("{head}proxy: {{target_protocol: https, target_tls: {{{line}}}}}\n"),
        // They have keys that are required.
        "verify" | "scan" | "registry" if line.is_empty() => head.to_owned(),
        "verify" if !line.starts_with("keys") => format!("{head}verify: {{keys: [a.pub]{comma}{line}}}\n"),
        "scan" if !line.starts_with("cmd") => format!("{head}scan: {{cmd: scanner{comma}{line}}}\n"),
        "images/NAME" => format!("{head}images: {{worker: {{{line}}}}}\n"),
        section => {
            let open: String = section.split('/').map(|key| format!("{key}: {{")).collect();
            // `output` has sections with required keys only.
            let empty = line.is_empty() && section.starts_with("output/");
            if empty {
                head.to_owned()
            } else {
                format!("{head}{open}{line}{}\n", "}".repeat(open.matches('{').count()))
            }
        }
    }
}

/// Reads the examples from the reference, the only place where the table can be seen from outside.
fn examples() -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in freehold_config::reference_markdown().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = if title == "Root" { String::new() } else { title.trim_matches('`').to_owned() };
        }
        let key =
            line.strip_prefix("| `").and_then(|rest| rest.split_once('`')).map(|(key, _)| key.to_owned());
        let example = line.split_once(" Example: `").and_then(|(_, rest)| rest.rsplit_once("` |"));
        if let (Some(key), Some((example, _))) = (key, example) {
            found.push((section.clone(), key, example.to_owned()));
        }
    }
    found
}

#[test]
fn every_supported_key_has_an_effect() {
    let examples = examples();
    assert!(examples.len() >= 90, "{}", examples.len());
    for (section, key, example) in examples {
        let text = around(&section, &format!("{key}: {example}"));
        let without =
            around(&section, if section.is_empty() && key == "service" { "service: base" } else { "" });
        let default = parsed(&without).unwrap_or_else(|errors| panic!("{without}\n{errors}")).project;
        match (key.as_str(), parsed(&text)) {
            // These two are only checked.
            ("minimum_version", Ok(_)) => assert!(parsed(&text.replace("2.0.0", "99.0")).is_err()),
            // It needs another key, which has an effect of its own.
            ("proxy_protocol", result) => {
                assert!(result.is_err(), "{text}");
                let trusting = |text: &str| text.replace("{run: {", "{run: {trusted_proxies: [192.0.2.9], ");
                assert_ne!(
                    parsed(&trusting(&text)).unwrap().project,
                    parsed(&trusting(&without)).unwrap().project
                );
            }
            ("require_destination", result) => assert!(result.is_err(), "{text}"),
            ("allow_empty_roles", Ok(_)) => {
                let empty = text.replace("[203.0.113.1]", "[]");
                assert!(
                    parsed(&empty).is_ok() && parsed(&empty.replace("allow_empty_roles: true", "")).is_err()
                );
            }
            (_, Ok(with)) => assert_ne!(with.project, default, "{text}"),
            (_, Err(errors)) => panic!("{text}\n{errors}"),
        }
    }
}

#[test]
fn the_schema_is_json_and_names_every_example() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    for (section, key, _) in examples() {
        let object = match section.as_str() {
            "" => &schema,
            name => &schema["$defs"][name.replace('/', ".")],
        };
        assert!(object["properties"][&key].is_object(), "{section}/{key}");
    }
}

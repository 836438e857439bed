//! No option is parsed and ignored: each supported key of the reference changes the project or is checked.

use std::collections::BTreeMap;

use freehold_config::{ConfigErrors, Nowhere, Parsed, Source, Sources, json_schema, parse, parse_ahead};

fn parsed(text: &str) -> Result<Parsed, ConfigErrors> {
    let environment = BTreeMap::new();
    let base = Source { path: "deploy.yml", text };
    parse_ahead(&Sources { base, destination: None, environment: &environment, surroundings: &Nowhere })
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
        let without = around(&section, if key == "service" { "service: base" } else { "" });
        let default = parsed(&without).unwrap_or_else(|errors| panic!("{without}\n{errors}")).project;
        match (key.as_str(), parsed(&text)) {
            // These two are only checked.
            ("minimum_version", Ok(_)) => assert!(parsed(&text.replace("2.0.0", "99.0")).is_err()),
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
fn a_key_without_effect_is_refused_by_its_name() {
    let environment = BTreeMap::new();
    let text = freehold_config::reference_markdown();
    let is_pending = |section: &str, key: &str| {
        let title = if section.is_empty() { "## Root\n".to_owned() } else { format!("## `{section}`\n") };
        let rest = text.split_once(&title).map(|(_, rest)| rest).unwrap_or_default();
        let table = rest.split("\n## ").next().unwrap_or_default();
        table.lines().any(|line| {
            line.starts_with(&format!("| `{key}` |"))
                && (line.contains("| *Not yet") || line.contains("| *Only `"))
        })
    };
    for (section, key, example) in examples() {
        let text = around(&section, &format!("{key}: {example}"));
        let base = Source { path: "deploy.yml", text: &text };
        let result =
            parse(&Sources { base, destination: None, environment: &environment, surroundings: &Nowhere });
        // A key may also stand in a section whose own effect is pending.
        let refusals = result.err().map(|errors| errors.render()).unwrap_or_default();
        let message = "is not supported by this version of freehold";
        let is_refused = refusals.contains(&format!("{key}: `{key}` {message}"))
            || refusals.contains(&format!("{key}: `{key}: {example}` {message}"));
        assert_eq!(is_refused, is_pending(&section, &key), "{section}/{key}\n{refusals}");
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

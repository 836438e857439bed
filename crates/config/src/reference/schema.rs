use serde_json::{Map, Value, json};

use super::{Kind, Support, keys_of, table::SECTIONS};
use crate::docker_flag::FLAGS;

/// Returns the JSON Schema of the deploy file (draft 2020-12), for editors.
///
/// Keys whose effect is not built yet are part of it, so that a file does not become wrong by the version. It is meant for completion and types; what [`crate::parse`] checks
/// beyond that, such as rules between keys, is not in it.
#[must_use]
pub fn json_schema() -> String {
    let mut definitions = Map::new();
    for section in SECTIONS.iter().filter(|section| !section.name.is_empty()) {
        definitions.insert(definition(section.name), object(section.name, section.doc));
    }
    let root_doc = SECTIONS.first().map_or("", |section| section.doc);
    let mut root = object("", root_doc);
    if let Value::Object(root) = &mut root {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Freehold's deploy file"));
        root.insert("required".to_owned(), json!(["service"]));
        root.insert("anyOf".to_owned(), json!([{"required": ["servers"]}, {"required": ["accessories"]}]));
        root.insert("patternProperties".to_owned(), json!({"^x-": true}));
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    format!("{root:#}\n")
}

fn definition(section: &str) -> String {
    section.replace('/', ".")
}

fn object(section: &str, doc: &str) -> Value {
    let mut properties = Map::new();
    for key in keys_of(section) {
        let mut schema = match key.support {
            Support::Full => of_kind(key.kind),
            Support::NoEffect { .. } => {
                let mut schema = of_kind(key.kind);
                if let Value::Object(schema) = &mut schema {
                    schema.insert("deprecated".to_owned(), json!(true));
                }
                schema
            }
        };
        if key.name == "options" && key.kind == Kind::MapOf(&Kind::Anything) {
            schema = options();
        }
        if let Value::Object(schema) = &mut schema {
            let default =
                if key.default.is_empty() { String::new() } else { format!(" Default: {}.", key.default) };
            schema.insert("description".to_owned(), json!(format!("{}{default}", key.doc)));
        }
        properties.insert(key.name.to_owned(), schema);
    }
    // `env` without its own keys is a map of variables.
    let others = if section == "env" { text() } else { json!(false) };
    json!({"type": "object", "description": doc, "properties": properties, "additionalProperties": others})
}

fn options() -> Value {
    let value = json!({"type": ["string", "number", "boolean", "array"]});
    let names = FLAGS.iter().map(|flag| flag.name).chain(["restart"]);
    let properties: Map<String, Value> = names.map(|name| (name.to_owned(), value.clone())).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn text() -> Value {
    json!({"type": ["string", "number", "boolean"]})
}

fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Text => text(),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::TextMap => json!({"type": "object", "additionalProperties": text()}),
        Kind::Section(section) => json!({"$ref": format!("#/$defs/{}", definition(section))}),
        Kind::List(item) => json!({"type": "array", "items": of_kind(*item)}),
        Kind::Hosts => {
            let tags = json!({"type": "object", "minProperties": 1, "maxProperties": 1});
            json!({"type": "array", "items": {"anyOf": [{"type": "string"}, tags]}})
        }
        Kind::MapOf(value) => json!({"type": "object", "additionalProperties": of_kind(*value)}),
        Kind::Either(kinds) => json!({"anyOf": kinds.iter().map(|kind| of_kind(*kind)).collect::<Vec<_>>()}),
        Kind::Anything => json!({}),
    }
}

//! Two containers as `docker inspect` shows them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::lab::TestEngine;

/// What `docker inspect` says, without what differs between any two containers.
pub(crate) fn inspected(lab: &TestEngine, name: &str) -> Value {
    let text = lab.docker(&["inspect", name]);
    let mut value = serde_json::from_str::<Value>(&text).unwrap()[0].take();
    let id = value["Id"].as_str().unwrap().to_owned();
    let short = id[..12].to_owned();
    if value["Config"]["Hostname"].as_str() == Some(short.as_str()) {
        value["Config"]["Hostname"] = Value::Null;
    }
    for key in
        ["Id", "Name", "Created", "LogPath", "HostnamePath", "HostsPath", "ResolvConfPath", "GraphDriver"]
    {
        value[key] = Value::Null;
    }
    // `docker create` leaves output attached where `docker run --detach` does not.
    for key in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
        value["Config"][key] = Value::Null;
    }
    // The size of the client's terminal.
    value["HostConfig"]["ConsoleSize"] = Value::Null;
    for mount in value["Mounts"].as_array_mut().unwrap() {
        if mount["Name"].as_str().is_some_and(|name| name.len() == 64) {
            mount["Name"] = Value::Null;
            mount["Source"] = Value::Null;
        }
    }
    if let Some(networks) = value.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut) {
        for endpoint in networks.values_mut() {
            if let Some(aliases) = endpoint["Aliases"].as_array_mut() {
                aliases.retain(|alias| alias.as_str() != Some(short.as_str()));
            }
            if let Some(names) = endpoint["DNSNames"].as_array_mut() {
                names.retain(|alias| alias.as_str().is_some_and(|alias| alias != short && alias != name));
            }
        }
    }
    // The client keeps neither variables nor volumes in order.
    for list in ["/Config/Env", "/HostConfig/Binds", "/Mounts"] {
        if let Some(list) = value.pointer_mut(list).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    value
}

/// Says where they differ, field by field.
pub(crate) fn differences(at: &str, theirs: &Value, ours: &Value) -> Vec<String> {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let side = |map: &serde_json::Map<String, Value>, key: &String| {
                map.get(key).cloned().unwrap_or_default()
            };
            keys.into_iter()
                .flat_map(|key| differences(&format!("{at}/{key}"), &side(left, key), &side(right, key)))
                .collect()
        }
        _ if is_empty(theirs) && is_empty(ours) => Vec::new(),
        _ if theirs == ours => Vec::new(),
        _ => vec![format!("{at}: `docker run` {theirs}, ours {ours}")],
    }
}

/// Null, an empty list and an empty map mean the same to the engine.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

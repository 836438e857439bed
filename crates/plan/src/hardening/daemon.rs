use serde_json::{Map, Value, json};

use super::facts::ServerFacts;

/// Docker's configuration as it is to be.
pub(super) struct Merged {
    /// The whole file.
    pub(super) text: String,
    /// What was there of the things that change, for people.
    pub(super) before: String,
    /// What is there of them afterwards, for people.
    pub(super) after: String,
}

/// How large one file of a container's log may become, and how many are kept: what Kamal gives its containers, and
/// three files so that the last lines survive the change of files.
const LOG_LIMITS: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "3")];

/// Merges our settings into Docker's configuration; none if they are there. Settings of others stay, and so do values of
/// the same settings.
///
/// `live-restore` keeps containers running while `dockerd` is down. The engine refuses it in a swarm
/// (<https://docs.docker.com/engine/daemon/live-restore/>). What the engine gets as an option of its service is left to that:
/// it does not start where a setting comes both ways (<https://docs.docker.com/engine/daemon/#configuration-conflicts>).
///
/// # Errors
/// Why the file is left alone.
pub(super) fn merged(text: &str, facts: &ServerFacts) -> Result<Option<Merged>, String> {
    let is_option = |name: &str| facts.docker_options.contains(name);
    let mut settings = if text.trim().is_empty() {
        Map::new()
    } else {
        match serde_json::from_str(text) {
            Ok(Value::Object(settings)) => settings,
            Ok(_) => return Err("/etc/docker/daemon.json holds no object".to_owned()),
            Err(error) => return Err(format!("/etc/docker/daemon.json cannot be read: {error}")),
        }
    };
    let mut before = Vec::new();
    let mut after = Vec::new();
    // The others either have limits of their own or keep nothing on this host.
    let driver = settings.get("log-driver").and_then(Value::as_str).unwrap_or("json-file");
    if driver == "json-file" && !is_option("log-driver") && !is_option("log-opt") {
        let limits = settings.entry("log-opts").or_insert_with(|| json!({}));
        let Value::Object(limits) = limits else {
            return Err("`log-opts` in /etc/docker/daemon.json is no object".to_owned());
        };
        if !limits.contains_key("max-size") {
            before.push("logs of containers without a limit".to_owned());
            after.push("logs of 3 × 10 MB for each container".to_owned());
            for (name, value) in LOG_LIMITS {
                limits.entry(name).or_insert_with(|| json!(value));
            }
        }
    }
    if !facts.in_swarm
        && !is_option("live-restore")
        && settings.get("live-restore") != Some(&Value::Bool(true))
    {
        before.push("no live-restore".to_owned());
        after.push("live-restore".to_owned());
        settings.insert("live-restore".to_owned(), Value::Bool(true));
    }
    if after.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string_pretty(&settings).map_err(|error| error.to_string())? + "\n";
    Ok(Some(Merged { text, before: before.join(", "), after: after.join(", ") }))
}

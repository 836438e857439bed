use freehold_config::Plain;
use freehold_model::{Logging, Project, ReleaseVersion};

use crate::context::Context;
use crate::error::CommandError;
use crate::git::{self, Repository};
use crate::project::{self, DeployFile};

/// Print what the deploy file comes to, with that of the destination merged over it.
///
/// The form is that of Kamal: YAML with symbols of Ruby as keys. Values of secrets are not in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let parsed = project::parse(&DeployFile::of(context)).await?;
    let (project, merged) = (&parsed.project, &parsed.merged);
    let repository = Repository::look(context).await?;
    let is_known = repository.revision.is_some() || git::given_version(context)?.is_some();
    let version = if is_known { Some(git::version(context, project, &repository)?) } else { None };
    let shown = shown(project, merged, version.as_ref());
    context.ui.close();
    if !context.ui.is_json() {
        context.ui.write_result(shown.to_yaml().as_bytes());
    }
    context.ui.result_json(context.command, &shown.to_json());
    Ok(())
}

fn shown(project: &Project, merged: &Plain, version: Option<&ReleaseVersion>) -> Plain {
    let hosts = project.all_hosts();
    let primary = hosts.first().map(|host| Plain::text(host.as_str()));
    let of_version = |before: &str| version.map(|version| Plain::text(format!("{before}{version}")));
    Plain::symbols([
        ("roles", Some(Plain::texts(project.roles.keys().map(ToString::to_string)))),
        ("hosts", Some(Plain::texts(hosts.iter().map(ToString::to_string)))),
        ("primary_host", primary),
        ("version", of_version("")),
        ("repository", Some(Plain::text(project.image.as_str()))),
        ("absolute_image", of_version(&format!("{}:", project.image))),
        ("service_with_version", of_version(&format!("{}-", project.service))),
        ("volume_args", Some(volumes(merged))),
        ("ssh_options", Some(ssh(merged))),
        ("sshkit", Some(merged.get("sshkit").cloned().unwrap_or_else(nothing))),
        ("builder", Some(merged.get("builder").cloned().unwrap_or_else(nothing))),
        ("accessories", merged.get("accessories").map(without_passwords)),
        ("logging", Some(logging(merged))),
    ])
}

fn nothing() -> Plain {
    Plain::Map(Vec::new())
}

fn volumes(merged: &Plain) -> Plain {
    let Some(Plain::List(volumes)) = merged.get("volumes") else { return Plain::List(Vec::new()) };
    Plain::List(volumes.iter().flat_map(|volume| [Plain::text("--volume"), volume.clone()]).collect())
}

fn ssh(merged: &Plain) -> Plain {
    let ssh = merged.get("ssh");
    let given = |key: &str| ssh.and_then(|ssh| ssh.get(key)).cloned();
    Plain::symbols([
        ("user", given("user").or_else(|| Some(Plain::text("root")))),
        ("port", given("port").or(Some(Plain::Integer(22)))),
        ("proxy", given("proxy").or_else(|| given("proxy_command"))),
        ("keepalive", Some(Plain::Boolean(true))),
        ("keepalive_interval", Some(Plain::Integer(30))),
        ("keys_only", given("keys_only")),
        ("keys", given("keys")),
        // Kamal prints the private keys themselves.
        ("key_data", given("key_data").map(|_| hidden())),
        ("config", given("config")),
        ("forward_agent", given("forward_agent")),
        ("log_level", given("log_level").or_else(|| Some(Plain::Symbol("fatal".to_owned())))),
    ])
}

/// The root's `logging` as flags of `docker run`.
fn logging(merged: &Plain) -> Plain {
    let logging = merged.get("logging");
    let mut words = Vec::new();
    let mut flag = |name: &str, value: String| words.extend([Plain::text(name), Plain::Text(value)]);
    if let Some(Plain::Text(driver)) = logging.and_then(|logging| logging.get("driver")) {
        flag("--log-driver", quoted(driver));
    }
    match logging.and_then(|logging| logging.get("options")) {
        Some(Plain::Map(options)) => {
            for (name, value) in options {
                flag("--log-opt", format!("{}={}", printed(name), quoted(&printed(value))));
            }
        }
        _ if words.is_empty() => {
            for (name, value) in Logging::default().options {
                words.extend([Plain::text("--log-opt"), Plain::Text(format!("{name}={}", quoted(&value)))]);
            }
        }
        _ => {}
    }
    Plain::List(words)
}

fn printed(value: &Plain) -> String {
    match value.to_json() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

fn hidden() -> Plain {
    Plain::text("[REDACTED]")
}

/// A registry's password that stands in the file itself is not printed.
fn without_passwords(value: &Plain) -> Plain {
    match value {
        Plain::Map(entries) => Plain::Map(
            entries
                .iter()
                .map(|(key, value)| match (key, value) {
                    (Plain::Text(name), Plain::Text(_)) if name == "password" => (key.clone(), hidden()),
                    _ => (key.clone(), without_passwords(value)),
                })
                .collect(),
        ),
        Plain::List(items) => Plain::List(items.iter().map(without_passwords).collect()),
        other => other.clone(),
    }
}

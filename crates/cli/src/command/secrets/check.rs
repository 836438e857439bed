use std::collections::BTreeMap;

use freehold_model::{Diagnose, ErrorKind, HostName, Project, SecretFingerprint, SecretName, SecretValues};
use freehold_secrets::{Definitions, Source, fingerprint};
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::hosts::Hosts;
use crate::preflight::Building;
use crate::ui::{Line, Table, Tone};
use crate::{project, secret};

/// Show which secrets the project needs, where each comes from, its length and fingerprint, and never its value.
///
/// The fingerprint is made under a key that stays on the primary host: equal fingerprints are equal values, and nobody
/// can guess a short value from it. It is that of `freehold plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold secrets check -d staging\n  \
    freehold secrets check --local   # ask no host, show no fingerprints")]
pub(crate) struct Args {
    /// Do not connect to the primary host; there are no fingerprints then.
    #[arg(long)]
    local: bool,
}

/// Secrets that are not as they should be.
#[derive(Debug, thiserror::Error)]
#[error("{}", if *count == 1 { "1 secret is not usable".to_owned() } else { format!("{count} secrets are not usable") })]
struct NotUsable {
    count: usize,
    help: Vec<String>,
}

impl Diagnose for NotUsable {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        self.help.clone()
    }
}

#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    needed_by: Vec<String>,
    /// Absent if it is not defined.
    place: Option<String>,
    source: Option<&'static str>,
    /// Bytes.
    length: Option<usize>,
    fingerprint: Option<String>,
    problem: Option<String>,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let loaded = project::load(context).await?;
    let needed = needs(&loaded.chosen);
    let definitions = secret::definitions(context, &loaded.whole).await?;
    let prints = if arguments.local || needed.is_empty() {
        BTreeMap::new()
    } else {
        fingerprints(context, &loaded.whole, definitions, &needed).await
    };
    let checked: Vec<Checked> =
        needed.iter().map(|(name, needed_by)| check(name, needed_by, definitions, &prints)).collect();
    context.ui.close();
    show(context, &checked, definitions);
    let count = checked.iter().filter(|entry| entry.problem.is_some()).count();
    if count > 0 {
        let names: Vec<SecretName> = needed.into_keys().collect();
        let help = definitions.select(&names).err().map(|error| error.help()).unwrap_or_default();
        return Err(NotUsable { count, help }.into());
    }
    context.ui.result_json(context.command, &checked);
    Ok(())
}

/// Returns every secret that the project names, with what needs it.
fn needs(project: &Project) -> BTreeMap<SecretName, Vec<String>> {
    let mut needs: BTreeMap<SecretName, Vec<String>> = BTreeMap::new();
    let mut need = |name: &SecretName, what: String| {
        let needed_by = needs.entry(name.clone()).or_default();
        if !needed_by.contains(&what) {
            needed_by.push(what);
        }
    };
    for role in project.roles.values() {
        for secret in role.hosts.iter().flat_map(|host| host.environment.secret.values()) {
            need(secret, role.name.to_string());
        }
    }
    project.builder.secrets.iter().for_each(|name| need(name, "builder".to_owned()));
    project.ssh.key_data.iter().for_each(|name| need(name, "ssh".to_owned()));
    for name in crate::change::needed(project) {
        needs.entry(name).or_insert_with(|| vec!["the deploy file".to_owned()]);
    }
    needs
}

/// Returns fingerprints, or none if the primary host does not give its key: nothing else depends on it.
async fn fingerprints(
    context: &Context,
    project: &Project,
    definitions: &Definitions,
    needed: &BTreeMap<SecretName, Vec<String>>,
) -> BTreeMap<SecretName, SecretFingerprint> {
    let primary: Vec<HostName> = project.hosts().into_iter().take(1).collect();
    let keys: Vec<SecretName> =
        project.ssh.key_data.iter().filter(|name| definitions.get(name).is_some()).cloned().collect();
    let keys: SecretValues = definitions.select(&keys).unwrap_or_default();
    let Some(hosts) = Hosts::new(context, project, &primary, &keys, Building::default()) else {
        return BTreeMap::new();
    };
    let Some(host) = hosts.primary() else { return BTreeMap::new() };
    match host.fingerprint_key().await {
        Ok(key) => needed
            .keys()
            .filter_map(|name| Some((name.clone(), fingerprint(&key, &definitions.get(name)?.value))))
            .collect(),
        Err(error) => {
            context.ui.warn(format!("no fingerprints: {error}"));
            BTreeMap::new()
        }
    }
}

fn check(
    name: &SecretName,
    needed_by: &[String],
    definitions: &Definitions,
    prints: &BTreeMap<SecretName, SecretFingerprint>,
) -> Checked {
    let defined = definitions.get(name);
    let length = defined.map(|defined| defined.value.expose_secret().len());
    let failed = defined.and_then(|defined| defined.failed.first());
    let problem = match (defined, failed) {
        (None, _) => Some("not defined".to_owned()),
        (Some(_), Some(failed)) => Some(format!("its command failed ({})", failed.status)),
        (Some(_), None) => None,
    };
    Checked {
        name: name.to_string(),
        needed_by: needed_by.to_vec(),
        place: defined.map(|defined| defined.place.to_string()),
        source: defined.map(|defined| word(defined.source)),
        length,
        fingerprint: prints.get(name).map(ToString::to_string),
        problem,
    }
}

fn word(source: Source) -> &'static str {
    match source {
        Source::File => "file",
        Source::Environment => "environment",
        Source::Command => "command",
        Source::PasswordManager => "password manager",
    }
}

fn show(context: &Context, checked: &[Checked], definitions: &Definitions) {
    if checked.is_empty() {
        context.ui.result(&[Line::new().plain("the project needs no secrets")]);
    } else {
        let mut table = Table::new(["secret", "needed by", "defined at", "from", "bytes", "fingerprint", ""]);
        for entry in checked {
            let text = |text: Option<String>| (Tone::Plain, text.unwrap_or_else(|| "-".to_owned()));
            table.row([
                (Tone::Strong, entry.name.clone()),
                (Tone::Plain, entry.needed_by.join(", ")),
                text(entry.place.clone()),
                text(entry.source.map(ToOwned::to_owned)),
                text(entry.length.map(|length| length.to_string())),
                text(entry.fingerprint.clone()),
                problem(entry),
            ]);
        }
        context.ui.result(&table.lines());
    }
    let others: Vec<&str> = definitions
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !checked.iter().any(|entry| entry.name == *name))
        .collect();
    if !others.is_empty() {
        let text = format!("defined, but needed by nothing but hooks: {}", others.join(", "));
        context.ui.note(Line::new().add(Tone::Faint, text));
    }
}

/// An empty value is allowed, and seldom meant.
fn problem(entry: &Checked) -> (Tone, String) {
    match (&entry.problem, entry.length) {
        (Some(problem), _) => (Tone::Bad, problem.clone()),
        (None, Some(0)) => (Tone::Warn, "empty".to_owned()),
        (None, _) => (Tone::Plain, String::new()),
    }
}

use std::time::Duration;

use freehold_model::{Project, ReleaseVersion};
use freehold_plan::{Action, Observed, Plan};
use serde::Serialize;

use crate::change::Done;
use crate::context::Context;
use crate::ui::{Line, Tone, short_version, span};

/// What a rollout came to, as `--json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct RolloutResult {
    /// The rollout's identifier, which is also the release's.
    pub(crate) release: String,
    pub(crate) version: Option<String>,
    pub(crate) service: String,
    pub(crate) destination: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) urls: Vec<String>,
    /// The version that served before, if one did.
    pub(crate) replaced: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) steps_done: usize,
    pub(crate) steps_already_done: usize,
}

impl RolloutResult {
    fn new(project: &Project, done: &Done, took: Duration) -> Self {
        let plan = &done.plan;
        Self {
            release: plan.id.to_string(),
            version: plan.version.as_ref().map(ToString::to_string),
            service: plan.service.to_string(),
            destination: plan.destination.as_ref().map(ToString::to_string),
            hosts: plan.hosts.iter().map(ToString::to_string).collect(),
            urls: urls(project),
            replaced: replaced(project, &done.observed),
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            steps_done: done.report.done,
            steps_already_done: done.report.already_done,
        }
    }
}

/// Shows what became of a rollout.
pub(crate) fn show(context: &Context, project: &Project, done: &Done, took: Duration) {
    let result = RolloutResult::new(project, done, took);
    context.ui.close();
    context.ui.result_json(context.command, &result);
    let version = done.plan.version.as_ref().map_or("", ReleaseVersion::as_str);
    let service = match &result.destination {
        Some(destination) => format!("{} ({destination})", result.service),
        None => result.service.clone(),
    };
    let mut lines = vec![
        Line::new(),
        Line::new()
            .plain(" ")
            .add(Tone::Good, context.ui.done_mark())
            .plain(" ")
            .add(Tone::Strong, format!("{service} {} is live", short_version(version)))
            .plain(format!(" on {} in {}", hosts(&result.hosts), span(took))),
        Line::new(),
    ];
    let mut row = |name: &str, value: &str| {
        lines.push(Line::new().plain("   ").add(Tone::Faint, name).pad_to(13).plain(value))
    };
    for (number, url) in result.urls.iter().enumerate() {
        row(if number == 0 { "url" } else { "" }, url);
    }
    row("release", &result.release);
    if result.hosts.len() > 1 {
        row("hosts", &result.hosts.join(", "));
    }
    if let Some(image) = image_note(&done.plan) {
        row("image", &image);
    }
    if let Some(replaced) = &result.replaced {
        row("replaced", &format!("{}; go back with `freehold rollback`", short_version(replaced)));
    }
    lines.push(Line::new());
    context.ui.result(&lines);
}

fn hosts(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        many => crate::ui::counted_items(many.len(), "host"),
    }
}

fn image_note(plan: &Plan) -> Option<String> {
    plan.steps().find_map(|step| match &step.action {
        Action::DeliverImage { image, .. } | Action::PullImage { image, .. } => Some(image.to_string()),
        _ => None,
    })
}

/// Returns the version that served on the first host before.
fn replaced(project: &Project, observed: &Observed) -> Option<String> {
    let host = project.hosts().into_iter().next()?;
    let seen = observed.hosts.get(&host)?;
    let container = project.roles.keys().find_map(|role| seen.current(project, role))?;
    Some(crate::command::status::version(project, container))
}

/// Returns the addresses at which the service answers.
pub(crate) fn urls(project: &Project) -> Vec<String> {
    let mut urls = Vec::new();
    for role in project.roles.values() {
        let (Some(proxy), Some(first)) = (&role.proxy, role.hosts.first()) else { continue };
        let run = project.proxy_run(&first.name);
        let (scheme, port, usual) =
            if proxy.tls.is_off() { ("http", run.http_port, 80) } else { ("https", run.https_port, 443) };
        let port = if port == usual { String::new() } else { format!(":{port}") };
        let path = match proxy.path_prefixes.first().map(String::as_str) {
            None | Some("/") => "",
            Some(prefix) => prefix,
        };
        let names: Vec<String> = if proxy.hosts.is_empty() {
            role.hosts.iter().map(|host| host.name.to_string()).collect()
        } else {
            proxy.hosts.clone()
        };
        for name in names {
            let name = if name.contains(':') { format!("[{name}]") } else { name };
            let url = format!("{scheme}://{name}{port}{path}");
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    urls
}

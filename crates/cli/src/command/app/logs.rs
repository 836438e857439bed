use freehold_docker::{LogLine, LogOptions};
use freehold_fleet::HostError;
use freehold_model::{ContainerName, Diagnose, ErrorKind, HostName};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Show the log of the application.
///
/// Without `--container-id` it is that of the containers that serve, on all hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold app logs -f\n  \
    freehold app logs --since 10m --grep ERROR\n  \
    freehold app logs -h web-2 -n 500")]
pub(crate) struct Args {
    /// Only lines since then: a time (2026-01-31T12:00:00Z) or a span (10m, 2h, 1d).
    #[arg(short, long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    /// How many lines from the end; 100, or 10 with `--follow`, or all with `--since` or `--grep`.
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<u32>,

    /// Only lines that contain this text.
    #[arg(short, long, value_name = "TEXT")]
    grep: Option<String>,

    /// Go on with new lines until Ctrl-C.
    #[arg(short, long)]
    follow: bool,

    /// Leave out the time before each line.
    #[arg(short = 'T', long, alias = "skip_timestamps")]
    skip_timestamps: bool,

    /// The container, by name or identifier, on the hosts that have it.
    #[arg(long, alias = "container_id", value_name = "CONTAINER")]
    container_id: Option<String>,
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy)]
enum Since {
    Time(Timestamp),
    Ago(jiff::SignedDuration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Since::Time(time));
    }
    let number: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.strip_prefix(number.as_str()).unwrap_or_default();
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    match number.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds)) {
        Some(span) if seconds > 0 => Ok(Since::Ago(jiff::SignedDuration::from_secs(span))),
        _ => Err("write a time such as 2026-01-31T12:00:00Z or a span such as 10m".to_owned()),
    }
}

/// There is no log to show.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct NoContainer {
    what: String,
}

impl Diagnose for NoContainer {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["see what there is: `freehold app containers`".to_owned()]
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    lines: u64,
}

/// A line on its way to the terminal, or the end of a log.
type Message = Result<(usize, LogLine), HostError>;

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let options = options(context, &arguments)?;
    let sight = context.until_stopped(Sight::prepare(context)).await?;
    let sources = context.until_stopped(sources(&sight, arguments.container_id.as_deref())).await?;
    context.ui.close();
    let (sender, mut lines) = mpsc::channel::<Message>(256);
    let mut readers = JoinSet::new();
    for (index, (host, container)) in sources.iter().enumerate() {
        let Some(engine) = sight.hosts.get(host).map(std::sync::Arc::clone) else { continue };
        let (container, options, sender) = (container.clone(), options.clone(), sender.clone());
        readers.spawn(async move {
            match engine.logs(&container, &options).await {
                Ok(stream) => {
                    let mut stream = std::pin::pin!(stream);
                    while let Some(line) = stream.next().await {
                        if sender.send(line.map(|line| (index, line))).await.is_err() {
                            return;
                        }
                    }
                }
                // Nobody to tell: the command has ended.
                Err(error) => drop(sender.send(Err(error)).await),
            }
        });
    }
    drop(sender);
    let labels = labels(&sources);
    let mut shown = Shown { lines: 0 };
    loop {
        let message = tokio::select! {
            message = lines.recv() => message,
            () = context.process.stop.cancelled() => break,
        };
        let Some(message) = message else { break };
        let (index, line) = message?;
        let text = line.text();
        if arguments.grep.as_ref().is_some_and(|wanted| !text.contains(wanted)) {
            continue;
        }
        shown.lines += 1;
        show(context, labels.get(index).map_or("", String::as_str), &text);
    }
    if shown.lines == 0 && !context.ui.is_json() {
        context.ui.note(Line::new().add(Tone::Faint, "no lines found"));
    }
    context.ui.result_json(context.command, &shown);
    Ok(())
}

fn options(context: &Context, arguments: &Args) -> Result<LogOptions, UsageError> {
    if context.ui.is_json() && arguments.follow {
        return Err(UsageError::new("`--json` prints one object at the end, and `--follow` has no end"));
    }
    let tail = match arguments.lines {
        Some(lines) => Some(lines),
        None if arguments.since.is_some() || arguments.grep.is_some() => None,
        None if arguments.follow => Some(10),
        None => Some(100),
    };
    let since = arguments.since.map(|since| match since {
        Since::Time(time) => time,
        Since::Ago(span) => context.now().checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH),
    });
    Ok(LogOptions { tail, since, timestamps: !arguments.skip_timestamps, follow: arguments.follow })
}

/// Returns the containers whose logs are shown, with their hosts.
async fn sources(
    sight: &Sight,
    wanted: Option<&str>,
) -> Result<Vec<(HostName, ContainerName)>, CommandError> {
    let observed = sight.observe().await?;
    let project = &sight.loaded.chosen;
    let mut sources = Vec::new();
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        match wanted {
            Some(wanted) => {
                let found = seen
                    .containers
                    .iter()
                    .find(|container| container.name.as_str() == wanted || container.id.starts_with(wanted));
                sources.extend(found.map(|container| (host.clone(), container.name.clone())));
            }
            None => {
                let current = project.roles.keys().filter_map(|role| seen.current(project, role));
                sources.extend(current.map(|container| (host.clone(), container.name.clone())));
            }
        }
    }
    if sources.is_empty() {
        let what = match wanted {
            Some(wanted) => format!("no host has a container `{wanted}` of this service"),
            None => "no container of this service runs".to_owned(),
        };
        return Err(NoContainer { what }.into());
    }
    Ok(sources)
}

/// Returns what stands before the lines of each log: nothing if there is one only.
fn labels(sources: &[(HostName, ContainerName)]) -> Vec<String> {
    if sources.len() < 2 {
        return vec![String::new(); sources.len()];
    }
    let mut hosts: Vec<&HostName> = sources.iter().map(|(host, _)| host).collect();
    hosts.dedup();
    let is_unique = hosts.len() == sources.len();
    let label = |(host, container): &(HostName, ContainerName)| {
        if is_unique { host.to_string() } else { format!("{host} {container}") }
    };
    let labels: Vec<String> = sources.iter().map(label).collect();
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    labels.into_iter().map(|label| format!("{label:width$}  ")).collect()
}

fn show(context: &Context, label: &str, text: &str) {
    if context.ui.is_json() {
        // With `--json` standard output is the result alone; the lines are events.
        context.ui.log_line(label.trim_end(), text);
        return;
    }
    let line = Line::new().add(Tone::Busy, label).plain(text.trim_end_matches('\r'));
    context.ui.result(&[line]);
}

use std::collections::BTreeMap;

use freehold_config::parse_proxy_boot;
use freehold_fleet::BootFile;
use serde::Serialize;

use super::operation::names;
use crate::change::Change;
use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::filter;
use crate::sight::Sight;
use crate::ui::{Line, Tone, counted_items};

/// How Kamal publishes the ports, unless it is told otherwise.
const USUAL_OPTIONS: &str = "--publish 80:80 --publish 443:443 --log-opt max-size=10m";
const USUAL_IMAGE: &str = "basecamp/kamal-proxy";
const USUAL_VERSION: &str = "v0.9.2";

/// Set how the proxy's container runs by files on the hosts, as Kamal 2.0 did.
///
/// Kamal deprecates them: write `proxy: run:` in the deploy file instead, which wins where it is there. They count from the
/// next `freehold proxy reboot` on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Set(Box<SetArgs>),
    /// Show what the files say.
    #[command(alias = "list")]
    Get,
    /// Remove the files.
    Reset,
}

/// Write the files; what is not given is as by default.
#[derive(Debug, clap::Args)]
struct SetArgs {
    /// Publish the ports, which is the default.
    #[arg(long, overrides_with = "no_publish")]
    publish: bool,

    /// Do not publish the ports.
    #[arg(long)]
    no_publish: bool,

    /// The host's address to which the ports are bound; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    publish_host_ip: Vec<std::net::IpAddr>,

    /// The host's port for HTTP.
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    http_port: u16,

    /// The host's port for HTTPS.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    https_port: u16,

    /// The size at which the log is rotated.
    #[arg(long, value_name = "SIZE", default_value = "10m")]
    log_max_size: String,

    /// The registry of kamal-proxy's image.
    #[arg(long, value_name = "SERVER")]
    registry: Option<String>,

    /// What stands before `/kamal-proxy` in the name of its image.
    #[arg(long, value_name = "PREFIX")]
    repository: Option<String>,

    /// The tag of its image.
    #[arg(long, value_name = "VERSION", default_value = USUAL_VERSION)]
    image_version: String,

    /// The port that answers with metrics.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,

    /// Log at debug level.
    #[arg(long)]
    debug: bool,

    /// Further options of `docker run`: `label=a=b`.
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    docker_options: Vec<String>,
}

impl Args {
    /// Returns the command's words.
    pub(super) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Set(_) => "proxy boot_config set",
            Verb::Get => "proxy boot_config get",
            Verb::Reset => "proxy boot_config reset",
        }
    }
}

#[derive(Debug, Serialize)]
struct HostFiles {
    host: String,
    files: BTreeMap<&'static str, String>,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Get => context.until_stopped(get(context)).await,
        Verb::Set(arguments) => write(context, files(&arguments)?).await,
        Verb::Reset => write(context, BTreeMap::new()).await,
    }
}

/// Returns the files that differ from what Kamal does without them.
fn files(arguments: &SetArgs) -> Result<BTreeMap<BootFile, String>, UsageError> {
    let mut options = Vec::new();
    if !arguments.no_publish {
        let ports = [format!("{}:80", arguments.http_port), format!("{}:443", arguments.https_port)];
        let bound = |address: &std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => format!("{address}:"),
            std::net::IpAddr::V6(address) => format!("[{address}]:"),
        };
        let addresses: Vec<String> = arguments.publish_host_ip.iter().map(bound).collect();
        let addresses = if addresses.is_empty() { vec![String::new()] } else { addresses };
        for address in addresses {
            options.extend(ports.iter().map(|port| format!("--publish {address}{port}")));
        }
    }
    if !arguments.log_max_size.is_empty() {
        options.push(format!("--log-opt max-size={}", arguments.log_max_size));
    }
    options.extend(arguments.metrics_port.map(|port| format!("--expose={port}")));
    options.extend(arguments.docker_options.iter().map(|option| format!("--{option}")));
    let name = [arguments.registry.as_deref(), Some(arguments.repository.as_deref().unwrap_or("basecamp"))];
    let name: Vec<&str> = name.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let mut command = vec!["kamal-proxy run".to_owned()];
    if arguments.debug {
        command.push("--debug".to_owned());
    }
    command.extend(arguments.metrics_port.map(|port| format!("--metrics-port \"{port}\"")));
    let has_command = command.len() > 1;
    let all = [
        (BootFile::Options, options.join(" "), USUAL_OPTIONS),
        (BootFile::Image, format!("{}/kamal-proxy", name.join("/")), USUAL_IMAGE),
        (BootFile::ImageVersion, arguments.image_version.clone(), USUAL_VERSION),
        (BootFile::RunCommand, if has_command { command.join(" ") } else { String::new() }, ""),
    ];
    let files: BTreeMap<BootFile, String> = all
        .into_iter()
        .filter(|(_, text, usual)| text != usual)
        .map(|(file, text, _)| (file, text))
        .collect();
    let text = |file| files.get(&file).map(String::as_str);
    parse_proxy_boot(
        (text(BootFile::Options), text(BootFile::RunCommand)),
        (text(BootFile::Image), text(BootFile::ImageVersion)),
    )
    .map_err(|error| UsageError::new(error.to_string()))?;
    Ok(files)
}

async fn get(context: &Context) -> Result<(), CommandError> {
    let sight = Sight::of_proxies(context).await?;
    let chosen = filter::proxy_hosts(&sight.loaded.whole, &sight.loaded.chosen, &context.arguments);
    let seen = sight.hosts.each(|host| async move { host.boot_files().await }).await?;
    let all: Vec<HostFiles> = seen
        .into_iter()
        .filter(|(host, _)| chosen.contains(host))
        .map(|(host, files)| HostFiles {
            host: host.to_string(),
            files: files.into_iter().map(|(file, text)| (file.name(), text)).collect(),
        })
        .collect();
    context.ui.close();
    for HostFiles { host, files } in &all {
        context.ui.result(&[Line::new().add(Tone::Strong, host)]);
        let text = |name: &str, usual: &str| files.get(name).cloned().unwrap_or_else(|| usual.to_owned());
        for (name, usual) in [
            ("options", USUAL_OPTIONS),
            ("image", USUAL_IMAGE),
            ("image_version", USUAL_VERSION),
            ("run_command", ""),
        ] {
            let from = if files.contains_key(name) { "" } else { "  (default)" };
            let line = Line::new().plain(format!("  {name}: {}", text(name, usual)));
            context.ui.result(&[line.add(Tone::Faint, from)]);
        }
    }
    context.ui.result_json(context.command, &all);
    Ok(())
}

async fn write(context: &Context, files: BTreeMap<BootFile, String>) -> Result<(), CommandError> {
    let (change, hosts) = Change::prepare_proxies(context).await?;
    let work = async || -> Result<(), CommandError> {
        let chosen = hosts.clone();
        change
            .hosts
            .each(|host| {
                let (files, is_chosen) = (files.clone(), chosen.contains(freehold_fleet::Host::name(&*host)));
                async move { if is_chosen { host.write_boot_files(&files).await } else { Ok(()) } }
            })
            .await?;
        Ok(())
    };
    change.with_lock(work).await?;
    context.ui.close();
    let text = format!(
        " written on {}; `freehold proxy reboot` makes them count",
        counted_items(hosts.len(), "host")
    );
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(text)]);
    let note = "Kamal deprecates these files: write `proxy: run:` in the deploy file instead";
    context.ui.note(Line::new().add(Tone::Faint, note));
    context.ui.result_json(context.command, &names(&hosts));
    Ok(())
}

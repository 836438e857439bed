use freehold_plan::{BuildPlaceName, BuildTool};
use serde::Serialize;

use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::preflight;
use crate::ui::{Line, Tone};

/// Show what builds the images: an engine, a builder of `docker buildx`, or `pack`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Details {
    /// `engine`, `buildx` or `pack`.
    tool: &'static str,
    /// The builder, or the machine of the engine.
    name: String,
    engine: Option<String>,
    architecture: Option<String>,
    buildkit: Option<bool>,
}

/// Decides what builds the project's own image.
pub(super) async fn tool(change: &Change<'_>) -> BuildTool {
    preflight::tool(change.context, change.project(), &change.project().builder).await
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_images(context, Build::No).await?;
    let details = match tool(&change).await {
        BuildTool::Engine | BuildTool::RemoteEngine(_) => {
            let place = BuildPlaceName::from(&change.project().builder.on);
            let info = change.hosts.workshop().engine_info(&place).await?;
            let product = if info.podman { "Podman" } else { "Docker" };
            Details {
                tool: "engine",
                name: match &place {
                    BuildPlaceName::Local => "this machine".to_owned(),
                    BuildPlaceName::Host(name) => name.to_string(),
                },
                engine: Some(format!("{product} {}", info.version)),
                architecture: Some(info.architecture_name),
                buildkit: Some(info.buildkit),
            }
        }
        BuildTool::Buildx(buildx) => Details {
            tool: "buildx",
            name: buildx.name().unwrap_or_else(|| buildx.driver.clone()),
            engine: None,
            architecture: None,
            buildkit: None,
        },
        BuildTool::Pack(pack) => {
            Details { tool: "pack", name: pack.builder, engine: None, architecture: None, buildkit: None }
        }
    };
    context.ui.close();
    let mut lines = vec![line("tool", details.tool), line("name", &details.name)];
    lines.extend(details.engine.as_ref().map(|engine| line("engine", engine)));
    lines.extend(details.architecture.as_ref().map(|name| line("architecture", name)));
    lines.extend(details.buildkit.map(|has| line("BuildKit", if has { "yes" } else { "no" })));
    context.ui.result(&lines);
    context.ui.result_json(context.command, &details);
    Ok(())
}

fn line(name: &str, value: &str) -> Line {
    Line::new().add(Tone::Faint, format!("{name:<14}")).plain(value)
}

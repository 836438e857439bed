use freehold_fleet::{Outcome, Work};
use freehold_plan::BuildPlaceName;

use super::details::tool;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::image_work;
use crate::ui::{Line, Tone};
use freehold_plan::BuildTool;

/// Make the builder that the deploy file asks for, if it is one of `docker buildx`.
///
/// An engine builds by itself and needs none; then it is only asked whether it is there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_images(context, Build::No).await?;
    let (name, text) = match tool(&change).await {
        BuildTool::Buildx(buildx) => {
            let name = buildx.name().unwrap_or_else(|| "docker".to_owned());
            let act = async |work: Work<'_>| change.hosts.workshop().ensure_buildx(&buildx, &work).await;
            let outcome = context.until_stopped(image_work::show(&change, "builder", &name, act)).await?;
            let text = match outcome {
                Outcome::Done(_) => format!("builder {name} is made"),
                Outcome::AlreadyDone => format!("builder {name} is there"),
            };
            (Some(name), text)
        }
        BuildTool::Pack(pack) => {
            (None, format!("`pack` builds with {}; there is no builder to make", pack.builder))
        }
        BuildTool::Engine | BuildTool::RemoteEngine(_) => {
            let place = BuildPlaceName::from(&change.project().builder.on);
            let info = context.until_stopped(change.hosts.workshop().engine_info(&place)).await?;
            let text =
                format!("the engine (Docker {}) builds by itself; there is no builder to make", info.version);
            (None, text)
        }
    };
    context.ui.close();
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    context.ui.result_json(context.command, &serde_json::json!({ "builder": name }));
    Ok(())
}

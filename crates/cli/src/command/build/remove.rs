use freehold_fleet::{Outcome, Work};
use freehold_plan::BuildTool;

use super::details::tool;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::image_work;
use crate::ui::{Line, Tone};

/// Remove the builder that the deploy file asks for, if it is one of `docker buildx`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_images(context, Build::No).await?;
    let (removed, text) = match tool(&change).await {
        BuildTool::Buildx(buildx) => {
            let name = buildx.name().unwrap_or_else(|| "docker".to_owned());
            let act = async |work: Work<'_>| change.hosts.workshop().remove_buildx(&buildx, &work).await;
            match context.until_stopped(image_work::show(&change, "builder", &name, act)).await? {
                Outcome::Done(_) => (true, format!("builder {name} is removed")),
                Outcome::AlreadyDone => (false, format!("there was no builder {name}")),
            }
        }
        BuildTool::Engine | BuildTool::RemoteEngine(_) | BuildTool::Pack(_) => {
            (false, "there is no builder to remove: an engine builds by itself".to_owned())
        }
    };
    context.ui.close();
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    context.ui.result_json(context.command, &serde_json::json!({ "removed": removed }));
    Ok(())
}

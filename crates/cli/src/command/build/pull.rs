use super::images;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;

/// Bring the images to the hosts that run them: from the registry, or without one from the engine that built them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_images(context, Build::No).await?;
    let version = change.version_to_deploy()?;
    let built = images::all(&change, &version)?;
    let hosts = context.until_stopped(images::pull(&change, &version)).await?;
    images::show(&change, &built, "is on the hosts", hosts);
    Ok(())
}

use super::images;
use super::push::BuildArgs;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;

/// Build the images, push them and bring them to the hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_images(context, Build::Yes(arguments.build.cache())).await?;
    let version = change.version_to_deploy()?;
    let built = images::all(&change, &version)?;
    let work = async {
        images::push(&change, &built).await?;
        images::pull(&change, &version).await
    };
    let hosts = context.until_stopped(work).await?;
    images::show(&change, &built, "is on the hosts", hosts);
    Ok(())
}

use freehold_model::{ImageReference, ReleaseVersion};
use freehold_plan::BuiltImage;

use super::images;
use super::push::BuildArgs;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::git::GitError;
use crate::hook::Hook;

/// How many changed files are listed.
const LISTED: usize = 20;

/// Build the working tree as it is, for trying out: the image's tags end in `-dirty` and it stays on the engine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_images(context, Build::Tree(arguments.build.cache())).await?;
    warn_of_changes(context, &change.repository.uncommitted);
    let version = format!("{}-dirty", change.version_to_deploy()?);
    let version = ReleaseVersion::parse(version).map_err(GitError::from)?;
    let built = images::all(&change, &version)?;
    let work = async {
        change.hooks.run(Hook::PreBuild).await?;
        for BuiltImage { image, latest, place } in &built {
            images::build(&change, image, place).await?;
            let tag = ReleaseVersion::parse(format!("{}-dirty", latest.tag)).map_err(GitError::from)?;
            let latest = ImageReference { repository: image.repository.clone(), tag };
            change.hosts.workshop().tag(place, image, &latest).await?;
        }
        Ok::<(), CommandError>(())
    };
    context.until_stopped(work).await?;
    images::show(&change, &built, "is built", Vec::new());
    Ok(())
}

fn warn_of_changes(context: &Context, uncommitted: &[String]) {
    if uncommitted.is_empty() {
        return;
    }
    let more = uncommitted.len().saturating_sub(LISTED);
    let mut lines: Vec<String> = uncommitted.iter().take(LISTED).map(|line| line.trim().to_owned()).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    context.ui.warn(format!("building with uncommitted changes: {}", lines.join(", ")));
}

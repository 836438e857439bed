use freehold_model::ReleaseVersion;
use freehold_plan::{AppPart, remove_part};

use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::git::GitError;
use crate::ui::{Line, Tone, counted_items};

/// Remove the application from its hosts: routes, containers, images and folders.
///
/// The proxy and named volumes stay. Images and folders go only from hosts all of whose roles are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Remove the stopped containers of one version.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// The version.
    version_to_remove: String,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    remove(context, &AppPart::Everything).await
}

pub(crate) async fn run_version(context: &Context, arguments: &VersionArgs) -> Result<(), CommandError> {
    let version = ReleaseVersion::parse(arguments.version_to_remove.as_str()).map_err(GitError::from)?;
    remove(context, &AppPart::Version(version)).await
}

/// Removes a part of the application.
pub(crate) async fn remove(context: &Context, part: &AppPart) -> Result<(), CommandError> {
    let mut change = Change::prepare_without_secrets(context).await?;
    change.act = Some(match part {
        AppPart::Everything => "Removed app".to_owned(),
        AppPart::Version(version) => format!("Removed app container with version {version}"),
        AppPart::Containers => "Removed all app containers".to_owned(),
        AppPart::Images => "Removed all app images".to_owned(),
        AppPart::Directories => format!("Removed .kamal/apps/{}", change.loaded.whole.stem()),
    });
    let done = change
        .carry_out(async |observed| {
            let (whole, chosen) = (&change.loaded.whole, change.project());
            Ok(remove_part(whole, chosen, change.release_id(), observed, part))
        })
        .await?;
    super::start::show(context, &done, "is cleared away");
    if done.plan.is_empty() {
        let hosts = counted_items(done.plan.hosts.len(), "host");
        context.ui.note(Line::new().add(Tone::Faint, format!("there was nothing to remove on {hosts}")));
    }
    Ok(())
}

use freehold_model::ReleaseVersion;
use freehold_plan::{AppPart, remove_part};

use crate::audit::Act;
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
    change.acts = acts(part, &change.loaded.whole.stem());
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

/// Kamal's words for the audit log.
pub(crate) fn acts(part: &AppPart, stem: &str) -> Vec<Act> {
    let directories = format!("Removed .kamal/apps/{stem}");
    let texts = match part {
        AppPart::Everything => {
            let begin = ["Stopped app", "Removed all app containers", "Removed all app images"];
            begin.map(str::to_owned).into_iter().chain([directories]).collect()
        }
        AppPart::Version(version) => vec![format!("Removed app container with version {version}")],
        AppPart::Containers => vec!["Removed all app containers".to_owned()],
        AppPart::Images => vec!["Removed all app images".to_owned()],
        AppPart::Directories => vec![directories],
    };
    texts.into_iter().map(Act::everywhere).collect()
}

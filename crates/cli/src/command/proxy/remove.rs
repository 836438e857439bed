use freehold_model::{Diagnose, ErrorKind};
use freehold_plan::remove_proxy;

use super::operation::{self, Outcome};
use crate::audit::Act;
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;

/// Remove the proxies with their images and files. The volume with routes and certificates stays.
///
/// Refused while applications are installed on a host.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also where applications are installed, which nobody can reach then.
    #[arg(long)]
    force: bool,
}

/// Applications need the proxy.
#[derive(Debug, thiserror::Error)]
#[error("the proxy of host `{host}` is not removed: {} installed there", list(applications))]
struct InUse {
    host: String,
    applications: Vec<String>,
}

fn list(applications: &[String]) -> String {
    let names: Vec<String> = applications.iter().map(|name| format!("`{name}`")).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

impl Diagnose for InUse {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["ignore that: `freehold proxy remove --force`".to_owned()]
    }
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let (mut change, hosts) = Change::prepare_proxies(context).await?;
    change.acts =
        ["Stopped proxy", "Removed proxy container", "Removed proxy image"].map(Act::everywhere).to_vec();
    let done = change
        .carry_out(async |_| {
            if !arguments.force {
                for (host, applications) in
                    change.hosts.each(|host| async move { host.installed_applications().await }).await?
                {
                    if hosts.contains(&host) && !applications.is_empty() {
                        return Err(InUse { host: host.to_string(), applications }.into());
                    }
                }
            }
            Ok(remove_proxy(&change.loaded.whole, change.release_id(), &hosts)?)
        })
        .await?;
    operation::show(context, &Outcome::of(&done), "removed");
    Ok(())
}

use freehold_model::{Accessory, HostName, Project};
use freehold_plan::{ContainerState, ObservedAccessory, accessory_configuration};
use serde::Serialize;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// Show the containers of accessories, and whether they are as the deploy file says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    #[arg(default_value = "all")]
    name: String,
}

/// An accessory on a host.
#[derive(Debug, Serialize)]
pub(crate) struct AccessoryStatus {
    pub(crate) host: String,
    pub(crate) accessory: String,
    pub(crate) container: String,
    pub(crate) image: String,
    /// None where there is no container.
    pub(crate) state: Option<ContainerState>,
    pub(crate) drift: Drift,
}

/// Whether what runs is what the deploy file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Drift {
    /// It is.
    None,
    /// There is no container.
    Missing,
    /// It is there and does not run.
    Stopped,
    /// It was made from another configuration.
    Differs,
    /// Its image is another one; Freehold did not make it, so that nothing else can be compared.
    OtherImage,
    /// Freehold did not make it: only its image could be compared.
    Unknown,
}

impl Drift {
    fn of(accessory: &Accessory, seen: Option<&ObservedAccessory>) -> Self {
        let Some(seen) = seen else { return Self::Missing };
        let wanted = accessory_configuration(accessory);
        match &seen.configuration {
            Some(configuration) if *configuration != wanted => Self::Differs,
            None if seen.image != accessory.image.to_string() => Self::OtherImage,
            _ if !seen.state.is_running() => Self::Stopped,
            Some(_) => Self::None,
            None => Self::Unknown,
        }
    }

    /// Says it to a person.
    pub(crate) fn words(self) -> (Tone, &'static str) {
        match self {
            Self::None => (Tone::Good, "as in the file"),
            Self::Missing => (Tone::Warn, "no container: `freehold accessory boot`"),
            Self::Stopped => (Tone::Warn, "stopped: `freehold accessory start`"),
            Self::Differs => (Tone::Warn, "differs from the file: `freehold accessory reboot`"),
            Self::OtherImage => (Tone::Warn, "runs another image: `freehold accessory reboot`"),
            Self::Unknown => (Tone::Faint, "made by another tool"),
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let choice = |project: &Project| Ok(operation::choose(context, project, &arguments.name)?);
    let (sight, chosen) = Sight::of_accessories(context, choice).await?;
    let all = look(&sight, &chosen).await?;
    context.ui.close();
    let lines: Vec<Line> = table(&all).lines();
    context.ui.result(&lines);
    context.ui.result_json(context.command, &all);
    Ok(())
}

/// Lays accessories out.
pub(crate) fn table(all: &[AccessoryStatus]) -> Table {
    let mut table = Table::new(["host", "accessory", "container", "image", "state", "file"]);
    for status in all {
        let state = status.state.map_or_else(|| "-".to_owned(), |state| format!("{state:?}").to_lowercase());
        let (tone, words) = status.drift.words();
        table.row([
            (Tone::Strong, status.host.clone()),
            (Tone::Plain, status.accessory.clone()),
            (Tone::Plain, status.container.clone()),
            (Tone::Plain, status.image.clone()),
            (Tone::Plain, state),
            (tone, words.to_owned()),
        ]);
    }
    table
}

/// Looks at accessories on their hosts.
///
/// # Errors
/// The first host that does not answer.
pub(crate) async fn look(
    sight: &Sight,
    chosen: &[(Accessory, Vec<HostName>)],
) -> Result<Vec<AccessoryStatus>, CommandError> {
    let seen = operation::observe(&sight.hosts, chosen).await?;
    let mut all = Vec::new();
    for (accessory, hosts) in chosen {
        for host in hosts {
            let seen = seen.get(host).and_then(|on_host| on_host.get(&accessory.name));
            all.push(AccessoryStatus {
                host: host.to_string(),
                accessory: accessory.name.to_string(),
                container: accessory.container.to_string(),
                image: seen.map_or_else(|| accessory.image.to_string(), |seen| seen.image.clone()),
                state: seen.map(|seen| seen.state),
                drift: Drift::of(accessory, seen),
            });
        }
    }
    Ok(all)
}

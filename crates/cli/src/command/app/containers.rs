use crate::command::status;
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::Line;

/// List the containers of the application, running or not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Which containers are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Running,
}

pub(super) async fn run(context: &Context, which: Which, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let observed = sight.observe().await?;
    let project = &sight.loaded.chosen;
    let hosts = project.hosts();
    let containers: Vec<status::ContainerStatus> = hosts
        .iter()
        .filter_map(|name| Some((name, observed.hosts.get(name)?)))
        .flat_map(|(name, seen)| status::containers(project, name, seen))
        .filter(|container| which == Which::All || container.state.is_running())
        .collect();
    context.ui.close();
    let table = status::table(context, containers.iter());
    if table.is_empty() {
        context.ui.result(&[Line::new().plain("no containers of this service")]);
    } else {
        context.ui.result(&table.lines());
    }
    context.ui.result_json(context.command, &containers);
    Ok(())
}

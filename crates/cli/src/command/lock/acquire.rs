use freehold_fleet::{Lease, LeaseRequest, Stop};
use serde::Serialize;

use crate::change;
use crate::context::Context;
use crate::error::CommandError;
use crate::git::{self, Repository};
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Take the deploy lock, so that nobody deploys until it is released.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold lock acquire -m \"moving the database\"")]
pub(crate) struct Args {
    /// Why, for those who find it locked.
    #[arg(short, long)]
    message: String,
}

#[derive(Debug, Serialize)]
struct Acquired {
    message: String,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let sight = Sight::of_lock(context).await?;
    let repository = Repository::look(context).await?;
    let request = LeaseRequest {
        stem: sight.loaded.whole.stem(),
        performer: git::author(context).await.name,
        version: repository.revision,
        message: arguments.message.clone(),
        holder: change::holder()?,
        time_to_live: None,
    };
    let waiting = context.arguments.waiting();
    let stop = Stop { soft: context.process.stop.clone(), hard: context.process.abort.clone() };
    // It stays when the value goes: only `lock release` ends it.
    drop(Lease::acquire(&sight.hosts.world(None), &request, waiting, &stop).await?);
    context.ui.close();
    let text = "the deploy lock is yours until `freehold lock release`";
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    context.ui.result_json(context.command, &Acquired { message: arguments.message });
    Ok(())
}

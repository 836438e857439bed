use freehold_model::{Diagnose, ErrorKind};
use freehold_plan::{AppPart, remove};
use freehold_ssh::Prompt;
use serde::Serialize;

use crate::change::{Build, Change};
use crate::command::app;
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, counted_items};

/// Remove the service from its hosts: containers, images, routes and stored releases.
///
/// The proxy goes too if it serves nobody else. Named volumes stay: they are data.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,
}

/// A person said no, or nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Declined {
    /// Nobody could be asked.
    #[error("this removes things and nobody can be asked")]
    NobodyToAsk,
    /// The answer was no.
    #[error("nothing was removed")]
    No,
}

impl Diagnose for Declined {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Declined
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NobodyToAsk => vec!["say yes beforehand: `--confirmed`".to_owned()],
            Self::No => Vec::new(),
        }
    }
}

#[derive(Debug, Serialize)]
struct RemovedService {
    service: String,
    hosts: Vec<String>,
    steps_done: usize,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let mut change = Change::prepare(context, Build::No).await?;
    change.acts = app::remove::acts(&AppPart::Everything, &change.loaded.whole.stem());
    let hosts = change.project().hosts();
    let names = hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    if !arguments.confirmed {
        if !context.ui.can_ask() {
            return Err(Declined::NobodyToAsk.into());
        }
        let stem = change.loaded.whole.stem();
        let question = format!("Remove `{stem}` with its images and releases from {}?", names.join(", "));
        if !context.ui.confirm(&question).await {
            return Err(Declined::No.into());
        }
    }
    let done = change
        .carry_out(async |observed| Ok(remove(change.project(), change.release_id(), observed)))
        .await?;
    context.ui.close();
    let mark = context.ui.done_mark();
    let text = format!("{} is removed from {}", change.project().stem(), counted_items(hosts.len(), "host"));
    context.ui.result(&[Line::new().add(Tone::Good, mark).plain(" ").plain(text)]);
    let result = RemovedService {
        service: change.project().service.to_string(),
        hosts: names,
        steps_done: done.report.done,
    };
    context.ui.result_json(context.command, &result);
    Ok(())
}

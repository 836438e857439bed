use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::audit;
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::guard::short::{self, ShortProof};
use crate::guard::{Boot, Standing, Survey};
use crate::ui::{Line, Tone, counted_items};

/// Close the hosts as `firewall plan` shows.
///
/// The new table is loaded in one transaction. Then a new SSH connection is made the same way; only if it gets through is the
/// table kept and loaded at every boot. Otherwise, and also if this computer or the connection dies, the host goes back to
/// what it had before, by itself. At the end the ports that rules are about are tried from this computer; exits with 1 when
/// one of them is not as the deploy file says.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold firewall apply\n  freehold firewall apply -h 'db-*'")]
pub(crate) struct Args {
    /// After how many seconds an unconfirmed change undoes itself.
    #[arg(long, alias = "undo_after", value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(2..=3600))]
    undo_after: u64,

    /// Also where there is no systemd: load the table now, and leave it to you to load it at boot.
    #[arg(long, alias = "until_reboot")]
    until_reboot: bool,
}

#[derive(Debug, Serialize)]
struct Applied {
    changed: Vec<String>,
    in_step: Vec<String>,
    tried: ShortProof,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_every_host(context).await?;
    let whole = &change.loaded.whole;
    let names = filter::all_hosts(whole, change.project(), &context.arguments);
    let boot = if arguments.until_reboot { Boot::ByHand } else { Boot::Always };
    let undo_after = Duration::from_secs(arguments.undo_after);
    let work = async || -> Result<_, CommandError> {
        let survey = Survey::take(whole, &change.hosts).await?;
        for name in names.iter().filter(|name| survey.standing(name) != Standing::InStep) {
            for line in super::plan::host_lines(&survey, name) {
                context.ui.note(line);
            }
        }
        let changed = survey.apply(context, &change.hosts, (&names, boot, undo_after)).await?;
        Ok((changed, survey))
    };
    let (changed, survey) = change.with_lock(work).await?;
    let acts = changed
        .iter()
        .filter_map(|name| Some((Arc::clone(change.hosts.get(name)?), "Applied firewall".to_owned())));
    audit::write_down(context, whole, &change.author.email, acts).await;
    let concerned = changed.iter().map(|name| (name.clone(), survey.concerned(name))).collect();
    let tried = short::try_ports(context, whole, (&change.hosts, &survey), &concerned).await?;
    context.ui.close();
    let text = match changed.len() {
        0 => " every host is in step with the deploy file".to_owned(),
        count => format!(" {} guarded; `freehold firewall verify` proves it", counted_items(count, "host")),
    };
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(text)]);
    let in_step = names.iter().filter(|name| !changed.contains(name)).map(ToString::to_string).collect();
    let changed = changed.iter().map(ToString::to_string).collect();
    let checked = tried.check();
    if checked.is_ok() {
        tried.show(context);
    }
    context.ui.result_json(context.command, &Applied { changed, in_step, tried });
    Ok(checked?)
}

use freehold_model::{Diagnose, ErrorKind};

use crate::error::CommandError;

/// Kamal's move from version 1 to version 2, which freehold does not make.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,

    /// Host by host.
    #[arg(long)]
    rolling: bool,
}

/// There is nothing that freehold could upgrade.
#[derive(Debug, thiserror::Error)]
#[error("`upgrade` replaces Kamal 1's Traefik by Kamal 2's proxy, and freehold takes over from Kamal 2 only")]
struct NoUpgrade;

impl Diagnose for NoUpgrade {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn help(&self) -> Vec<String> {
        vec![
            "servers of Kamal 1: run `kamal upgrade` of Kamal 2 first, then `freehold deploy` goes on from there"
                .to_owned(),
            "servers of Kamal 2 need no upgrade: names, labels, paths and the lock are the same".to_owned(),
            "a newer freehold needs none either: each deploy brings the proxy that belongs to it".to_owned(),
        ]
    }
}

pub(crate) fn run(_arguments: &Args) -> Result<(), CommandError> {
    Err(NoUpgrade.into())
}

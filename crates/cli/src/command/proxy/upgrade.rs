use crate::error::UsageError;

/// Kamal 1's Traefik cannot be replaced by this version.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,

    /// One host after another.
    #[arg(long)]
    rolling: bool,
}

/// Says what to do instead.
pub(super) fn refusal() -> UsageError {
    UsageError::new("`proxy upgrade` goes from Kamal 1 to Kamal 2, which freehold does not do")
        .help("upgrade with Kamal 2 first, or remove Traefik by hand and deploy")
        .help("replace a proxy by a new one: `freehold proxy reboot`")
}

use freehold_model::{Canary, CanaryHeader};
use freehold_plan::{ProxyBoot, canary_start};

use super::{Outcome, check_whole, show, wait};
use crate::change::Change;
use crate::command::deploy::BuildArgs;
use crate::context::Context;
use crate::error::{CommandError, UsageError};

/// Build a release and let some visitors try it beside the one that serves.
///
/// It is built, brought to every host and started as by `freehold deploy`, release commands and hooks included: only the
/// roles behind the proxy start, the others and the jobs follow when it is promoted. If anything fails on any host, it is
/// removed from all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold canary start\n  \
    freehold canary start --percent 5 --wait\n  \
    freehold canary start --percent 0 --no-verdict --header 'X-Canary: yes'")]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,

    #[command(flatten)]
    visitors: VisitorArgs,

    /// Wait until the proxies have decided, and promote or remove the release then, as `freehold canary wait` does.
    #[arg(long)]
    wait: bool,
}

/// Which visitors, where it is not as the deploy file says.
#[derive(Debug, clap::Args)]
struct VisitorArgs {
    /// How many of a hundred visitors try it.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: Option<u8>,

    /// The cookie by whose value visitors are told apart.
    #[arg(long, value_name = "NAME")]
    cookie: Option<String>,

    /// Values of the cookie that try it in any case, separated by commas.
    #[arg(long, value_name = "VALUES", value_delimiter = ',')]
    list: Vec<String>,

    /// A header, `NAME` or `NAME: VALUE`; requests with it go to the release in any case.
    #[arg(long, value_name = "HEADER")]
    header: Option<String>,

    /// Compare nothing: it goes on until `freehold canary promote` or `freehold canary abort`.
    #[arg(long, alias = "no_verdict", conflicts_with = "wait")]
    no_verdict: bool,
}

impl VisitorArgs {
    /// Returns what is asked for, over what the deploy file says.
    fn over(&self, usual: &Canary) -> Result<Canary, UsageError> {
        let mut canary = usual.clone();
        canary.percent = self.percent.unwrap_or(usual.percent);
        if let Some(text) = &self.cookie {
            let name = CanaryHeader::parse(text).filter(|name| name.value.is_none());
            let name =
                name.ok_or_else(|| UsageError::new(format!("`{text}` is not the name of a cookie")))?;
            canary.cookie = Some(name.name);
        }
        if !self.list.is_empty() {
            canary.list.clone_from(&self.list);
        }
        if let Some(text) = &self.header {
            let header = CanaryHeader::parse(text);
            canary.header = Some(header.ok_or_else(|| {
                UsageError::new(format!("`{text}` is not a header")).help("write it as `X-Canary: yes`")
            })?);
        }
        if self.no_verdict {
            canary.verdict = None;
        }
        if !canary.takes_anybody() {
            let error = UsageError::new("nobody would try the release");
            return Err(error.help("give `--percent`, `--list` or `--header`"));
        }
        if !canary.can_be_compared() {
            let error = UsageError::new("a verdict needs visitors on both sides: `--percent` from 1 to 99");
            return Err(error.help("or compare nothing: `--no-verdict`"));
        }
        Ok(canary)
    }
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, arguments.build.build()).await?;
    check_whole(&change)?;
    let canary = arguments.visitors.over(&change.project().canary)?;
    if arguments.wait && canary.verdict.is_none() {
        let error = UsageError::new("there is nothing to wait for: `canary: verdict:` is off");
        return Err(error.help("leave out `--wait`").into());
    }
    let version = change.version_to_deploy()?;
    let done = change
        .carry_out(async |observed| {
            let request =
                change.rollout_request(&version, arguments.build.image(), ProxyBoot::Expect).await?;
            Ok(canary_start(&request, &canary, observed)?)
        })
        .await?;
    if arguments.wait {
        return wait::follow(&change).await;
    }
    let text = format!("is tried by {} % of the visitors", canary.percent);
    let next = match canary.verdict {
        Some(_) => "see `freehold canary status`; `freehold canary wait` waits for the verdict",
        None => "`freehold canary promote` lets it serve, `freehold canary abort` removes it",
    };
    show(context, &done, (Outcome::of(&done, "tried"), &text, next));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitors() -> VisitorArgs {
        VisitorArgs { percent: None, cookie: None, list: Vec::new(), header: None, no_verdict: false }
    }

    #[test]
    fn what_is_given_goes_before_the_file() {
        let file = Canary { percent: 20, cookie: Some("a".to_owned()), ..Canary::default() };
        assert_eq!(visitors().over(&file).unwrap(), file);
        let given = VisitorArgs {
            percent: Some(5),
            cookie: Some("b".to_owned()),
            list: vec!["x".to_owned()],
            header: Some("X-Canary: yes".to_owned()),
            no_verdict: true,
        };
        let canary = given.over(&file).unwrap();
        assert_eq!((canary.percent, canary.cookie.as_deref()), (5, Some("b")));
        assert_eq!(canary.list, ["x"]);
        assert_eq!(canary.header.unwrap().value.as_deref(), Some("yes"));
        assert!(canary.verdict.is_none() && canary.anonymous);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let file = Canary::default();
        let error = |given: VisitorArgs| given.over(&file).unwrap_err().to_string();
        let everybody = VisitorArgs { percent: Some(100), ..visitors() };
        assert_eq!(error(everybody), "a verdict needs visitors on both sides: `--percent` from 1 to 99");
        let nobody = VisitorArgs { percent: Some(0), no_verdict: true, ..visitors() };
        assert_eq!(error(nobody), "nobody would try the release");
        let header = VisitorArgs { header: Some("a b".to_owned()), ..visitors() };
        assert_eq!(error(header), "`a b` is not a header");
        let cookie = VisitorArgs { cookie: Some("a: b".to_owned()), ..visitors() };
        assert_eq!(error(cookie), "`a: b` is not the name of a cookie");
    }
}

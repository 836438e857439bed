//! The flags of `deploy` that say how requests are shared out, limited and changed. kamal-proxy has none of them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use freehold_model::{
    Balance, HeaderChanges, HeaderField, Hsts, InvalidTraffic, Network, PassiveHealth, Rate, Redirect,
    Traffic, UpgradeToken, printable,
};

use super::CommandError;
use super::arguments::{list, parse_bool};
use super::request::milliseconds;
use super::{duration, number};
use crate::view::WEBSOCKET;

#[derive(Debug, Args)]
pub(super) struct TrafficArguments {
    /// Which of several targets gets a request: `round-robin` or `least-connections`.
    #[arg(long, default_value = "round-robin", value_parser = balance)]
    balance: Balance,
    /// After how many failed requests in a row a target is left out for a while; 0 for never.
    #[arg(long, default_value_t = 0, value_parser = number::whole::<u32>)]
    passive_health_failures: u32,
    /// For how long a target is left out the first time; each further time twice as long [default: 10s].
    #[arg(long, value_parser = duration::parse_own)]
    passive_health_pause: Option<Duration>,
    /// The longest time for which a target is left out [default: 5m].
    #[arg(long, value_parser = duration::parse_own)]
    passive_health_max_pause: Option<Duration>,
    /// How often one client may ask, `REQUESTS/SPAN` or `REQUESTS/SPAN:BURST`, as in `20/1s:40`.
    #[arg(long, default_value = "")]
    client_rate: String,
    /// How often all clients together may ask.
    #[arg(long, default_value = "")]
    service_rate: String,
    /// The addresses and networks that are served; none means all.
    #[arg(long)]
    allow_ip: Vec<String>,
    /// The addresses and networks that are not served.
    #[arg(long)]
    block_ip: Vec<String>,
    /// The addresses and networks of the proxies in front of this one whose `X-Forwarded-For` is believed.
    #[arg(long)]
    trusted_proxy: Vec<String>,
    /// A redirect, `FROM TO`, and behind it `permanent` and `keep-path` as needed; may be given several times.
    #[arg(long)]
    redirect: Vec<String>,
    /// A header that every request gets, `NAME: VALUE`; may be given several times.
    #[arg(long)]
    request_header: Vec<String>,
    /// The headers that are taken out of requests.
    #[arg(long)]
    remove_request_header: Vec<String>,
    /// A header that every answer gets, `NAME: VALUE`; may be given several times.
    #[arg(long)]
    response_header: Vec<String>,
    /// The headers that are taken out of answers.
    #[arg(long)]
    remove_response_header: Vec<String>,
    /// For how long browsers are to come by HTTPS only; 0s says nothing.
    #[arg(long, default_value = "0s", value_parser = duration::parse_own)]
    hsts: Duration,
    /// Let that be for all hosts below, too.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    hsts_subdomains: bool,
    /// Let the host be put into the lists that browsers come with.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    hsts_preload: bool,
    /// Add the usual headers for security that the application does not set.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = parse_bool)]
    security_headers: bool,
    /// A protocol to which connections may be upgraded; may be given several times, and `--upgrade=` allows none.
    #[arg(long, default_value = "websocket")]
    upgrade: Vec<String>,
    /// The file with those who may come, `USER:HASH` with hashes of bcrypt as `htpasswd -B` makes them.
    #[arg(long, default_value = "")]
    pub(super) basic_auth_file: String,
}

impl TrafficArguments {
    /// Reads what is wanted, if anything is.
    pub(super) fn traffic(&self) -> Result<Option<Box<Traffic>>, CommandError> {
        if self.hsts.is_zero() && (self.hsts_subdomains || self.hsts_preload) {
            let message = "`--hsts-subdomains` and `--hsts-preload` can only be set with `--hsts`".to_owned();
            return Err(CommandError::Usage { message });
        }
        let traffic = self.read()?;
        Ok(traffic.if_any())
    }

    fn read(&self) -> Result<Traffic, CommandError> {
        let hsts = Hsts {
            subdomains: self.hsts_subdomains,
            preload: self.hsts_preload,
            ..Hsts::for_span(self.hsts)
        };
        let redirects = self.redirect.iter().map(|text| Redirect::parse(text)).collect::<Result<_, _>>();
        Ok(Traffic {
            balance: self.balance,
            passive_health: self.passive_health()?,
            client_rate: named("--client-rate", rate(&self.client_rate))?,
            service_rate: named("--service-rate", rate(&self.service_rate))?,
            allow: named("--allow-ip", networks(&self.allow_ip))?,
            block: named("--block-ip", networks(&self.block_ip))?,
            trusted_proxies: named("--trusted-proxy", networks(&self.trusted_proxy))?,
            redirects: named("--redirect", redirects)?,
            request_headers: HeaderChanges {
                set: set_headers("--request-header", &self.request_header)?,
                remove: named("--remove-request-header", headers(&self.remove_request_header))?,
            },
            response_headers: HeaderChanges {
                set: set_headers("--response-header", &self.response_header)?,
                remove: named("--remove-response-header", headers(&self.remove_response_header))?,
            },
            hsts: (!self.hsts.is_zero()).then_some(hsts),
            security_headers: self.security_headers,
            upgrades: self.upgrades()?,
        })
    }

    fn passive_health(&self) -> Result<Option<PassiveHealth>, CommandError> {
        let (usual, failures) = (PassiveHealth::default(), self.passive_health_failures);
        let spans = [
            ("--passive-health-pause", self.passive_health_pause, usual.pause_ms),
            ("--passive-health-max-pause", self.passive_health_max_pause, usual.max_pause_ms),
        ];
        if failures == 0 {
            return match spans.iter().find(|(_, span, _)| span.is_some()) {
                Some((flag, ..)) => {
                    Err(usage(format!("`{flag}` can only be set with `--passive-health-failures`")))
                }
                None => Ok(None),
            };
        }
        let [pause_ms, max_pause_ms] = spans.map(|(_, span, usual)| span.map_or(usual, milliseconds));
        if pause_ms > max_pause_ms {
            let [pause, longest] =
                [pause_ms, max_pause_ms].map(|span| duration::format(Duration::from_millis(span)));
            return Err(usage(format!(
                "`--passive-health-pause` of `{pause}` is longer than `--passive-health-max-pause`, which is `{longest}`"
            )));
        }
        Ok(Some(PassiveHealth { failures, pause_ms, max_pause_ms }))
    }

    /// Reads the protocols to which connections may be upgraded; nothing where it is what is usual.
    fn upgrades(&self) -> Result<Option<Vec<UpgradeToken>>, CommandError> {
        let tokens = list(&self.upgrade).into_iter().map(UpgradeToken::parse).collect::<Result<Vec<_>, _>>();
        let tokens = named("--upgrade", tokens)?;
        let is_usual = matches!(tokens.as_slice(), [token] if token.as_str() == WEBSOCKET);
        Ok((!is_usual).then_some(tokens))
    }
}

fn usage(message: String) -> CommandError {
    CommandError::Usage { message }
}

/// Says to which flag a wrong value belongs, and what would be right.
fn named<T>(flag: &str, read: Result<T, InvalidTraffic>) -> Result<T, CommandError> {
    read.map_err(|error| usage(format!("`{flag}`: {error}: {}", error.rule())))
}

fn balance(text: &str) -> Result<Balance, String> {
    Balance::parse(text).map_err(|_| {
        format!("`{text}` is not a way to choose a target: it is `round-robin` or `least-connections`")
    })
}

fn rate(text: &str) -> Result<Option<Rate>, InvalidTraffic> {
    if text.is_empty() { Ok(None) } else { Rate::parse(text).map(Some) }
}

fn networks(texts: &[String]) -> Result<Vec<Network>, InvalidTraffic> {
    list(texts).iter().map(|text| Network::parse(text)).collect()
}

fn headers(texts: &[String]) -> Result<Vec<HeaderField>, InvalidTraffic> {
    list(texts).into_iter().map(HeaderField::parse).collect()
}

fn set_headers(flag: &str, lines: &[String]) -> Result<BTreeMap<HeaderField, String>, CommandError> {
    let read = |line: &String| {
        let Some((name, value)) = line.split_once(':') else {
            let line = printable(line);
            return Err(usage(format!(
                "`{flag}`: `{line}` is not a header with its value: write `NAME: VALUE`"
            )));
        };
        Ok((named(flag, HeaderField::parse(name.trim()))?, value.trim().to_owned()))
    };
    lines.iter().map(read).collect()
}

//! The flags of `deploy` that say how requests are shared out, limited and changed. kamal-proxy has none of them.

use std::time::Duration;

use clap::Args;
use freehold_model::{
    Balance, HeaderChanges, HeaderField, Hsts, InvalidTraffic, Network, PassiveHealth, Rate, Redirect,
    Traffic,
};

use super::CommandError;
use super::arguments::{list, parse_bool};
use super::duration;
use super::request::milliseconds;

#[derive(Debug, Args)]
pub(super) struct TrafficArguments {
    /// Which of several targets gets a request: `round-robin` or `least-connections`.
    #[arg(long, default_value = "round-robin")]
    balance: String,
    /// After how many failed requests in a row a target is left out for a while; 0 for never.
    #[arg(long, default_value_t = 0)]
    passive_health_failures: u32,
    /// For how long a target is left out the first time; each further time twice as long.
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    passive_health_pause: Duration,
    /// The longest time for which a target is left out.
    #[arg(long, default_value = "5m", value_parser = duration::parse)]
    passive_health_max_pause: Duration,
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
    #[arg(long, default_value = "0s", value_parser = duration::parse)]
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
        self.read()
            .map(Traffic::if_any)
            .map_err(|error| CommandError::Usage { message: format!("{error}: {}", error.rule()) })
    }

    fn read(&self) -> Result<Traffic, InvalidTraffic> {
        let hsts = Hsts {
            subdomains: self.hsts_subdomains,
            preload: self.hsts_preload,
            ..Hsts::for_span(self.hsts)
        };
        let passive = PassiveHealth {
            failures: self.passive_health_failures,
            pause_ms: milliseconds(self.passive_health_pause),
            max_pause_ms: milliseconds(self.passive_health_max_pause),
        };
        Ok(Traffic {
            balance: Balance::parse(&self.balance)?,
            passive_health: (passive.failures > 0).then_some(passive),
            client_rate: rate(&self.client_rate)?,
            service_rate: rate(&self.service_rate)?,
            allow: networks(&self.allow_ip)?,
            block: networks(&self.block_ip)?,
            trusted_proxies: networks(&self.trusted_proxy)?,
            redirects: self.redirect.iter().map(|text| Redirect::parse(text)).collect::<Result<_, _>>()?,
            request_headers: changes(&self.request_header, &self.remove_request_header)?,
            response_headers: changes(&self.response_header, &self.remove_response_header)?,
            hsts: (!self.hsts.is_zero()).then_some(hsts),
            security_headers: self.security_headers,
        })
    }
}

fn rate(text: &str) -> Result<Option<Rate>, InvalidTraffic> {
    if text.is_empty() { Ok(None) } else { Rate::parse(text).map(Some) }
}

fn networks(texts: &[String]) -> Result<Vec<Network>, InvalidTraffic> {
    list(texts).iter().map(|text| Network::parse(text)).collect()
}

fn changes(set: &[String], remove: &[String]) -> Result<HeaderChanges, InvalidTraffic> {
    let set = set.iter().map(|line| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        Ok((HeaderField::parse(name.trim())?, value.trim().to_owned()))
    });
    Ok(HeaderChanges {
        set: set.collect::<Result<_, _>>()?,
        remove: list(remove).into_iter().map(HeaderField::parse).collect::<Result<_, _>>()?,
    })
}

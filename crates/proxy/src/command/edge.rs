//! The flags of `serve` that say how connections are taken. kamal-proxy has none of them.

use std::collections::BTreeMap;

use clap::Args;
use freehold_model::Network;

use super::arguments::list;
use super::serve::setting;
use super::{CommandError, number};
use crate::edge::{DEFAULT_MAX_CONNECTIONS, EdgeConfig};

#[derive(Debug, Args)]
pub(super) struct EdgeArguments {
    /// The addresses and networks of the proxies in front of this one: their `X-Forwarded-For` is believed by services with
    /// rules, and they may have any number of connections.
    #[arg(long)]
    trusted_proxy: Vec<String>,
    /// The ports, `http` and `https`, on which connections of trusted proxies begin with a PROXY header, version 1 or 2.
    #[arg(long)]
    proxy_protocol: Vec<String>,
    /// How many connections one client may have at once, an IPv4 address or a /64 of IPv6; 0 for any number [default: 4096].
    #[arg(long, value_parser = number::whole::<u32>)]
    max_client_connections: Option<u32>,
}

impl EdgeArguments {
    /// Reads what is wanted, from the flags or else from the environment.
    pub(super) fn config(&self, environment: &BTreeMap<String, String>) -> Result<EdgeConfig, CommandError> {
        let usage = |message: String| CommandError::Usage { message };
        let texts = |flag: &[String], name: &str| match flag {
            [] => list(&setting::<String>(environment, name).into_iter().collect::<Vec<_>>()),
            flag => list(flag),
        };
        let trusted = texts(&self.trusted_proxy, "TRUSTED_PROXY");
        let trusted = trusted.iter().map(|text| Network::parse(text)).collect::<Result<Vec<_>, _>>();
        let trusted = trusted.map_err(|error| usage(format!("{error}: {}", error.rule())))?;
        let ports = texts(&self.proxy_protocol, "PROXY_PROTOCOL");
        if let Some(port) = ports.iter().find(|port| !matches!(port.as_str(), "http" | "https")) {
            let port = freehold_model::printable(port);
            return Err(usage(format!("`--proxy-protocol` is for `http` and `https`, not for `{port}`")));
        }
        if !ports.is_empty() && trusted.is_empty() {
            let message =
                "`--proxy-protocol` needs `--trusted-proxy`: anybody could tell any address otherwise";
            return Err(usage(message.to_owned()));
        }
        let usual = DEFAULT_MAX_CONNECTIONS;
        Ok(EdgeConfig {
            trusted,
            proxy_protocol_http: ports.iter().any(|port| port == "http"),
            proxy_protocol_https: ports.iter().any(|port| port == "https"),
            max_connections: self
                .max_client_connections
                .or_else(|| setting(environment, "MAX_CLIENT_CONNECTIONS"))
                .unwrap_or(usual),
        })
    }
}

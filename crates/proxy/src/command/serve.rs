//! `serve`: the proxy in the foreground.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::arguments::ServeArguments;
use super::{CommandError, Console, socket_path, temporary_folder};
use crate::limits::Limits;
use crate::resolve::NameFiles;
use crate::server::{Server, ServerConfig};

/// Docker kills a container 10 s after it has asked it to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(9);

pub(super) fn run(
    arguments: ServeArguments,
    environment: &BTreeMap<String, String>,
    console: &mut Console,
) -> Result<(), CommandError> {
    let metrics_port = arguments.metrics_port.or_else(|| setting(environment, "METRICS_PORT")).unwrap_or(0);
    if metrics_port != 0 {
        let message = "`--metrics-port` is not supported by this version of the proxy".to_owned();
        return Err(CommandError::Usage { message });
    }
    let http_port = arguments.http_port.or_else(|| setting(environment, "HTTP_PORT")).unwrap_or(80);
    let https_port = arguments.https_port.or_else(|| setting(environment, "HTTPS_PORT")).unwrap_or(443);
    if http_port != 0 && http_port == https_port {
        let message = format!("`--http-port` and `--https-port` must differ, both are {http_port}");
        return Err(CommandError::Usage { message });
    }
    let config = ServerConfig {
        bind: arguments.bind,
        http_port,
        https_port,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        socket: socket_path(&arguments.socket, environment),
        state_folder: arguments.state_dir.unwrap_or_else(|| data_folder(environment)),
        debug: arguments.debug.or_else(|| setting(environment, "DEBUG")).unwrap_or(false),
        stop_deadline: STOP_DEADLINE,
        limits: Limits::default(),
        names: NameFiles::default(),
        spill_folder: temporary_folder(environment),
    };
    let output = std::mem::replace(&mut console.output, Box::new(std::io::sink()));
    Server::start(config, output)?.join();
    Ok(())
}

/// Reads a setting from the environment; one that cannot be read is ignored, as by kamal-proxy.
fn setting<T: std::str::FromStr>(environment: &BTreeMap<String, String>, name: &str) -> Option<T> {
    let value = environment.get(&format!("KAMAL_PROXY_{name}")).or_else(|| environment.get(name))?;
    value.parse().ok()
}

fn data_folder(environment: &BTreeMap<String, String>) -> PathBuf {
    let home = environment.get("HOME").filter(|value| !value.is_empty());
    home.map_or_else(|| temporary_folder(environment), PathBuf::from).join(".config/kamal-proxy")
}

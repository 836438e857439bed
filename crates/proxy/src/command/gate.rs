//! `pause`, `stop` and `resume`.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{Gate, GateRequest};

use super::arguments::{PauseArguments, ResumeArguments, SocketArgument, StopArguments};
use super::request::{CALL_LIMIT, call, milliseconds};
use super::{CommandError, socket_path};

type Environment = BTreeMap<String, String>;

pub(super) fn pause(arguments: &PauseArguments, environment: &Environment) -> Result<(), CommandError> {
    let gate = Gate::Paused { max_pause_ms: milliseconds(arguments.max_pause) };
    let service = Service { name: &arguments.service, socket: &arguments.socket, environment };
    service.set(gate, arguments.drain_timeout)
}

pub(super) fn stop(arguments: StopArguments, environment: &Environment) -> Result<(), CommandError> {
    let gate = Gate::Stopped { message: arguments.message };
    let service = Service { name: &arguments.service, socket: &arguments.socket, environment };
    service.set(gate, arguments.drain_timeout)
}

pub(super) fn resume(arguments: &ResumeArguments, environment: &Environment) -> Result<(), CommandError> {
    let service = Service { name: &arguments.service, socket: &arguments.socket, environment };
    service.set(Gate::Open, Duration::ZERO)
}

/// A service and the way to its proxy.
struct Service<'a> {
    name: &'a str,
    socket: &'a SocketArgument,
    environment: &'a Environment,
}

impl Service<'_> {
    fn set(&self, gate: Gate, drain_timeout: Duration) -> Result<(), CommandError> {
        let path = socket_path(self.socket, self.environment);
        let name = ProxyServiceName::parse(self.name)?;
        let request = GateRequest { gate, drain_timeout_ms: milliseconds(drain_timeout), fence: None };
        let limit = drain_timeout + CALL_LIMIT;
        call(&path, async |mut client| client.set_gate(&name, &request, limit).await.map(drop))
    }
}

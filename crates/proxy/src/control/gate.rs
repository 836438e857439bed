//! Pausing, stopping and resuming a service.

use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{DrainReport, ErrorReply, Gate, GateReply, GateRequest};

use super::{Control, bounds, unknown};
use crate::generation::Generation;
use crate::state::State;

impl Control {
    /// Moves a service's gate, and drains the service where it is closed.
    ///
    /// # Cancel safety
    /// Dropped while it drains, the gate is moved, and what is in flight is not cut.
    pub(crate) async fn set_gate(
        &self,
        name: &ProxyServiceName,
        request: &GateRequest,
    ) -> Result<GateReply, ErrorReply> {
        bounds::gate(request)?;
        self.raise_fence(name, request.fence)?;
        let (previous, generations) = self.move_gate(name, &request.gate)?;
        let message = match &request.gate {
            Gate::Open => "Service resumed",
            Gate::Paused { .. } => "Service paused",
            Gate::Stopped { .. } => "Service stopped",
        };
        self.log.info(message, &[("service", name)]);
        if request.gate.is_open() {
            return Ok(GateReply { previous, drained: None });
        }
        let limit = Duration::from_millis(request.drain_timeout_ms);
        let mut drained = DrainReport { elapsed_ms: 0, requests_left: 0, tunnels_left: 0 };
        for generation in generations {
            let left = limit.saturating_sub(Duration::from_millis(drained.elapsed_ms));
            let report = self.end(&generation, Some((left, Duration::ZERO))).await;
            drained.elapsed_ms += report.elapsed_ms;
            drained.requests_left += report.requests_left;
            drained.tunnels_left += report.tunnels_left;
        }
        self.log.info("Service drained", &[("service", name), ("cut", &drained.requests_left)]);
        Ok(GateReply { previous, drained: Some(drained) })
    }

    fn move_gate(
        &self,
        name: &ProxyServiceName,
        gate: &Gate,
    ) -> Result<(Gate, Vec<Arc<Generation>>), ErrorReply> {
        let ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let service = table.service(name).ok_or_else(|| unknown(name))?;
        let moved = table.with(Arc::new(service.with_gate(gate.clone())));
        let services = moved.services().map(|service| service.snapshot()).collect();
        self.save(&State::new(ledger.generation, ledger.fences.clone(), services))?;
        self.shared.store(moved);
        service.gate_moved.notify_waiters();
        let generations = service.generations().cloned().collect();
        Ok((service.gate.clone(), generations))
    }
}

//! Targets of the release before, which step in until the switch away from them is final.

use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::{ConfirmReply, ConfirmRequest, DeployRequest, ErrorReply, HealthState, TargetAddress};
use tokio::time::sleep;

use super::{Control, bounds, unknown};
use crate::generation::{Generation, Members};
use crate::table::Service;

impl Control {
    /// Makes a generation of the targets that are replaced, if they are to stand by. It is not the replaced generation
    /// itself, which ends when what is in flight at it has ended.
    pub(super) fn make_standby(
        &self,
        replaced: &Service,
        request: &DeployRequest,
        number: u64,
    ) -> Option<Arc<Generation>> {
        let (mut targets, mut read_targets) =
            (replaced.generation.addresses(), replaced.generation.read_addresses());
        targets.retain(|address| !request.targets.contains(address));
        read_targets.retain(|address| !request.read_targets.contains(address));
        if request.standby_ms == 0 || targets.is_empty() {
            return None;
        }
        let members = Members { targets: &targets, read_targets: &read_targets };
        let standby = Generation::new(members, HealthState::Healthy, self.thread_count);
        standby.set_number(number);
        Some(Arc::new(standby))
    }

    /// Ends a standby when its time is over.
    pub(super) fn expire_standby(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        standby: Arc<Generation>,
        request: &DeployRequest,
    ) {
        let limit = Duration::from_millis(request.standby_ms);
        let limits = (
            Duration::from_millis(request.drain_timeout_ms),
            Duration::from_millis(request.tunnel_timeout_ms),
        );
        let (control, name) = (Arc::clone(self), name.clone());
        self.tasks.spawn(async move {
            let stopping = control.stopping.clone();
            if stopping.run_until_cancelled(sleep(limit)).await.is_some() {
                control.end_standby(&name, Some(&standby), limits);
            }
        });
    }

    /// Takes note that a switch is final.
    pub(crate) fn confirm(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        request: &ConfirmRequest,
    ) -> Result<ConfirmReply, ErrorReply> {
        bounds::confirm(request)?;
        self.raise_fence(name, request.fence)?;
        if self.shared.load().1.service(name).is_none() {
            return Err(unknown(name));
        }
        let limits = (
            Duration::from_millis(request.drain_timeout_ms),
            Duration::from_millis(request.tunnel_timeout_ms),
        );
        Ok(ConfirmReply { stood_by: self.end_standby(name, None, limits) })
    }

    /// Lets a service's targets stand by no longer, or only where they are those given; returns them.
    fn end_standby(
        self: &Arc<Self>,
        name: &ProxyServiceName,
        only: Option<&Arc<Generation>>,
        limits: (Duration, Duration),
    ) -> Vec<TargetAddress> {
        let mut ledger = self.ledger.lock();
        let (_, table) = self.shared.load();
        let Some(service) = table.service(name) else { return Vec::new() };
        let Some(standby) = &service.standby else { return Vec::new() };
        if only.is_some_and(|only| !Arc::ptr_eq(only, standby)) {
            return Vec::new();
        }
        self.install(table.with(Arc::new(Service { standby: None, ..Service::clone(service) })));
        drop(self.retire(&mut ledger, name, standby, Some(limits)));
        self.log.info("Standby ended", &[("service", name)]);
        standby.addresses()
    }
}

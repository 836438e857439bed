use std::collections::BTreeSet;

use freehold_fleet::{Lease, Report, Scope, World, execute, observe};
use freehold_model::{HostName, SecretValues};
use freehold_plan::{Bridging, Handover, Incoming, Observed, ObservedHost, ObservedProxy, Plan, handover};

use crate::audit::Act;
use crate::change::{Change, Done};
use crate::command;
use crate::error::CommandError;
use crate::failure::RolloutFailure;
use crate::secret;

/// A change that has the deploy lock.
pub(crate) struct Held<'h, 'a> {
    change: &'h Change<'a>,
    world: &'h World,
    lease: &'h Lease,
}

impl<'h, 'a> Held<'h, 'a> {
    pub(super) fn new(change: &'h Change<'a>, world: &'h World, lease: &'h Lease) -> Self {
        Self { change, world, lease }
    }

    /// Looks, decides, and does it.
    ///
    /// # Errors
    /// What went wrong; what was done is put back.
    pub(crate) async fn carry_out(
        &self,
        decide: impl AsyncFnOnce(&Observed) -> Result<Plan, CommandError>,
    ) -> Result<Done, CommandError> {
        let change = self.change;
        let mut observed = self.observe().await?;
        if let Some(plan) = self.renewal(&observed)? {
            // A command that needs no secrets has not read them.
            let project = &change.loaded.whole;
            let secrets = secret::values(change.context, project, &command::proxy::needed(project)).await?;
            self.execute(&plan, &[Act::everywhere("Rebooted proxy")], &secrets).await?;
            observed = self.observe().await?;
        }
        let plan = change.context.until_stopped(decide(&observed)).await?;
        let report = self.execute(&plan, &change.acts, &change.secrets).await?;
        Ok(Done { plan, report, observed })
    }

    async fn observe(&self) -> Result<Observed, CommandError> {
        let scope = Scope { project: &self.change.loaded.whole };
        self.change.context.until_stopped(observe(self.world, &scope)).await
    }

    async fn execute(
        &self,
        plan: &Plan,
        acts: &[Act],
        secrets: &SecretValues,
    ) -> Result<Report, CommandError> {
        let Self { change, world, lease } = self;
        let stop = change.stop();
        let outcome = Box::pin(execute(plan, world, lease, secrets, &stop)).await;
        change.audit(world, plan, (acts, outcome.as_ref().err())).await;
        Ok(outcome.map_err(RolloutFailure::new)?)
    }

    /// Plans the replacement of proxies of an earlier Freehold, which do not understand what this one asks of them.
    fn renewal(&self, observed: &Observed) -> Result<Option<Plan>, CommandError> {
        let is_outdated =
            |seen: &ObservedHost| matches!(seen.proxy, ObservedProxy::Running { is_outdated: true, .. });
        let project = &self.change.loaded.whole;
        let hosts = project.all_hosts().into_iter();
        let hosts: Vec<HostName> =
            hosts.filter(|host| observed.hosts.get(host).is_some_and(is_outdated)).collect();
        if hosts.is_empty() {
            return Ok(None);
        }
        let request = Handover {
            project,
            id: self.change.numbered_id(usize::from(u8::MAX)),
            hosts: &hosts,
            incoming: Incoming::Same,
            bridging: Bridging::StandIn,
            kept: &BTreeSet::new(),
            drain: project.timeouts.drain,
        };
        Ok(Some(handover(&request, observed)?))
    }
}

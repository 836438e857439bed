//! The services of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freehold_model::ProxyServiceName;
use freehold_wire::{HealthState, ServiceSnapshot};

use super::checks::follow_installed;
use super::files::{Encryption, load_authorities, load_encryption, load_pages};
use super::{Ledger, chain};
use crate::acme::Keeper;
use crate::canary::Trial;
use crate::generation::{Generation, Members};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::resolve::Resolver;
use crate::rules::{Memory, Past, Rules};
use crate::state::State;
use crate::table::{Service, Shared, Table};
use crate::target_tls::TargetAuthorities;

/// What services are made with when the proxy starts.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    pub(crate) thread_count: usize,
    pub(crate) resolver: &'a Arc<Resolver>,
    pub(crate) log: &'a Log,
    pub(crate) keeper: &'a Keeper,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) metrics: Option<&'a Metrics>,
    /// The addresses of targets that are known not to be healthy.
    pub(crate) unhealthy: &'a BTreeSet<String>,
    /// What rules had found out in the process before, by service.
    pub(crate) memories: &'a BTreeMap<ProxyServiceName, Memory>,
    /// What is served by now, if anything is.
    pub(crate) former: &'a Table,
}

/// Puts the services of an earlier run back; their targets are taken as healthy, so that traffic flows at once. It is to
/// be called inside a runtime, which then carries their health checks.
pub(crate) fn restore(state: State, means: &Means<'_>) -> (Table, Ledger) {
    let Means { thread_count, resolver, log, keeper, shared, metrics, unhealthy, memories, former } = *means;
    let mut ledger = Ledger { generation: state.generation, fences: state.fences, ..Ledger::default() };
    let mut services = Vec::new();
    for ServiceSnapshot { name, targets, read_targets, settings, generation: number, gate, canary } in
        state.services
    {
        let members = Members { targets: &targets, read_targets: &read_targets };
        let generation =
            Arc::new(Generation::new(members, HealthState::Healthy, thread_count).caring(&settings));
        generation.set_number(number);
        generation.note_unhealthy(unhealthy);
        let check = &settings.health_check;
        ledger.checks.insert(name.clone(), follow_installed(&generation, check, (resolver, log)));
        let canary = canary.map(|canary| {
            let members = Members { targets: &canary.targets, read_targets: &canary.read_targets };
            let generation =
                Arc::new(Generation::new(members, HealthState::Healthy, thread_count).caring(&settings));
            ledger.generation += 1;
            generation.set_number(ledger.generation);
            generation.note_unhealthy(unhealthy);
            ledger.canary_checks.insert(name.clone(), follow_installed(&generation, check, (resolver, log)));
            Trial::new(generation, canary.split, thread_count)
        });
        let gate_moved = Arc::default();
        let pages = load_pages(&settings).unwrap_or_else(|error| {
            log.error("Error pages not loaded", &[("service", &name), ("error", &chain(&error))]);
            None
        });
        let encryption = load_encryption(keeper, shared, &name, &settings).unwrap_or_else(|error| {
            log.error("Certificate not loaded", &[("service", &name), ("error", &chain(&error))]);
            Encryption::default()
        });
        let target_authorities = load_authorities(&settings).unwrap_or_else(|error| {
            log.error("Authorities of targets not loaded", &[("service", &name), ("error", &chain(&error))]);
            Some(Arc::new(TargetAuthorities::none(&settings.target_tls.clone().unwrap_or_default())))
        });
        let before = former.service(&name);
        let past =
            Past { rules: before.and_then(|before| before.rules.as_ref()), memory: memories.get(&name) };
        let (rules, error) = Rules::of(&settings, past);
        if let Some(error) = error {
            log.error("Nobody is let in", &[("service", &name), ("error", &chain(&error))]);
        }
        let service = Arc::new(Service {
            name: name.clone(),
            settings,
            generation,
            standby: None,
            canary,
            gate,
            gate_moved,
            pages,
            certificate: encryption.certificate,
            client_auth: encryption.client_auth,
            target_authorities,
            rules,
            counts: metrics.map(|metrics| metrics.service(name.as_str())),
        });
        services.push(service);
    }
    (Table::new(services), ledger)
}

//! The earlier process serves what it still has by the state of the one that took over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use freehold_wire::{HealthState, ServiceSnapshot};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::unix::OwnedReadHalf;

use super::message::{FromLater, listen_text};
use crate::control::{Control, chain};
use crate::log::Level;
use crate::state::State;

/// Follows what the new process tells, until it has left or one of the two ends.
pub(super) async fn follow(control: Arc<Control>, mut reader: OwnedReadHalf) {
    let mut unhealthy = BTreeSet::new();
    while let Ok(text) = listen_text(&mut reader).await {
        match serde_json::from_slice(&text) {
            Ok(FromLater::Health(told)) => unhealthy = told,
            Ok(FromLater::Changed(state)) => control.follow(*state, &unhealthy),
            Ok(FromLater::Bye) => {
                if let Some(departure) = control.departure.get() {
                    departure.has_left.store(true, Ordering::SeqCst);
                }
                return;
            }
            Ok(FromLater::Ready { .. } | FromLater::Failed { .. }) => {}
            Err(error) => {
                let state = understand(&text, &control.state_now());
                let is_followed = state.is_some();
                control.log.line(
                    Level::Warn,
                    "What the new process tells is not understood as a whole",
                    &[("error", &chain(&error)), ("followed", &is_followed)],
                );
                if let Some(state) = state {
                    control.follow(state, &unhealthy);
                }
            }
        }
    }
}

/// Reads what can be understood of a state that a later version has written. A service that is not is taken as it is known
/// here, with the targets and the gate of now.
fn understand(text: &[u8], known: &State) -> Option<State> {
    let message: Value = serde_json::from_slice(text).ok()?;
    let state = message.get("changed")?;
    let services = state.get("services")?.as_array()?.iter().filter_map(|service| {
        if let Some(whole) = part::<ServiceSnapshot>(Some(service)) {
            return Some(whole);
        }
        let name = service.get("name")?.as_str()?;
        let before = known.services.iter().find(|before| before.name.as_str() == name)?;
        Some(as_of_now(service, before).unwrap_or_else(|| before.clone()))
    });
    let generation = part(state.get("generation"))?;
    let fences = part(state.get("fences")).unwrap_or_else(|| known.fences.clone());
    Some(State::new(generation, fences, services.collect()))
}

/// Returns a service as it is known with the targets and the gate of now, if those can be understood.
fn as_of_now(service: &Value, before: &ServiceSnapshot) -> Option<ServiceSnapshot> {
    let mut now = before.clone();
    let absent = Value::Array(Vec::new());
    now.targets = part(service.get("targets"))?;
    now.read_targets = part(Some(service.get("read_targets").unwrap_or(&absent)))?;
    now.generation = part(service.get("generation"))?;
    // What no gate is told of is open.
    now.gate = match service.get("gate") {
        None => freehold_wire::Gate::Open,
        gate => part(gate)?,
    };
    Some(now)
}

fn part<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    T::deserialize(value?).ok()
}

impl Control {
    /// Returns the addresses of the targets that get no requests now.
    pub(crate) fn unhealthy(&self) -> BTreeSet<String> {
        let (_, table) = self.shared.load();
        let targets = table.services().flat_map(|service| service.targets());
        let unhealthy = targets.filter(|target| target.health() != HealthState::Healthy);
        unhealthy.map(|target| target.address.to_string()).collect()
    }

    /// Serves by the state that another process has stored. Targets that are known here are as healthy as they are here, and
    /// others as that process says.
    fn follow(&self, state: State, told: &BTreeSet<String>) {
        let (_, before) = self.shared.load();
        let known = before.services().flat_map(|service| service.targets());
        let known: BTreeSet<String> = known.map(|target| target.address.to_string()).collect();
        let told = told.iter().filter(|address| !known.contains(*address)).cloned();
        let (table, fresh) = self.restored(state, &self.unhealthy().into_iter().chain(told).collect());
        let mut ledger = self.ledger.lock();
        self.changed.send_replace(Some(Arc::new(State::new(
            fresh.generation,
            fresh.fences.clone(),
            table.services().map(|service| service.snapshot()).collect(),
        ))));
        self.install(table);
        for service in before.services() {
            for generation in service.generations() {
                generation.retire();
                ledger.keep_draining(&service.name, generation);
            }
            service.gate_moved.notify_waiters();
        }
        ledger.take_checks(fresh);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freehold_wire::Gate;

    use super::*;

    fn known() -> State {
        let service = |name: &str| {
            let text = format!(
                r#"{{"name":"{name}","targets":["{name}:3000"],"settings":{{"hosts":["{name}.example.com"]}},"generation":3,
                "gate":{{"state":"paused","max_pause_ms":1000}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        State::new(3, BTreeMap::new(), vec![service("blog"), service("shop")])
    }

    #[test]
    fn what_a_later_version_adds_does_not_end_the_following() {
        let mut message = serde_json::to_value(FromLater::Changed(Box::new(known()))).unwrap();
        let state = &mut message["changed"];
        state["news"] = Value::Bool(true);
        state["generation"] = 9.into();
        let shop = &mut state["services"][1];
        shop["settings"]["charm"] = Value::Bool(true);
        shop["targets"] = serde_json::json!(["shop-2:3000"]);
        shop.as_object_mut().unwrap().remove("gate");
        let text = serde_json::to_vec(&message).unwrap();
        assert!(serde_json::from_slice::<FromLater>(&text).is_err());
        let state = understand(&text, &known()).unwrap();
        assert_eq!((state.generation, state.services.len()), (9, 2));
        assert_eq!(state.services[0], known().services[0]);
        assert_eq!(state.services[1].targets[0].to_string(), "shop-2:3000");
        assert_eq!(
            (&state.services[1].gate, &state.services[1].settings),
            (&Gate::Open, &known().services[1].settings)
        );
        message["changed"]["services"][1]["gate"] = serde_json::json!({"state": "ajar"});
        let text = serde_json::to_vec(&message).unwrap();
        assert_eq!(understand(&text, &known()).unwrap().services[1], known().services[1]);
        for text in ["{", "{}", r#""bye_bye""#, r#"{"changed":{"services":1}}"#] {
            assert_eq!(understand(text.as_bytes(), &known()), None, "{text}");
        }
    }
}

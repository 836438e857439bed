//! The state that a proxy starts with: its own, or what kamal-proxy stored in its place.

use freehold_wire::KamalService;

use crate::control::chain;
use crate::log::Log;
use crate::state::{Damage, Loaded, State, StateError, StateFile};

/// Loads the state. A damaged file is reported and set aside; only one that may not be touched is a reason not to start.
pub(super) fn load(file: &StateFile, log: &Log) -> Result<Option<State>, StateError> {
    let own = load_own(file, log)?;
    match file.load_kamal() {
        Ok(None) => Ok(own),
        Ok(Some(services)) => {
            let state = carry_over(own, &services, log);
            if state.services.len() < services.len() {
                keep_kamal(file, log);
            }
            Ok(Some(state))
        }
        Err(error) => {
            log.error("The state of kamal-proxy is not carried over", &[("error", &chain(&error))]);
            keep_kamal(file, log);
            Ok(own)
        }
    }
}

fn keep_kamal(file: &StateFile, log: &Log) {
    match file.keep_kamal() {
        Ok(path) => log.info("Kept a copy of the state of kamal-proxy", &[("path", &path.display())]),
        Err(error) => log.error("No copy of the state of kamal-proxy kept", &[("error", &chain(&error))]),
    }
}

/// Takes over what kamal-proxy served in our place. Our fencing numbers stay.
fn carry_over(own: Option<State>, services: &[KamalService], log: &Log) -> State {
    let (generation, fences) = own.map(|own| (own.generation, own.fences)).unwrap_or_default();
    let generation = generation + 1;
    let mut carried = Vec::new();
    for service in services {
        match service.snapshot(generation) {
            Ok(snapshot) => carried.push(snapshot),
            Err(error) => {
                let error = chain(&error);
                log.error(
                    "Service of kamal-proxy not carried over",
                    &[("service", &service.name), ("error", &error)],
                );
            }
        }
    }
    log.info("Carried over the state of kamal-proxy", &[("services", &carried.len())]);
    State::new(generation, fences, carried)
}

fn load_own(file: &StateFile, log: &Log) -> Result<Option<State>, StateError> {
    match file.load() {
        Ok(Some(Loaded { state, damage })) => {
            if let Some(Damage { lost, aside }) = damage {
                let (lost, path) = (lost.join(","), aside.display());
                log.error("The saved state is damaged", &[("lost_services", &lost), ("kept", &path)]);
            }
            log.info("Restored saved state", &[("services", &state.services.len())]);
            Ok(Some(state))
        }
        Ok(None) => {
            log.info("No previous state to restore", &[]);
            Ok(None)
        }
        Err(error @ (StateError::Damaged { .. } | StateError::Format { .. })) => {
            log.error("Failed to decode saved state", &[("error", &chain(&error))]);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

//! The state that a proxy starts with: its own, or what kamal-proxy stored in its place.

use std::collections::BTreeMap;

use freehold_wire::KamalService;

use crate::control::chain;
use crate::log::Log;
use crate::state::{Damage, Loaded, State, StateError, StateFile};

/// Loads the state. A damaged file is reported, kept aside and put right; only one that may not be touched is a reason not to
/// start.
pub(super) fn load(file: &StateFile, log: &Log) -> Result<Option<State>, StateError> {
    let (own, loss) = load_own(file, log)?;
    // Ours is not put right before: it would be the newer one.
    let theirs = file.load_kamal();
    if let (Some(own), Loss::Some(_)) = (&own, &loss)
        && let Err(error) = file.repair(own)
    {
        log.error("The saved state is not put right", &[("error", &chain(&error))]);
    }
    match theirs {
        Ok(None) => Ok(own),
        Ok(Some(services)) => {
            let mut state = carry_over(own, &services, log);
            if withhold(&mut state, file, &loss, log)
                && let Err(error) = file.repair(&state)
            {
                log.error("The state is not stored", &[("error", &chain(&error))]);
            }
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

/// What is not known any more of our own state.
#[derive(Debug, PartialEq, Eq)]
enum Loss {
    None,
    /// There was no file: a new volume, kamal-proxy's, or one that somebody has taken the file out of.
    Absent,
    /// These services, by name or by what is known of them.
    Some(Vec<String>),
    All,
}

/// Lets nobody in where a service had rules, or may have had some, that are lost: it is not to be open to everybody because
/// kamal-proxy's file has no word for who may come. Says whether there is such a service.
fn withhold(state: &mut State, file: &StateFile, loss: &Loss, log: &Log) -> bool {
    let (guarded, mut is_any) = (file.guarded(), false);
    for service in &mut state.services {
        let name = service.name.as_str();
        let is_lost = match loss {
            Loss::None => false,
            // Without such a file there never was a state of ours.
            Loss::Absent => guarded.is_some(),
            Loss::Some(lost) => lost.iter().any(|lost| lost == name),
            Loss::All => true,
        };
        if !is_lost || guarded.as_ref().is_some_and(|guarded| !guarded.may_be(name)) {
            continue;
        }
        let path = file.lost_rules().unwrap_or_else(|error| {
            log.error("No file stands for rules that are lost", &[("error", &error)]);
            // One that is not there lets nobody in either.
            "/nonexistent/freehold-proxy.rules-lost".into()
        });
        let message = "Service not served until it is deployed again: its rules are lost";
        log.error(message, &[("service", &name)]);
        service.settings.basic_auth_file = Some(path.display().to_string());
        is_any = true;
    }
    is_any
}

fn keep_kamal(file: &StateFile, log: &Log) {
    match file.keep_kamal() {
        Ok(path) => log.info("Kept a copy of the state of kamal-proxy", &[("path", &path.display())]),
        Err(error) => log.error("No copy of the state of kamal-proxy kept", &[("error", &chain(&error))]),
    }
}

/// Takes over what kamal-proxy served in our place. Our fencing numbers stay, and so does what it cannot say: a service that was
/// ours before is not to be open to everybody because its file has no word for who may come.
fn carry_over(own: Option<State>, services: &[KamalService], log: &Log) -> State {
    let own = own.unwrap_or_else(|| State::new(0, BTreeMap::new(), Vec::new()));
    let (generation, fences) = (own.generation + 1, own.fences);
    let mut carried = Vec::new();
    for service in services {
        match service.snapshot(generation) {
            Ok(mut snapshot) => {
                let ours = own.services.iter().find(|ours| ours.name == snapshot.name);
                match ours {
                    Some(ours) if KamalService::of(ours) == *service => snapshot = ours.clone(),
                    Some(ours) => snapshot.settings.keep_what_kamal_cannot_say(&ours.settings),
                    None => {}
                }
                carried.push(snapshot);
            }
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

fn load_own(file: &StateFile, log: &Log) -> Result<(Option<State>, Loss), StateError> {
    match file.load() {
        Ok(Some(Loaded { state, damage })) => {
            let loss = match damage {
                None => Loss::None,
                Some(Damage { lost, aside }) => {
                    let (names, path) = (lost.join(","), aside.display());
                    log.error("The saved state is damaged", &[("lost_services", &names), ("kept", &path)]);
                    Loss::Some(lost)
                }
            };
            log.info("Restored saved state", &[("services", &state.services.len())]);
            Ok((Some(state), loss))
        }
        Ok(None) => {
            log.info("No previous state to restore", &[]);
            Ok((None, Loss::Absent))
        }
        Err(error @ (StateError::Damaged { .. } | StateError::Format { .. })) => {
            log.error("Failed to decode saved state", &[("error", &chain(&error))]);
            Ok((None, Loss::All))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use freehold_model::ProxyServiceName;
    use freehold_wire::{Gate, ServiceSettings, ServiceSnapshot, TargetAddress};

    use super::*;

    fn state() -> State {
        let mut settings = ServiceSettings {
            basic_auth_file: Some("/users".to_owned()),
            traffic: Some(Box::default()),
            ..ServiceSettings::default()
        };
        settings.health_check.path = "/health".to_owned();
        let service = ServiceSnapshot {
            name: ProxyServiceName::parse("shop").unwrap(),
            targets: vec![TargetAddress::parse("web-1:3000").unwrap()],
            read_targets: Vec::new(),
            settings,
            generation: 3,
            gate: Gate::Open,
            canary: None,
        };
        State::new(3, BTreeMap::new(), vec![service])
    }

    #[test]
    fn what_kamal_proxy_has_no_words_for_stays() {
        let (own, (log, _writer)) = (state(), Log::start(Box::new(std::io::sink()), false).unwrap());
        let unchanged = KamalService::of(&own.services[0]);
        let carried = carry_over(Some(own.clone()), std::slice::from_ref(&unchanged), &log);
        assert_eq!(carried.services, own.services);

        let mut theirs = own.services[0].clone();
        theirs.targets = vec![TargetAddress::parse("web-2:3000").unwrap()];
        let carried = carry_over(Some(own.clone()), &[KamalService::of(&theirs)], &log);
        assert_eq!(carried.services[0].targets, theirs.targets);
        assert_eq!(carried.services[0].settings.basic_auth_file, own.services[0].settings.basic_auth_file);
        assert_eq!(carried.services[0].settings.traffic, own.services[0].settings.traffic);

        let new = carry_over(None, &[unchanged], &log);
        assert_eq!(new.services[0].settings.basic_auth_file, None, "where nothing of ours is known");
    }
}

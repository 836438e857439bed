//! The control API and the state file.

use freehold_wire::{
    CanaryRequest, ConfirmRequest, DeployRequest, DrainRequest, ErrorReply, GateRequest, ProbeRequest,
    ServiceSnapshot, SplitRequest, UpgradeRequest, read_kamal_state, write_kamal_state,
};

use crate::control::bounds;
use crate::state::{State, rebuild, written};

/// Any body for any request of the control API: it is read and checked, and a deploy that is accepted can be stored and read
/// again.
pub fn control_api(body: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<DeployRequest>(body)
        && bounds::deploy(&request).is_ok()
    {
        store(request);
    }
    check(body, bounds::canary as fn(&CanaryRequest) -> _);
    check(body, bounds::split as fn(&SplitRequest) -> _);
    check(body, bounds::gate as fn(&GateRequest) -> _);
    check(body, bounds::confirm as fn(&ConfirmRequest) -> _);
    check(body, bounds::probe as fn(&ProbeRequest) -> _);
    check(body, bounds::upgrade as fn(&UpgradeRequest) -> _);
    drop(serde_json::from_slice::<DrainRequest>(body));
}

/// Reads a body and checks it: whatever is wrong with it is an error and nothing else.
fn check<T: serde::de::DeserializeOwned>(body: &[u8], bounds: fn(&T) -> Result<(), ErrorReply>) {
    if let Ok(request) = serde_json::from_slice::<T>(body) {
        drop(bounds(&request));
    }
}

fn store(request: DeployRequest) {
    let Ok(name) = freehold_model::ProxyServiceName::parse("fuzzed") else { return };
    let service = ServiceSnapshot {
        name,
        targets: request.targets,
        read_targets: request.read_targets,
        settings: request.settings,
        generation: 1,
        gate: freehold_wire::Gate::Open,
        canary: None,
    };
    let state = State::new(1, std::collections::BTreeMap::new(), vec![service]);
    let Ok((file, copy)) = written(&state) else { return };
    // Cut anywhere, the file is put together from its copy.
    let half = file.get(..file.len() / 2).unwrap_or_default();
    assert_eq!(rebuild(half, &copy).map(|salvaged| salvaged.state), Some(state.clone()));
    let kamal = write_kamal_state(&state.services).and_then(|text| read_kamal_state(&text));
    assert!(kamal.is_ok(), "what is written for kamal-proxy can be read");
}

/// Any file of a state, and behind the first zero any copy of it: what is left of them is a state that can be stored.
pub fn state_file(text: &[u8]) {
    let (file, copy) = match text.iter().position(|byte| *byte == 0) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    drop(read_kamal_state(file));
    let Some(salvaged) = rebuild(file, copy) else { return };
    let Ok((file, copy)) = written(&salvaged.state) else { return };
    let again = rebuild(&file, &copy);
    assert_eq!(again.map(|again| (again.state, again.lost.len())), Some((salvaged.state, 0)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEPLOY: &[u8] = include_bytes!("../../../../fuzz/corpus/control_api/deploy");
    const STATE: &[u8] = include_bytes!("../../../../fuzz/corpus/state_file/whole");

    fn changed(text: &[u8], places: &[(usize, u8)]) -> Vec<u8> {
        let mut text = text.to_vec();
        for (at, byte) in places {
            let at = at % text.len();
            text[at] = *byte;
        }
        text
    }

    proptest! {
        #[test]
        fn changed_bodies_and_files_break_nothing(
            places in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
            cut in any::<usize>(),
        ) {
            let (body, file) = (changed(DEPLOY, &places), changed(STATE, &places));
            control_api(&body);
            control_api(&body[..cut % body.len()]);
            state_file(&file);
            state_file(&file[..cut % file.len()]);
        }
    }

    #[test]
    fn what_the_targets_begin_with_reaches_their_depth() {
        assert!(
            serde_json::from_slice::<DeployRequest>(DEPLOY)
                .is_ok_and(|request| bounds::deploy(&request).is_ok())
        );
        assert_eq!(rebuild(STATE, b"").unwrap().state.services.len(), 1);
    }
}

//! The control API and the state file.

use freehold_wire::{
    CanaryRequest, ConfirmRequest, DeployRequest, DrainRequest, GateRequest, ProbeRequest, ServiceSnapshot,
    SplitRequest, UpgradeRequest, read_kamal_state, write_kamal_state,
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
    serde_json::from_slice::<CanaryRequest>(body).is_ok_and(|request| bounds::canary(&request).is_ok());
    serde_json::from_slice::<SplitRequest>(body).is_ok_and(|request| bounds::split(&request).is_ok());
    serde_json::from_slice::<GateRequest>(body).is_ok_and(|request| bounds::gate(&request).is_ok());
    serde_json::from_slice::<ConfirmRequest>(body).is_ok_and(|request| bounds::confirm(&request).is_ok());
    serde_json::from_slice::<ProbeRequest>(body).is_ok_and(|request| bounds::probe(&request).is_ok());
    serde_json::from_slice::<UpgradeRequest>(body).is_ok_and(|request| bounds::upgrade(&request).is_ok());
    drop(serde_json::from_slice::<DrainRequest>(body));
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
    let kamal = write_kamal_state(&state.services).and_then(|text| Ok(read_kamal_state(&text)?));
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

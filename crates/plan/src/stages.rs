use freehold_model::HostName;

use crate::plan::{Action, Lane, OnFailure, Stage, StageKind, Step, StepId, Undo};

/// Collects the steps of a plan and numbers them; empty stages vanish.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
    /// What the lanes of the last stage are told apart by, beside their host.
    lanes: Vec<String>,
    last: u32,
}

impl Stages {
    pub(crate) fn begin(&mut self, kind: StageKind, on_failure: OnFailure) {
        self.stages.push(Stage { kind, on_failure, lanes: Vec::new() });
        self.lanes.clear();
    }

    pub(crate) fn step(&mut self, host: &HostName, action: Action, undo: Undo) {
        self.step_beside(host, "", action, undo);
    }

    /// Adds a step to a lane of the host beside its others.
    pub(crate) fn step_beside(&mut self, host: &HostName, lane: &str, action: Action, undo: Undo) {
        let Some(stage) = self.stages.last_mut() else { return };
        self.last += 1;
        let step = Step { id: StepId(self.last), host: host.clone(), action, undo };
        let mut known = stage.lanes.iter_mut().zip(&self.lanes);
        match known.find(|(known, name)| known.host == *host && *name == lane) {
            Some((lane, _)) => lane.steps.push(step),
            None => {
                stage.lanes.push(Lane { host: host.clone(), steps: vec![step] });
                self.lanes.push(lane.to_owned());
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<Stage> {
        self.stages.into_iter().filter(|stage| !stage.lanes.is_empty()).collect()
    }
}

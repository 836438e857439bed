use freehold_model::HostName;

use crate::plan::{Action, Lane, OnFailure, Stage, StageKind, Step, StepId, Undo};

/// Collects the steps of a plan and numbers them; empty stages vanish.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
    last: u32,
}

impl Stages {
    pub(crate) fn begin(&mut self, kind: StageKind, on_failure: OnFailure) {
        self.stages.push(Stage { kind, on_failure, lanes: Vec::new() });
    }

    pub(crate) fn step(&mut self, host: &HostName, action: Action, undo: Undo) {
        let Some(stage) = self.stages.last_mut() else { return };
        self.last += 1;
        let step = Step { id: StepId(self.last), host: host.clone(), action, undo };
        match stage.lanes.iter_mut().find(|lane| lane.host == *host) {
            Some(lane) => lane.steps.push(step),
            None => stage.lanes.push(Lane { host: host.clone(), steps: vec![step] }),
        }
    }

    pub(crate) fn finish(self) -> Vec<Stage> {
        self.stages.into_iter().filter(|stage| !stage.lanes.is_empty()).collect()
    }
}

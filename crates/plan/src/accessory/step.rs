use freehold_model::Accessory;

use super::{Planner, tagged};
use crate::plan::{Action, OnFailure, StageKind, Undo};
use crate::request::ImageAge;
use crate::stages::Stages;

/// One step of what becomes of an accessory, which Kamal has commands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessoryStep {
    /// Its files are written.
    Upload,
    /// Its directories are made.
    Directories,
    /// Its image is pulled.
    PullImage,
    /// Its container is removed, unless it runs.
    RemoveContainer,
    /// Its image is removed.
    RemoveImage,
    /// Its folder is removed, with all data in it.
    RemoveServiceDirectory,
}

impl Planner<'_> {
    /// Plans one step alone.
    pub(super) fn only(&self, step: AccessoryStep, stages: &mut Stages) {
        stages.begin(StageKind::Retire, OnFailure::GoOn);
        for (accessory, host, seen) in self.places() {
            let (files, directories) = self.placed(accessory);
            let place = |files, directories| Action::PlaceFiles {
                subject: (&accessory.name).into(),
                files,
                directories,
            };
            let action = match step {
                AccessoryStep::Upload if !files.is_empty() => Some(place(files, Vec::new())),
                AccessoryStep::Directories if !directories.is_empty() => Some(place(Vec::new(), directories)),
                AccessoryStep::Upload | AccessoryStep::Directories => None,
                AccessoryStep::PullImage => Some(pull(accessory)),
                AccessoryStep::RemoveContainer => seen
                    .filter(|seen| !seen.state.is_running())
                    .map(|seen| Action::RemoveContainer { container: seen.name.clone() }),
                AccessoryStep::RemoveImage => tagged(accessory).map(|image| Action::RemoveImage { image }),
                AccessoryStep::RemoveServiceDirectory => {
                    Some(Action::RemoveDirectories { directories: vec![accessory.container.to_string()] })
                }
            };
            if let Some(action) = action {
                stages.step(host, action, Undo::Impossible);
            }
        }
    }
}

fn pull(accessory: &Accessory) -> Action {
    Action::PullAccessoryImage {
        accessory: accessory.name.clone(),
        image: accessory.image.clone(),
        age: ImageAge::Newest,
    }
}

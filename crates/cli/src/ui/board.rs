use std::collections::BTreeMap;
use std::time::Duration;

use freehold_fleet::{Event, Progress, StepOutcome};
use freehold_model::HostName;
use freehold_plan::{Plan, PlanKind, StageKind, StepId};

/// What goes on, gathered from events: one group of rows at a time, a row for each host.
///
/// It knows nothing of terminals; the live picture is drawn from it.
#[derive(Debug, Default)]
pub(crate) struct Board {
    plan: Option<Box<Plan>>,
    group: Option<Group>,
    /// How many stages of each name were begun, to number the batches of a rollout.
    stages_begun: usize,
}

/// Rows that belong together: a stage, connecting, a hook.
#[derive(Debug)]
pub(crate) struct Group {
    /// One word: `connect`, `boot`, `hook`.
    pub(crate) name: &'static str,
    /// What it is about, if not its hosts.
    pub(crate) title: Option<String>,
    pub(crate) since: Duration,
    pub(crate) rows: Vec<Row>,
    /// All lines of the build or of a hook, shown whole if it fails.
    pub(crate) output: Vec<String>,
}

/// One host in a group.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) label: String,
    /// Steps that the plan has for it; none if there is no plan.
    pub(crate) steps: usize,
    pub(crate) finished: usize,
    pub(crate) changed: usize,
    pub(crate) running: Vec<Running>,
    /// What was worth saying of finished steps.
    pub(crate) notes: Vec<String>,
    /// The title of the last finished step.
    pub(crate) last: Option<String>,
    pub(crate) errors: Vec<String>,
    pub(crate) is_skipped: bool,
    pub(crate) since: Option<Duration>,
    pub(crate) until: Option<Duration>,
}

/// A step that is under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) step: Option<StepId>,
    pub(crate) title: String,
    pub(crate) since: Duration,
    pub(crate) progress: Option<Progress>,
}

/// Something that becomes a line of its own, for good.
#[derive(Debug)]
pub(crate) enum Note {
    /// What the plan is for: `deploy shop 3f2a to 3 hosts`.
    Headline(String),
    /// A group has ended.
    Ended(Box<Group>, Duration),
    /// A person should look.
    Warning(Option<HostName>, String),
    /// Everything is being put back, because of this, unless a row that failed has said it.
    PuttingBack(Option<String>),
    /// A dead client's rollout is finished (true) or undone.
    Recovering(bool),
}

/// How a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Running,
    Done,
    Failed,
    Skipped,
}

impl Row {
    fn new(label: impl Into<String>, steps: usize) -> Self {
        Self {
            label: label.into(),
            steps,
            finished: 0,
            changed: 0,
            running: Vec::new(),
            notes: Vec::new(),
            last: None,
            errors: Vec::new(),
            is_skipped: false,
            since: None,
            until: None,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        if !self.running.is_empty() {
            Standing::Running
        } else if !self.errors.is_empty() {
            Standing::Failed
        } else if self.is_skipped {
            Standing::Skipped
        } else if self.until.is_some() {
            Standing::Done
        } else if self.since.is_some() {
            Standing::Running
        } else {
            Standing::Waiting
        }
    }

    fn start(&mut self, step: Option<StepId>, title: &str, now: Duration) {
        self.since.get_or_insert(now);
        self.running.push(Running { step, title: title.to_owned(), since: now, progress: None });
    }

    fn finish(&mut self, step: Option<StepId>, outcome: &StepOutcome, now: Duration) {
        let position = self.running.iter().position(|running| running.step == step);
        let title = position.map(|position| self.running.remove(position).title);
        self.finished += 1;
        self.last = title.or_else(|| self.last.take());
        match outcome {
            StepOutcome::Done { note } => {
                self.changed += 1;
                self.notes.extend(note.clone());
            }
            StepOutcome::AlreadyDone => {}
            StepOutcome::Failed { error } => self.errors.push(error.clone()),
            StepOutcome::Skipped => self.is_skipped = true,
        }
        if self.finished >= self.steps || !outcome.is_success() {
            self.until = Some(now);
        }
    }
}

impl Group {
    fn new(name: &'static str, now: Duration) -> Self {
        Self { name, title: None, since: now, rows: Vec::new(), output: Vec::new() }
    }

    fn row(&mut self, label: &str) -> &mut Row {
        let position = match self.rows.iter().position(|row| row.label == label) {
            Some(position) => position,
            None => {
                self.rows.push(Row::new(label, 1));
                self.rows.len() - 1
            }
        };
        // The position was just found or made.
        #[expect(clippy::indexing_slicing, reason = "the position was just found or made")]
        &mut self.rows[position]
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| !row.errors.is_empty())
    }

    fn is_finished(&self) -> bool {
        self.rows.iter().all(|row| row.running.is_empty() && row.until.is_some())
    }
}

impl Board {
    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Takes an event and returns what became final by it, in order.
    pub(crate) fn apply(&mut self, event: &Event, now: Duration) -> Vec<Note> {
        let mut notes = Vec::new();
        match event {
            Event::Connecting { host } => {
                self.enter("connect", now, &mut notes).row(host.as_str()).start(None, "connecting", now);
            }
            Event::Connected { host, authentication, .. } => {
                let outcome = StepOutcome::Done { note: None };
                let row = self.enter("connect", now, &mut notes).row(host.as_str());
                row.finish(None, &outcome, now);
                row.last = Some(format!("connected ({authentication})"));
            }
            Event::WaitingForLock { holder, .. } => {
                let row = self.enter("lock", now, &mut notes).row("lock");
                row.running.clear();
                row.start(None, &format!("waiting for {holder}"), now);
            }
            Event::Locked { .. } => {
                if self.group.as_ref().is_some_and(|group| group.name == "lock") {
                    self.leave(now, &mut notes);
                }
            }
            Event::Recovering { forward, .. } => {
                self.leave(now, &mut notes);
                notes.push(Note::Recovering(*forward));
            }
            Event::Planned { plan } => {
                self.leave(now, &mut notes);
                notes.push(Note::Headline(headline(plan)));
                self.plan = Some(plan.clone());
                self.stages_begun = 0;
            }
            Event::StageStarted { stage } => self.begin_stage(*stage, now, &mut notes),
            Event::StepStarted { host, step, title } => {
                if let Some(group) = &mut self.group {
                    group.row(host.as_str()).start(Some(*step), title, now);
                }
            }
            Event::StepProgress { host, step, progress } => self.progress(host, *step, progress),
            Event::StepFinished { host, step, outcome, .. } => {
                if let Some(group) = &mut self.group {
                    group.row(host.as_str()).finish(Some(*step), outcome, now);
                }
            }
            Event::PuttingBack { cause } => {
                let is_told = self.group.as_ref().is_some_and(Group::has_failed);
                self.leave(now, &mut notes);
                notes.push(Note::PuttingBack((!is_told).then(|| cause.clone())));
                self.group = Some(Group::new("put back", now));
            }
            Event::Undone { host, title, error, .. } => {
                let row = self.enter("put back", now, &mut notes).row(host.as_str());
                let outcome = match error {
                    Some(error) => StepOutcome::Failed { error: error.clone() },
                    None => StepOutcome::Done { note: Some(title.clone()) },
                };
                row.since.get_or_insert(now);
                row.finish(None, &outcome, now);
                row.last = Some(title.clone());
            }
            Event::Warning { host, message } => notes.push(Note::Warning(host.clone(), message.clone())),
        }
        notes
    }

    /// Begins something that this machine does by itself: a hook, a clone.
    pub(crate) fn begin_activity(&mut self, name: &'static str, title: &str, now: Duration) -> Vec<Note> {
        let mut notes = Vec::new();
        self.leave(now, &mut notes);
        let mut group = Group::new(name, now);
        group.title = Some(title.to_owned());
        group.row("").start(None, title, now);
        self.group = Some(group);
        notes
    }

    /// Takes a line that the activity printed.
    pub(crate) fn activity_line(&mut self, line: &str) {
        if let Some(group) = &mut self.group {
            group.output.push(line.to_owned());
        }
    }

    /// Ends the activity.
    pub(crate) fn end_activity(&mut self, outcome: &StepOutcome, now: Duration) -> Vec<Note> {
        let mut notes = Vec::new();
        if let Some(group) = &mut self.group {
            group.row("").finish(None, outcome, now);
        }
        self.leave(now, &mut notes);
        notes
    }

    /// Ends everything: what still runs has failed if the command has.
    pub(crate) fn end(&mut self, now: Duration) -> Vec<Note> {
        let mut notes = Vec::new();
        // A command that only looks shows its result; that it connected before is not worth a line.
        if self.group.as_ref().is_some_and(|group| group.name == "connect" && group.is_finished()) {
            self.group = None;
        }
        self.leave(now, &mut notes);
        notes
    }

    fn begin_stage(&mut self, stage: StageKind, now: Duration, notes: &mut Vec<Note>) {
        self.leave(now, notes);
        let mut group = Group::new(stage_name(stage), now);
        let planned = self.plan.as_ref().and_then(|plan| plan.stages.get(self.stages_begun));
        if let Some(planned) = planned.filter(|planned| planned.kind == stage) {
            let mut rows: BTreeMap<&HostName, usize> = BTreeMap::new();
            for lane in &planned.lanes {
                *rows.entry(&lane.host).or_default() += lane.steps.len();
            }
            let order = self.plan.as_ref().map(|plan| plan.hosts.clone()).unwrap_or_default();
            let known = order.iter().filter_map(|host| rows.get_key_value(host));
            let others = rows.iter().filter(|(host, _)| !order.contains(host));
            group.rows = known.chain(others).map(|(host, steps)| Row::new(host.as_str(), *steps)).collect();
        }
        self.stages_begun += 1;
        self.group = Some(group);
    }

    fn progress(&mut self, host: &HostName, step: StepId, progress: &Progress) {
        let Some(group) = &mut self.group else { return };
        if let Progress::Build { line } | Progress::Output { line } = progress {
            group.output.push(line.clone());
        }
        let row = group.row(host.as_str());
        if let Some(running) = row.running.iter_mut().find(|running| running.step == Some(step)) {
            running.progress = Some(progress.clone());
        }
    }

    /// Makes sure that the group of this name is the present one.
    fn enter(&mut self, name: &'static str, now: Duration, notes: &mut Vec<Note>) -> &mut Group {
        if self.group.as_ref().is_none_or(|group| group.name != name) {
            self.leave(now, notes);
        }
        self.group.get_or_insert_with(|| Group::new(name, now))
    }

    fn leave(&mut self, now: Duration, notes: &mut Vec<Note>) {
        let Some(group) = self.group.take() else { return };
        if group.rows.is_empty() {
            return;
        }
        let until = if group.is_finished() {
            group.rows.iter().filter_map(|row| row.until).max().unwrap_or(now)
        } else {
            now
        };
        notes.push(Note::Ended(Box::new(group), until));
    }
}

/// Returns the word for a stage.
pub(crate) fn stage_name(stage: StageKind) -> &'static str {
    match stage {
        StageKind::Build => "build",
        StageKind::Check => "check",
        StageKind::Prepare => "prepare",
        StageKind::Release => "release",
        StageKind::Boot => "boot",
        StageKind::Commit => "commit",
        StageKind::Soak => "soak",
        StageKind::Retire => "retire",
        StageKind::Wait => "wait",
    }
}

/// Returns what a plan is for in one line.
pub(crate) fn headline(plan: &Plan) -> String {
    let verb = match plan.kind {
        PlanKind::Deploy => "deploy",
        PlanKind::Rollback => "roll back",
        PlanKind::Start => "start",
        PlanKind::Stop => "stop",
        PlanKind::Prune => "prune",
        PlanKind::Remove => "remove",
        PlanKind::Accessory => "accessories of",
        PlanKind::Maintenance => "maintenance of",
        PlanKind::Live => "live again:",
        PlanKind::Proxy => "proxy of",
        PlanKind::CanaryStart => "try",
        PlanKind::CanaryPromote => "promote",
        PlanKind::CanaryAbort => "give up",
    };
    let service = match &plan.destination {
        Some(destination) => format!("{} ({destination})", plan.service),
        None => plan.service.to_string(),
    };
    let version = match (&plan.version, plan.kind) {
        (Some(version), PlanKind::Rollback) => format!(" to {}", short_version(version.as_str())),
        (Some(version), _) => format!(" {}", short_version(version.as_str())),
        (None, _) => String::new(),
    };
    let hosts = match plan.hosts.as_slice() {
        [one] => one.to_string(),
        many => super::amount::counted_items(many.len(), "host"),
    };
    format!("{verb} {service}{version} on {hosts}")
}

/// Shortens every git revision in a text, such as in the name of a container.
pub(crate) fn short_revisions(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut run = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() {
            run.push(character);
            continue;
        }
        shown.push_str(short_version(&run));
        run.clear();
        shown.push(character);
    }
    shown.pop();
    shown
}

/// Shortens a version as Kamal does: 7 characters of a git revision, others whole.
pub(crate) fn short_version(version: &str) -> &str {
    let is_revision = version.len() == 40 && version.chars().all(|c| c.is_ascii_hexdigit());
    if is_revision { version.get(..7).unwrap_or(version) } else { version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_short_wherever_they_stand() {
        let revision = "3f2a9c1d3f2a9c1d3f2a9c1d3f2a9c1d3f2a9c1d";
        assert_eq!(
            short_revisions(&format!("rename app-{revision} to app-{revision}_replaced_f00d")),
            "rename app-3f2a9c1 to app-3f2a9c1_replaced_f00d"
        );
        assert_eq!(short_revisions("deadbeef and v1.2"), "deadbeef and v1.2");
        assert_eq!(short_revisions(revision), "3f2a9c1");
        assert_eq!(short_version(&format!("{revision}0")), format!("{revision}0"));
    }
}

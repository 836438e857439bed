use std::collections::BTreeSet;

use async_trait::async_trait;
use freehold_model::{ContainerName, Overlap, ScheduleState};
use freehold_wire::agent::{ScheduledContainer, StoreRequest, SwitchRequest};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::*;
use crate::book::tests::{job, release, set, time};
use crate::containers::{
    ContainerError, FoundContainer, JOB_LABEL, RELEASE_LABEL, RUN_LABEL, SCHEDULE_LABEL, Standing,
};

/// The time of the runtime's own clock, from a moment on.
struct TestClock {
    start: Timestamp,
    began: Instant,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.start.checked_add(self.began.elapsed()).unwrap()
    }
}

/// Containers in memory: they run until a test ends them, or until they are stopped.
#[derive(Default)]
struct FakeContainers {
    all: Mutex<BTreeMap<String, Fake>>,
    changed: Notify,
    /// Names that cannot be made.
    refused: Mutex<BTreeSet<String>>,
    stopped: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Fake {
    labels: BTreeMap<String, String>,
    standing: Standing,
}

impl FakeContainers {
    fn end(&self, name: &str, code: i64) {
        self.all.lock().get_mut(name).unwrap().standing = Standing::Ended(code);
        self.changed.notify_waiters();
    }

    fn names(&self) -> Vec<String> {
        self.all.lock().keys().cloned().collect()
    }

    fn put(&self, name: &str, run: u64, standing: Standing) {
        let labels = [
            (SCHEDULE_LABEL, "app-web".to_owned()),
            (JOB_LABEL, "tidy".to_owned()),
            (RELEASE_LABEL, release(1).to_string()),
            (RUN_LABEL, run.to_string()),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value)).into();
        self.all.lock().insert(name.to_owned(), Fake { labels, standing });
    }
}

#[async_trait]
impl Containers for FakeContainers {
    async fn answers(&self) -> Result<(), ContainerError> {
        Ok(())
    }

    async fn make(
        &self,
        name: &ContainerName,
        _container: &ScheduledContainer,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), ContainerError> {
        if self.refused.lock().contains(name.as_str()) {
            return Err(ContainerError("there is no such image".to_owned()));
        }
        self.put(name.as_str(), 0, Standing::Made);
        if let Some(fake) = self.all.lock().get_mut(name.as_str()) {
            fake.labels.extend(labels.clone());
        }
        Ok(())
    }

    async fn start(&self, name: &ContainerName) -> Result<bool, ContainerError> {
        let mut all = self.all.lock();
        let fake = all.get_mut(name.as_str()).unwrap();
        let is_new = fake.standing == Standing::Made;
        if is_new {
            fake.standing = Standing::Runs;
        }
        Ok(is_new)
    }

    async fn look(&self, name: &ContainerName) -> Result<Option<Standing>, ContainerError> {
        Ok(self.all.lock().get(name.as_str()).map(|fake| fake.standing))
    }

    async fn wait(&self, name: &ContainerName) -> Result<i64, ContainerError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.all.lock().get(name.as_str()).map(|fake| fake.standing) {
                Some(Standing::Ended(code)) => return Ok(code),
                Some(_) => {}
                None => return Err(ContainerError("there is no such container".to_owned())),
            }
            changed.await;
        }
    }

    async fn stop(&self, name: &ContainerName) -> Result<(), ContainerError> {
        self.stopped.lock().push(name.to_string());
        self.end(name.as_str(), 143);
        Ok(())
    }

    async fn remove(&self, name: &ContainerName) -> Result<(), ContainerError> {
        self.all.lock().remove(name.as_str());
        self.changed.notify_waiters();
        Ok(())
    }

    async fn follow(&self, name: &ContainerName) -> Result<BoxStream<'static, String>, ContainerError> {
        Ok(futures_util::stream::iter([format!("hello from {name}")]).boxed())
    }

    async fn list(&self) -> Result<Vec<FoundContainer>, ContainerError> {
        let all = self.all.lock();
        let found = all.iter().map(|(name, fake)| FoundContainer {
            name: name.clone(),
            labels: fake.labels.clone(),
            is_alive: fake.standing == Standing::Runs,
        });
        Ok(found.collect())
    }
}

pub(crate) struct Scene {
    pub(crate) agent: Arc<Agent>,
    fakes: Arc<FakeContainers>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) name: ScheduleName,
    began: Instant,
}

impl Scene {
    /// An agent whose job `tidy` runs every minute; it is 08:00:30.
    fn new(overlap: Overlap) -> Self {
        let scene = Self::empty();
        scene.deploy(1, set("* * * * *", overlap));
        scene
    }

    pub(crate) fn empty() -> Self {
        let (folder, fakes) = (tempfile::tempdir().unwrap(), Arc::<FakeContainers>::default());
        let began = Instant::now();
        let agent = agent(folder.path(), &fakes, began);
        Self { agent, fakes, folder, name: ScheduleName::parse("app-web").unwrap(), began }
    }

    fn deploy(&self, number: u8, set: freehold_wire::agent::ScheduleSet) {
        let request = StoreRequest { set, fence: 1 };
        self.agent
            .change(&self.name, IsNew::Allowed, |book, _| book.store(release(number), request))
            .unwrap();
        self.switch(ScheduleState::Active { release: release(number) });
    }

    fn switch(&self, to: ScheduleState) {
        let request = SwitchRequest { to, fence: 1 };
        self.agent.change(&self.name, IsNew::Refused, |book, now| book.switch(&request, now)).unwrap();
    }

    /// Ends the agent and starts another one on the same folder.
    async fn restart(&mut self) {
        self.agent.stopping.cancel();
        self.agent.tasks.close();
        self.agent.tasks.wait().await;
        self.agent = agent(self.folder.path(), &self.fakes, self.began);
        self.agent.recover().await.unwrap();
    }

    fn states(&self) -> Vec<(u64, RunState)> {
        let runs = self.agent.runs(&self.name).unwrap().into_iter();
        let mut states: Vec<(u64, RunState)> = runs.map(|run| (run.run, run.state)).collect();
        states.reverse();
        states
    }

    /// Lets tasks work, and some time pass.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn agent(folder: &std::path::Path, fakes: &Arc<FakeContainers>, began: Instant) -> Arc<Agent> {
    let containers: Arc<dyn Containers> = Arc::<FakeContainers>::clone(fakes);
    let clock = Arc::new(TestClock { start: time("2026-11-30T08:00:30Z"), began });
    Agent::new(containers, clock, Store::in_folder(folder).unwrap(), CancellationToken::new()).unwrap()
}

const OK: RunState = RunState::Ended { exit_code: 0 };

fn container(run: u64) -> String {
    format!("app-cron-tidy-run-{run}")
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_when_it_is_due_and_its_end_is_remembered() {
    let scene = Scene::new(Overlap::Skip);
    let keeper = Arc::clone(&scene.agent);
    let work = async {
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(scene.states(), []);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.states(), [(1, RunState::Running)]);
        assert_eq!(scene.fakes.names(), [container(1)]);
        scene.fakes.end(&container(1), 3);
        scene.settle().await;
        assert_eq!(scene.states(), [(1, RunState::Ended { exit_code: 3 })]);
        assert_eq!(scene.fakes.names(), [""; 0], "its container is removed");
        let run = scene.agent.runs(&scene.name).unwrap().remove(0);
        assert_eq!(run.due_at, time("2026-11-30T08:01:00Z"));
        assert_eq!(run.last_lines, [format!("hello from {}", container(1))]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(scene.states().len(), 2);
        scene.switch(ScheduleState::Paused { release: release(1) });
        scene.fakes.end(&container(2), 0);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(scene.states().len(), 2, "nothing begins during a pause");
        scene.agent.stopping.cancel();
    };
    tokio::join!(keeper.keep_time(), work);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_stopped() {
    let scene = Scene::empty();
    let mut limited = set("@daily", Overlap::Skip);
    limited.jobs[0].timeout_ms = Some(5_000);
    scene.deploy(1, limited);
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(scene.states(), [(1, RunState::Running)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.states(), [(1, RunState::TimedOut)]);
    assert_eq!(*scene.fakes.stopped.lock(), [container(1)]);
    assert_eq!(scene.fakes.names(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_run_never_begins_and_a_queued_one_begins_after_the_other() {
    for (overlap, second) in [(Overlap::Skip, RunState::Skipped), (Overlap::Queue, RunState::Waiting)] {
        let scene = Scene::new(overlap);
        for _ in 0..2 {
            scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
            scene.settle().await;
        }
        assert_eq!(scene.states(), [(1, RunState::Running), (2, second.clone())]);
        scene.fakes.end(&container(1), 0);
        scene.settle().await;
        let second = if second == RunState::Waiting { RunState::Running } else { second };
        assert_eq!(scene.states(), [(1, OK), (2, second)], "{overlap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_run_waits_for_the_end_of_a_pause_and_goes_with_the_jobs() {
    let scene = Scene::new(Overlap::Queue);
    for _ in 0..2 {
        scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    }
    scene.settle().await;
    scene.switch(ScheduleState::Paused { release: release(1) });
    scene.fakes.end(&container(1), 0);
    scene.settle().await;
    assert_eq!(scene.states(), [(1, OK), (2, RunState::Waiting)]);
    scene.switch(ScheduleState::Active { release: release(1) });
    scene.settle().await;
    assert_eq!(scene.states(), [(1, OK), (2, RunState::Running)]);
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.switch(ScheduleState::Off);
    scene.fakes.end(&container(2), 0);
    scene.settle().await;
    assert_eq!(scene.states(), [(1, OK), (2, OK), (3, RunState::Removed)]);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_run_is_stopped_before_the_next_begins() {
    let scene = Scene::new(Overlap::Replace);
    for _ in 0..3 {
        scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    }
    scene.settle().await;
    let expected = [(1, RunState::Replaced), (2, RunState::Replaced), (3, RunState::Running)];
    assert_eq!(scene.states(), expected);
    assert_eq!(scene.fakes.names(), [container(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_start_says_why() {
    let scene = Scene::new(Overlap::Skip);
    scene.fakes.refused.lock().insert(container(1));
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.settle().await;
    let cause = "there is no such image".to_owned();
    assert_eq!(scene.states(), [(1, RunState::NotStarted { cause })]);
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.settle().await;
    assert_eq!(scene.states()[1], (2, RunState::Running), "the next one is not held up");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_runs_go_on_at_a_time() {
    let scene = Scene::empty();
    let mut many = set("@daily", Overlap::Skip);
    let one = many.jobs.remove(0);
    for number in 0..MOST_RUNS + 2 {
        let mut other = one.clone();
        other.name = job(&format!("job{number}"));
        other.container_prefix = format!("app-cron-job{number}-run");
        many.jobs.push(other);
    }
    let names: Vec<JobName> = many.jobs.iter().map(|job| job.name.clone()).collect();
    scene.deploy(1, many);
    for name in &names {
        scene.agent.run_now(&scene.name, name).unwrap();
    }
    scene.settle().await;
    assert_eq!(scene.fakes.names().len(), MOST_RUNS);
    let first = scene.fakes.names().remove(0);
    scene.fakes.end(&first, 0);
    scene.settle().await;
    assert_eq!(scene.fakes.names().len(), MOST_RUNS);
    assert!(!scene.fakes.names().contains(&first));
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_without_the_agent_and_are_found_again() {
    let mut scene = Scene::new(Overlap::Queue);
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.settle().await;
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.restart().await;
    scene.settle().await;
    assert_eq!(scene.states(), [(1, RunState::Running), (2, RunState::Waiting)]);
    scene.fakes.end(&container(1), 0);
    scene.settle().await;
    assert_eq!(scene.states(), [(1, OK), (2, RunState::Running)]);

    // It ends while the agent is away.
    scene.agent.stopping.cancel();
    scene.settle().await;
    scene.fakes.end(&container(2), 7);
    scene.restart().await;
    scene.settle().await;
    assert_eq!(scene.states()[1], (2, RunState::Ended { exit_code: 7 }));
    assert_eq!(scene.fakes.names(), [""; 0]);

    // Its container goes while the agent is away.
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.settle().await;
    scene.agent.stopping.cancel();
    scene.settle().await;
    scene.fakes.all.lock().clear();
    scene.restart().await;
    assert!(matches!(scene.states()[2], (3, RunState::Lost { .. })), "{:?}", scene.states());
}

#[tokio::test(start_paused = true)]
async fn containers_that_nothing_is_remembered_of_are_watched_or_removed() {
    let mut scene = Scene::new(Overlap::Skip);
    scene.fakes.put(&container(4), 4, Standing::Ended(0));
    scene.fakes.put(&container(5), 5, Standing::Runs);
    scene.restart().await;
    scene.settle().await;
    assert_eq!(scene.states(), [(5, RunState::Running)]);
    assert_eq!(scene.fakes.names(), [container(5)]);
    scene.fakes.end(&container(5), 0);
    scene.settle().await;
    assert_eq!(scene.states(), [(5, OK)]);
    assert_eq!(scene.agent.run_now(&scene.name, &job("tidy")).unwrap().run, 6);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_wrote_is_there_while_it_runs_and_after_a_restart() {
    let mut scene = Scene::new(Overlap::Skip);
    scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    scene.settle().await;
    let key = RunKey { schedule: scene.name.clone(), job: job("tidy"), run: 1 };
    assert_eq!(scene.agent.output(&key, 0).unwrap().lines.len(), 1);
    scene.fakes.end(&container(1), 0);
    scene.settle().await;
    scene.restart().await;
    let output = scene.agent.output(&key, 0).unwrap();
    assert_eq!((output.first, output.lines), (0, vec![format!("hello from {}", container(1))]));
    assert_eq!(scene.agent.output(&key, 1).unwrap().lines, [""; 0]);
    let other = RunKey { run: 9, ..key };
    assert_eq!(scene.agent.output(&other, 0).unwrap_err().code, AgentErrorCode::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_removal_leaves_nothing_but_the_fencing_number() {
    let mut scene = Scene::new(Overlap::Queue);
    for _ in 0..2 {
        scene.agent.run_now(&scene.name, &job("tidy")).unwrap();
    }
    scene.settle().await;
    let reply = scene.agent.remove(&scene.name, 5).await.unwrap();
    assert!(reply.changed && reply.ending_runs == 0);
    assert_eq!(scene.fakes.names(), [""; 0]);
    assert_eq!(scene.agent.statuses(), []);
    assert!(!scene.agent.remove(&scene.name, 5).await.unwrap().changed);
    assert_eq!(scene.agent.remove(&scene.name, 4).await.unwrap_err().code, AgentErrorCode::Fenced);
    scene.restart().await;
    assert_eq!(scene.agent.statuses(), []);
    let late = StoreRequest { set: set("@daily", Overlap::Skip), fence: 4 };
    let late = scene.agent.change(&scene.name, IsNew::Allowed, |book, _| book.store(release(1), late));
    assert_eq!(late.unwrap_err().code, AgentErrorCode::Fenced);
}

#[tokio::test(start_paused = true)]
async fn nothing_changes_that_cannot_be_stored() {
    let scene = Scene::new(Overlap::Skip);
    fs_err::remove_dir_all(scene.folder.path().join("schedules")).unwrap();
    let request = SwitchRequest { to: ScheduleState::Off, fence: 1 };
    let refused = scene.agent.change(&scene.name, IsNew::Refused, |book, now| book.switch(&request, now));
    assert_eq!(refused.unwrap_err().code, AgentErrorCode::State);
    assert!(scene.agent.statuses()[0].state.is_active());
}

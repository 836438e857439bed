use freehold_model::{Overlap, RoleName, Schedule, ServiceName, Tag};
use freehold_wire::agent::{ContainerText, RunCause, RunState};

use super::*;

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn release(number: u8) -> ReleaseId {
    ReleaseId::new(&format!("20261130T08{number:02}00Z"), [0, 0, number])
}

pub(crate) fn job(name: &str) -> JobName {
    JobName::parse(name).unwrap()
}

/// One job called `tidy`.
pub(crate) fn set(schedule: &str, overlap: Overlap) -> ScheduleSet {
    ScheduleSet {
        service: ServiceName::parse("app").unwrap(),
        destination: None,
        role: RoleName::parse("web").unwrap(),
        version: Tag::parse("v1").unwrap(),
        image: "app:v1".to_owned(),
        jobs: vec![ScheduledContainer {
            name: job("tidy"),
            schedule: Schedule::parse(schedule).unwrap(),
            overlap,
            timeout_ms: None,
            history: 3,
            container_prefix: "app-cron-tidy-run".to_owned(),
            container: ContainerText::new("{}".to_owned().into()),
            networks: Vec::new(),
        }],
    }
}

/// A schedule whose job `tidy` runs every ten minutes.
pub(crate) fn book(name: &str) -> Book {
    with(name, Overlap::Skip)
}

fn with(name: &str, overlap: Overlap) -> Book {
    let mut book = Book::new(ScheduleName::parse(name).unwrap());
    book.store(release(1), StoreRequest { set: set("*/10 * * * *", overlap), fence: 1 }).unwrap();
    let to = ScheduleState::Active { release: release(1) };
    book.switch(&SwitchRequest { to, fence: 1 }, time("2026-11-30T08:00:00Z")).unwrap();
    book
}

fn active(number: u8) -> ScheduleState {
    ScheduleState::Active { release: release(number) }
}

fn dues(book: &mut Book, now: &str) -> Vec<String> {
    book.due(time(now)).into_iter().map(|(_, time)| time.to_string()).collect()
}

#[test]
fn a_job_is_due_once_for_each_of_its_times() {
    let mut book = book("app-web");
    assert_eq!(dues(&mut book, "2026-11-30T08:09:59Z"), [""; 0]);
    assert_eq!(dues(&mut book, "2026-11-30T08:10:00Z"), ["2026-11-30T08:10:00Z"]);
    assert_eq!(dues(&mut book, "2026-11-30T08:10:20Z"), [""; 0]);
    assert_eq!(dues(&mut book, "2026-11-30T08:20:03Z"), ["2026-11-30T08:20:00Z"]);
    assert_eq!(book.next_due(time("2026-11-30T08:20:03Z")), Some(time("2026-11-30T08:30:00Z")));
}

#[test]
fn of_times_that_passed_unseen_the_last_one_counts_if_it_is_not_too_long_ago() {
    let mut book = book("app-web");
    assert_eq!(dues(&mut book, "2026-11-30T12:34:00Z"), ["2026-11-30T12:30:00Z"]);
    let mut nightly = with("app-web", Overlap::Skip);
    nightly.store(release(2), StoreRequest { set: set("0 9 * * *", Overlap::Skip), fence: 1 }).unwrap();
    let request = SwitchRequest { to: active(2), fence: 1 };
    nightly.switch(&request, time("2026-11-30T08:00:00Z")).unwrap();
    let mut late = nightly.clone();
    assert_eq!(dues(&mut nightly, "2026-11-30T09:59:00Z"), ["2026-11-30T09:00:00Z"]);
    assert_eq!(dues(&mut late, "2026-11-30T10:01:00Z"), [""; 0]);
    assert_eq!(dues(&mut late, "2026-12-01T09:00:10Z"), ["2026-12-01T09:00:00Z"]);
}

#[test]
fn a_clock_that_is_set_back_begins_nothing_twice() {
    let mut book = book("app-web");
    assert_eq!(dues(&mut book, "2026-11-30T08:30:00Z").len(), 1);
    for minute in ["08:05", "08:10", "08:29", "08:30"] {
        assert_eq!(dues(&mut book, &format!("2026-11-30T{minute}:00Z")), [""; 0], "{minute}");
    }
    assert_eq!(dues(&mut book, "2026-11-30T08:40:00Z").len(), 1);
    // A clock that was days ahead does not stop the jobs for days.
    assert_eq!(dues(&mut book, "2026-12-05T08:40:00Z").len(), 1);
    assert_eq!(dues(&mut book, "2026-11-30T08:41:00Z"), [""; 0]);
    assert_eq!(dues(&mut book, "2026-11-30T08:50:00Z").len(), 1);
}

#[test]
fn a_job_misses_nothing_while_releases_change_and_catches_up_on_nothing_after_a_pause() {
    let mut book = book("app-web");
    book.store(release(2), StoreRequest { set: set("*/10 * * * *", Overlap::Skip), fence: 2 }).unwrap();
    let at = time("2026-11-30T08:10:01Z");
    assert!(book.switch(&SwitchRequest { to: active(2), fence: 2 }, at).unwrap().changed);
    assert_eq!(dues(&mut book, "2026-11-30T08:10:02Z"), ["2026-11-30T08:10:00Z"]);

    let pause = SwitchRequest { to: ScheduleState::Paused { release: release(2) }, fence: 2 };
    assert!(book.switch(&pause, at).unwrap().changed);
    assert!(!book.switch(&pause, at).unwrap().changed);
    assert_eq!(dues(&mut book, "2026-11-30T09:00:00Z"), [""; 0]);
    assert_eq!(book.next_due(at), None);
    book.switch(&SwitchRequest { to: active(2), fence: 2 }, time("2026-11-30T09:00:30Z")).unwrap();
    assert_eq!(dues(&mut book, "2026-11-30T09:00:31Z"), [""; 0]);
    assert_eq!(dues(&mut book, "2026-11-30T09:10:00Z").len(), 1);
}

#[test]
fn a_switch_is_reverted_once_and_only_if_it_was_made() {
    let mut book = book("app-web");
    let now = time("2026-11-30T08:01:00Z");
    let revert = RevertRequest { from: active(2), fence: 2 };
    assert!(!book.revert(&revert, now).unwrap().changed, "it was never switched");
    book.store(release(2), StoreRequest { set: set("@daily", Overlap::Skip), fence: 2 }).unwrap();
    book.switch(&SwitchRequest { to: active(2), fence: 2 }, now).unwrap();
    // A client that is not sure whether it did does it again.
    book.switch(&SwitchRequest { to: active(2), fence: 2 }, now).unwrap();
    assert_eq!(book.revert(&revert, now).unwrap().state, active(1));
    assert_eq!(book.revert(&revert, now).unwrap().state, active(1));
    let forget = ForgetRequest { releases: vec![release(1), release(2)], fence: 2 };
    assert!(book.forget(&forget).unwrap().changed);
    assert_eq!(book.plan.releases.keys().collect::<Vec<_>>(), [&release(1)], "what runs is kept");
}

#[test]
fn what_is_not_stored_cannot_run_and_late_clients_are_refused() {
    let mut book = book("app-web");
    let now = time("2026-11-30T08:01:00Z");
    let error = book.switch(&SwitchRequest { to: active(7), fence: 3 }, now).unwrap_err();
    assert_eq!(error.code, AgentErrorCode::Unknown);
    let error = book.switch(&SwitchRequest { to: ScheduleState::Off, fence: 2 }, now).unwrap_err();
    assert_eq!(error.code, AgentErrorCode::Fenced);
    assert_eq!(book.plan.state, active(1));
    book.clear(4).unwrap();
    assert!(book.is_empty());
    assert_eq!(book.clear(3).unwrap_err().code, AgentErrorCode::Fenced);
}

#[test]
fn overlap_decides_what_becomes_of_a_second_run() {
    let now = time("2026-11-30T08:01:00Z");
    let admit = |book: &mut Book| book.admit(&job("tidy"), RunCause::Person, now, now).unwrap();
    for (overlap, states, begins, replaced) in [
        (Overlap::Skip, [RunState::Skipped, RunState::Skipped], [false, false], [vec![], vec![]]),
        (Overlap::Allow, [RunState::Waiting, RunState::Waiting], [true, true], [vec![], vec![]]),
        (Overlap::Queue, [RunState::Waiting, RunState::Skipped], [false, false], [vec![], vec![]]),
        (Overlap::Replace, [RunState::Waiting, RunState::Waiting], [false, false], [vec![1], vec![1, 2]]),
    ] {
        let mut book = with("app-web", overlap);
        let first = admit(&mut book);
        assert!(first.begins && first.replaced.is_empty(), "{overlap:?}");
        assert_eq!(first.record.container.as_deref(), Some("app-cron-tidy-run-1"));
        book.run_mut(&job("tidy"), 1).unwrap().state = RunState::Running;
        let others = [admit(&mut book), admit(&mut book)];
        assert_eq!(others.clone().map(|other| other.record.state), states, "{overlap:?}");
        assert_eq!(others.clone().map(|other| other.begins), begins, "{overlap:?}");
        assert_eq!(others.map(|other| other.replaced), replaced, "{overlap:?}");
        book.close((&job("tidy"), 1), RunState::Ended { exit_code: 0 }, now);
    }
    let mut book = with("app-web", Overlap::Allow);
    let states: Vec<RunState> = (0..9).map(|_| admit(&mut book).record.state).collect();
    assert_eq!(states.iter().filter(|state| **state == RunState::Skipped).count(), 1, "there is a limit");
    assert!(book.admit(&job("other"), RunCause::Person, now, now).is_none());
}

#[test]
fn only_so_many_runs_are_remembered_and_open_ones_always() {
    let mut book = with("app-web", Overlap::Allow);
    let now = time("2026-11-30T08:01:00Z");
    for run in 1..=6 {
        book.admit(&job("tidy"), RunCause::Schedule, now, now).unwrap();
        if run > 1 {
            book.close((&job("tidy"), run), RunState::Ended { exit_code: 0 }, now);
        }
    }
    assert_eq!(book.trim(), [(job("tidy"), 2), (job("tidy"), 3)]);
    let left: Vec<u64> = book.runs().iter().map(|run| run.run).collect();
    assert_eq!(left, [6, 5, 4, 1]);
    book.clear(9).unwrap();
    assert_eq!(book.runs().len(), 1, "what still runs");
    book.close((&job("tidy"), 1), RunState::Removed, now);
    assert_eq!(book.trim(), [(job("tidy"), 1)]);
    assert!(book.is_empty());
}

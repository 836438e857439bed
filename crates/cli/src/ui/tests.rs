use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use freehold_fleet::{Event, Progress, StepOutcome, Watch};
use freehold_model::{HostName, ReleaseId, ServiceName, SshLogLevel, Tag};
use freehold_plan::{Action, Lane, OnFailure, Plan, PlanKind, Stage, StageKind, Step, StepId, Undo};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::line::Colours;
use super::live::Painter;
use super::symbols::Symbols;
use super::{Detail, Line, Plain, Ui, UiOptions};
use crate::process::{Clock, Logs, Process, Terminal};

/// A moment and what happens then.
type Script = Vec<(u64, Event)>;

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn plan(hosts: &[&str]) -> Plan {
    let mut id = 0;
    let mut stage = |kind, on_failure, hosts: &[&str], steps: u32| Stage {
        kind,
        on_failure,
        lanes: hosts
            .iter()
            .map(|name| Lane {
                host: host(name),
                steps: (0..steps)
                    .map(|_| {
                        id += 1;
                        Step {
                            id: StepId(id),
                            host: host(name),
                            action: Action::RemoveProxyIfUnused,
                            undo: Undo::Nothing,
                        }
                    })
                    .collect(),
            })
            .collect(),
    };
    let stages = vec![
        stage(StageKind::Build, OnFailure::PutBack, &hosts[..1], 1),
        stage(StageKind::Prepare, OnFailure::PutBack, hosts, 2),
        stage(StageKind::Boot, OnFailure::PutBack, hosts, 1),
    ];
    Plan {
        format: Plan::FORMAT,
        id: ReleaseId::new("20261122T041200Z", [1, 2, 3]),
        kind: PlanKind::Deploy,
        service: ServiceName::parse("shop").unwrap(),
        destination: None,
        version: Some(Tag::parse("3f2a9c1d3f2a9c1d3f2a9c1d3f2a9c1d3f2a9c1d").unwrap()),
        hosts: hosts.iter().map(|name| host(name)).collect(),
        stages,
    }
}

fn started(name: &str, step: u32, title: &str) -> Event {
    Event::StepStarted { host: host(name), step: StepId(step), title: title.to_owned() }
}

fn finished(name: &str, step: u32, outcome: StepOutcome, elapsed_ms: u64) -> Event {
    Event::StepFinished { host: host(name), step: StepId(step), outcome, elapsed_ms }
}

fn progress(name: &str, step: u32, progress: Progress) -> Event {
    Event::StepProgress { host: host(name), step: StepId(step), progress }
}

fn done(note: &str) -> StepOutcome {
    StepOutcome::Done { note: (!note.is_empty()).then(|| note.to_owned()) }
}

/// Three hosts: the image is built and sent; the second host's container crashes; all is put back.
fn failing_deploy() -> Script {
    let transfer = |sent| Progress::Transfer {
        bytes_sent: sent,
        bytes_total: Some(12_000_000),
        layers_sent: 3,
        layers_total: 12,
    };
    let crash = "container `shop-web-3f2a` crashed with code 1";
    let mut script = vec![
        (0, Event::Connecting { host: host("web-1") }),
        (0, Event::Connecting { host: host("web-2") }),
        (0, Event::Connecting { host: host("web-3") }),
    ];
    for (at, name) in [(180, "web-1"), (210, "web-3"), (420, "web-2")] {
        let authentication = "ed25519 key of the agent".to_owned();
        script.push((at, Event::Connected { host: host(name), authentication, elapsed_ms: at }));
    }
    script.push((500, Event::Planned { plan: Box::new(plan(&["web-1", "web-2", "web-3"])) }));
    script.push((510, Event::StageStarted { stage: StageKind::Build }));
    script.push((520, started("web-1", 1, "build shop:3f2a9c1")));
    script.push((900, progress("web-1", 1, Progress::Build { line: "[2/5] RUN bundle install".to_owned() })));
    script.push((8600, finished("web-1", 1, done("5 steps, 3 cached"), 8080)));
    script.push((8610, Event::StageStarted { stage: StageKind::Prepare }));
    for (name, step) in [("web-1", 2), ("web-2", 4), ("web-3", 6)] {
        script.push((8620, started(name, step, "deliver shop:3f2a9c1")));
    }
    script.push((9000, progress("web-1", 2, transfer(4_100_000))));
    script.push((9000, progress("web-2", 4, Progress::Status { text: "comparing layers".to_owned() })));
    script.push((9100, finished("web-3", 6, done("3 of 12 layers, 12.0 MB"), 480)));
    script.push((9110, started("web-3", 7, "make sure that the proxy runs")));
    script.push((9200, finished("web-3", 7, StepOutcome::AlreadyDone, 90)));
    for (name, step) in [("web-1", 2), ("web-2", 4)] {
        script.push((10_000, finished(name, step, done("3 of 12 layers, 12.0 MB"), 1380)));
        script.push((10_010, started(name, step + 1, "make sure that the proxy runs")));
        script.push((10_100, finished(name, step + 1, StepOutcome::AlreadyDone, 90)));
    }
    script.push((10_200, Event::StageStarted { stage: StageKind::Boot }));
    for (name, step) in [("web-1", 8), ("web-2", 9), ("web-3", 10)] {
        script.push((10_210, started(name, step, "wait until shop-web-3f2a is healthy")));
    }
    script.push((11_000, finished("web-1", 8, done("healthy after 0.7 s"), 790)));
    script.push((12_000, finished("web-2", 9, StepOutcome::Failed { error: crash.to_owned() }, 1790)));
    script.push((12_010, finished("web-3", 10, StepOutcome::Skipped, 1800)));
    script.push((12_020, Event::PuttingBack { cause: crash.to_owned() }));
    for (at, name, step) in [(12_300, "web-1", 8), (12_400, "web-2", 9)] {
        let title = "remove container shop-web-3f2a".to_owned();
        script.push((at, Event::Undone { host: host(name), step: StepId(step), title, error: None }));
    }
    script
}

fn painter(columns: usize, rows: usize) -> Painter {
    Painter { columns, rows, symbols: Symbols::for_locale(Some("C.UTF-8"), None, None) }
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.render(Colours::Hidden) + "\n").collect()
}

/// Plays a script and writes down what stays, and the picture at certain moments.
fn play(script: &Script, painter: Painter, pictures_at: &[u64]) -> String {
    let mut board = Board::default();
    let mut seen = String::new();
    let mut pictures = pictures_at.iter().copied().peekable();
    for (at, event) in script {
        while let Some(moment) = pictures.next_if(|moment| moment < at) {
            let picture = text(&painter.frame(&board, Duration::from_millis(moment)));
            seen.push_str(&format!("--- picture at {moment} ms\n{picture}---\n"));
        }
        for note in board.apply(event, Duration::from_millis(*at)) {
            seen.push_str(&text(&painter.note(&note)));
        }
    }
    let end = script.last().map_or(0, |(at, _)| *at);
    for note in board.end(Duration::from_millis(end)) {
        seen.push_str(&text(&painter.note(&note)));
    }
    seen
}

#[test]
fn a_failing_deploy_as_a_live_picture() {
    let moments = [300, 1000, 9050, 9150, 11_500, 12_350];
    insta::assert_snapshot!("live_100", play(&failing_deploy(), painter(100, 30), &moments));
}

#[test]
fn the_picture_fits_a_narrow_and_a_wide_terminal() {
    for columns in [60, 80, 200] {
        let painter = painter(columns, 30);
        let mut board = Board::default();
        for (at, event) in failing_deploy() {
            let _notes = board.apply(&event, Duration::from_millis(at));
            for line in painter.frame(&board, Duration::from_millis(at + 5)) {
                assert!(line.width() < columns, "{}", line.render(Colours::Hidden));
            }
        }
    }
    insta::assert_snapshot!("live_60", play(&failing_deploy(), painter(60, 30), &[9050]));
}

#[test]
fn of_very_many_hosts_those_that_matter_are_shown() {
    let names: Vec<String> = (1..=100).map(|number| format!("web-{number}.example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut script = vec![
        (0, Event::Planned { plan: Box::new(plan(&names)) }),
        (0, Event::StageStarted { stage: StageKind::Build }),
        (10, Event::StageStarted { stage: StageKind::Prepare }),
    ];
    for (index, name) in names.iter().enumerate().skip(90) {
        let step = u32::try_from(index * 2 + 2).unwrap();
        script.push((20, started(name, step, "deliver shop:3f2a9c1")));
    }
    let failed = StepOutcome::Failed { error: "no space left on device".to_owned() };
    script.push((900, finished(names[95], 192, failed, 880)));
    let picture = play(&script, painter(80, 14), &[899]);
    insta::assert_snapshot!("live_100_hosts", picture);
}

#[test]
fn a_failing_deploy_as_plain_lines() {
    let mut plain = Plain::new(false);
    let mut seen = String::new();
    for (at, event) in failing_deploy() {
        seen.push_str(&text(&plain.apply(&event, Duration::from_millis(at))));
        seen.push_str(&text(&plain.tick(Duration::from_millis(at))));
    }
    insta::assert_snapshot!("plain", seen);
}

#[test]
fn a_step_of_which_nothing_is_heard_is_named_again() {
    let mut plain = Plain::new(false);
    let _lines = plain.apply(&Event::StageStarted { stage: StageKind::Boot }, Duration::ZERO);
    let _lines = plain.apply(&started("web-1", 1, "wait until it is healthy"), Duration::ZERO);
    assert!(plain.tick(Duration::from_secs(14)).is_empty());
    assert_eq!(
        text(&plain.tick(Duration::from_secs(15))),
        "  15.0s  web-1        boot     still: wait until it is healthy\n"
    );
    assert!(plain.tick(Duration::from_secs(16)).is_empty());
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(1500)
    }
}

/// A stream whose bytes can be looked at.
#[derive(Debug, Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Tape {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// Libraries that log nothing.
#[derive(Debug)]
struct NoLogs;

impl Logs for NoLogs {
    fn show_ssh(&self, _level: SshLogLevel, _show: Box<dyn Fn(&str) + Send + Sync>) {}
}

fn ui(is_terminal: bool, options: UiOptions, environment: &[(&str, &str)]) -> (Ui, Tape, Tape) {
    let process = Process {
        logs: Arc::new(NoLogs),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        directory: "/project".into(),
        executable: "/freehold".into(),
        id: 1,
        terminal: Terminal {
            is_stdin: is_terminal,
            is_stdout: is_terminal,
            is_stderr: is_terminal,
            size: || Some((80, 24)),
        },
        clock: Arc::new(Still),
        seed: [7; 16],
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
    };
    let (progress, results) = (Tape::default(), Tape::default());
    let ui = Ui::with_streams(&process, options, Box::new(progress.clone()), Box::new(results.clone()));
    (ui, progress, results)
}

const NORMAL: UiOptions = UiOptions { is_json: false, no_color: false, detail: Detail::Normal };

#[test]
fn without_a_terminal_nothing_but_text_is_written() {
    let (ui, progress, results) = ui(false, NORMAL, &[]);
    for (_, event) in failing_deploy() {
        ui.event(event);
    }
    ui.result(&[Line::new().add(super::Tone::Good, "done")]);
    ui.close();
    assert!(!progress.text().contains('\u{1b}'), "{}", progress.text());
    assert_eq!(results.text(), "done\n");
}

#[test]
fn a_terminal_is_left_as_it_was_found() {
    let (ui, progress, results) = ui(true, NORMAL, &[("LANG", "C.UTF-8")]);
    for (_, event) in failing_deploy() {
        ui.event(event);
    }
    ui.result(&[Line::new().add(super::Tone::Good, "done")]);
    ui.close();
    let written = progress.text();
    let count = |what: &str| written.matches(what).count();
    assert_eq!(
        count("\u{1b}[?25l"),
        count("\u{1b}[?25h"),
        "the cursor is shown again each time it was hidden"
    );
    assert_eq!(count("\u{1b}[?2026h"), count("\u{1b}[?2026l"), "each change is ended");
    assert_eq!(results.text(), "\u{1b}[32mdone\u{1b}[0m\n");
}

#[test]
fn colours_can_be_refused() {
    for (options, environment) in [
        (UiOptions { no_color: true, ..NORMAL }, &[("LANG", "C.UTF-8")][..]),
        (NORMAL, &[("NO_COLOR", "1")][..]),
        (NORMAL, &[("TERM", "dumb")][..]),
    ] {
        let (ui, progress, results) = ui(true, options, environment);
        ui.warn("look out");
        ui.result(&[Line::new().add(super::Tone::Good, "done")]);
        ui.close();
        assert_eq!(results.text(), "done\n");
        assert!(!progress.text().contains("\u{1b}[3"), "{:?}", progress.text());
    }
}

#[test]
fn with_json_each_event_is_a_line_and_the_result_one_object() {
    let (ui, progress, results) = ui(true, UiOptions { is_json: true, ..NORMAL }, &[]);
    for (_, event) in failing_deploy() {
        ui.event(event);
    }
    ui.begin("hook", "pre-build").done(None);
    ui.result(&[Line::new().plain("not for programs")]);
    ui.result_json("deploy", &["a"]);
    ui.close();
    for line in progress.text().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string() && event["at_ms"] == 1500, "{line}");
    }
    assert_eq!(results.text(), "{\"command\":\"deploy\",\"ok\":true,\"result\":[\"a\"],\"schema\":1}\n");
}

#[test]
fn a_failed_activity_shows_all_that_it_printed() {
    let (ui, progress, _) = ui(false, NORMAL, &[]);
    let activity = ui.begin("hook", "pre-build");
    activity.line("one");
    activity.line("two \u{1b}[2J");
    drop(activity);
    let quiet = ui.begin("hook", "pre-deploy");
    quiet.line("not shown");
    quiet.done(None);
    ui.close();
    insta::assert_snapshot!("activity", progress.text());
}

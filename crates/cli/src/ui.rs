//! Everything that a person or a program sees: results on standard output, all else on standard error.

mod amount;
mod board;
mod json;
mod line;
mod live;
mod plain;
mod prompt;
mod screen;
mod symbols;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use freehold_fleet::{Event, StepOutcome, Watch};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub(crate) use amount::{ago, counted_items, span};
pub(crate) use board::{headline, short_version, stage_name};
pub(crate) use line::{Line, Tone};
pub(crate) use plain::Plain;
pub(crate) use table::Table;

use board::{Board, Note};
use line::Colours;
use live::Painter;
use screen::Screen;
use symbols::Symbols;

use crate::process::{Clock, Process, Terminal};
use crate::record::Record;

/// How often the live picture is drawn.
const FRAME: Duration = Duration::from_millis(80);

/// How much is shown, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Results, warnings and errors.
    Quiet,
    /// What goes on.
    Normal,
    /// Every step, the whole build.
    Verbose,
}

/// What the command line says about output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UiOptions {
    pub(crate) is_json: bool,
    pub(crate) no_color: bool,
    pub(crate) detail: Detail,
}

/// Shows progress and results. Clones show to the same place.
#[derive(Clone)]
pub(crate) struct Ui {
    shared: Arc<Shared>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ui").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

struct Shared {
    options: UiOptions,
    clock: Arc<dyn Clock>,
    terminal: Terminal,
    stop: CancellationToken,
    symbols: Symbols,
    result_colours: Colours,
    state: Mutex<State>,
    is_closed: AtomicBool,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    mode: Mode,
    screen: Screen,
    results: Box<dyn Write + Send>,
    /// A question is being asked: nothing else is drawn.
    is_paused: bool,
    held: Vec<Line>,
    /// Where all of it is written down, too.
    record: Option<Record>,
}

#[derive(Debug)]
enum Mode {
    Quiet,
    Live(Board),
    Plain(Plain),
    Json,
}

impl Ui {
    /// Makes the Ui of a process. Nothing is shown yet.
    pub(crate) fn new(process: &Process, options: UiOptions) -> Self {
        Self::with_streams(process, options, Box::new(io::stderr()), Box::new(io::stdout()))
    }

    fn with_streams(
        process: &Process,
        options: UiOptions,
        progress: Box<dyn Write + Send>,
        results: Box<dyn Write + Send>,
    ) -> Self {
        let is_dumb = process.variable("TERM") == Some("dumb");
        let wants_colour = !options.no_color && process.variable("NO_COLOR").is_none() && !is_dumb;
        let colours =
            |is_terminal: bool| if is_terminal && wants_colour { Colours::Shown } else { Colours::Hidden };
        let is_live = process.terminal.is_stderr && !is_dumb && process.variable("CI").is_none();
        let mode = match options.detail {
            _ if options.is_json => Mode::Json,
            Detail::Quiet => Mode::Quiet,
            Detail::Normal if is_live => Mode::Live(Board::default()),
            detail => Mode::Plain(Plain::new(detail == Detail::Verbose)),
        };
        let symbols = Symbols::for_locale(
            process.variable("LC_ALL"),
            process.variable("LC_CTYPE"),
            process.variable("LANG"),
        );
        let state = State {
            mode,
            screen: Screen::new(progress, colours(process.terminal.is_stderr)),
            results,
            is_paused: false,
            held: Vec::new(),
            record: None,
        };
        Self {
            shared: Arc::new(Shared {
                options,
                clock: Arc::clone(&process.clock),
                terminal: process.terminal.clone(),
                stop: process.stop.clone(),
                symbols,
                result_colours: colours(process.terminal.is_stdout),
                state: Mutex::new(state),
                is_closed: AtomicBool::new(false),
                ticker: Mutex::new(None),
            }),
        }
    }

    /// Says whether the result is one JSON object.
    pub(crate) fn is_json(&self) -> bool {
        self.shared.options.is_json
    }

    /// Says whether neither more nor less than usual is shown.
    pub(crate) fn is_normal(&self) -> bool {
        self.shared.options.detail == Detail::Normal
    }

    /// Returns the signs for this terminal.
    pub(crate) fn done_mark(&self) -> &'static str {
        self.shared.symbols.done
    }

    /// Writes everything down from now on.
    pub(crate) fn record(&self, record: Record) {
        self.shared.state.lock().record = Some(record);
    }

    /// Says whether everything is written down.
    pub(crate) fn is_recorded(&self) -> bool {
        self.shared.state.lock().record.is_some()
    }

    /// Ends writing everything down.
    pub(crate) fn take_record(&self) -> Option<Record> {
        self.shared.state.lock().record.take()
    }

    /// Writes lines of the result for a person; nothing when JSON was asked for.
    pub(crate) fn result(&self, lines: &[Line]) {
        if self.is_json() {
            return;
        }
        let text: String = lines.iter().map(|line| line.render(self.shared.result_colours) + "\n").collect();
        self.write_result(text.as_bytes());
    }

    /// Writes the result as one JSON object, if it was asked for.
    pub(crate) fn result_json(&self, command: &str, result: &impl Serialize) {
        if self.is_json() {
            self.write_result((json::envelope(command, result) + "\n").as_bytes());
        }
    }

    /// Writes bytes of the result as they are, such as what a command in a container printed to a pipe.
    pub(crate) fn write_result(&self, bytes: &[u8]) {
        let mut state = self.shared.state.lock();
        if let Some(record) = &mut state.record {
            record.result(bytes, self.shared.clock.now());
        }
        self.shared.erase(&mut state);
        // A reader that has gone away (`freehold releases | head`) is no failure of the command.
        let written = state.results.write_all(bytes).and_then(|()| state.results.flush());
        if let Err(error) = written {
            tracing::debug!(%error, "cannot write the result");
        }
    }

    /// Says something that a person should look at.
    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.event(Event::Warning { host: None, message: message.into() });
    }

    /// Says something that helps.
    pub(crate) fn note(&self, line: Line) {
        let mut state = self.shared.state.lock();
        if let Some(record) = &mut state.record {
            record.lines(std::slice::from_ref(&line), self.shared.clock.now());
        }
        if self.is_json() || self.shared.options.detail == Detail::Quiet {
            return;
        }
        self.shared.show(&mut state, vec![line]);
    }

    /// Shows what a library logged.
    pub(crate) fn library_log(&self, library: &'static str, text: &str) {
        if self.is_json() {
            return self.log_line(library, text);
        }
        self.note(Line::new().add(Tone::Faint, format!(" {library}: ")).plain(text));
    }

    /// Shows a line of a container's log as an event, where the result is JSON.
    pub(crate) fn log_line(&self, source: &str, text: &str) {
        let mut state = self.shared.state.lock();
        let line = json::log_line(source, text, self.shared.clock.elapsed());
        self.shared.show(&mut state, vec![line]);
    }

    /// Says in an event what waits for the person or for a program: `{"event":EVENT,...}`.
    pub(crate) fn event_of(&self, event: &str, fields: Vec<(&'static str, String)>) {
        let mut state = self.shared.state.lock();
        let line = json::named(event, fields, self.shared.clock.elapsed());
        self.shared.show(&mut state, vec![line]);
    }

    /// Shows that this machine does something, until the activity is ended.
    pub(crate) fn begin(&self, name: &'static str, title: &str) -> Activity {
        self.start_ticking();
        let now = self.shared.clock.elapsed();
        let mut state = self.shared.state.lock();
        if let Some(record) = &mut state.record {
            record.begin_activity((name, title), now, self.shared.clock.now());
        }
        let lines = match &mut state.mode {
            Mode::Quiet => Vec::new(),
            Mode::Live(board) => {
                let notes = board.begin_activity(name, title, now);
                self.shared.paint(&notes)
            }
            Mode::Plain(plain) => plain.begin_activity(name, title, now),
            Mode::Json => vec![json::activity(name, title, None, now)],
        };
        self.shared.show(&mut state, lines);
        drop(state);
        Activity { ui: self.clone(), name, title: title.to_owned(), is_ended: false }
    }

    /// Ends the picture: what was shown last stays.
    pub(crate) fn close(&self) {
        if self.shared.is_closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let ticker = self.shared.ticker.lock().take();
        if let Some(ticker) = ticker {
            ticker.thread().unpark();
            if ticker.join().is_err() {
                tracing::debug!("the thread that draws has panicked");
            }
        }
        let now = self.shared.clock.elapsed();
        let mut state = self.shared.state.lock();
        if let Mode::Live(board) = &mut state.mode {
            let notes = board.end(now);
            let lines = self.shared.paint(&notes);
            self.shared.show(&mut state, lines);
        }
        self.shared.erase(&mut state);
    }

    /// Begins drawing at a steady pace, at the first thing that takes time.
    fn start_ticking(&self) {
        let mut ticker = self.shared.ticker.lock();
        if ticker.is_some() || self.shared.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new().name("ui".to_owned()).spawn(move || {
            while !shared.is_closed.load(Ordering::SeqCst) {
                shared.tick();
                std::thread::park_timeout(FRAME);
            }
        });
        match started {
            Ok(thread) => *ticker = Some(thread),
            Err(error) => tracing::debug!(%error, "cannot start the thread that draws"),
        }
    }
}

impl Watch for Ui {
    fn event(&self, event: Event) {
        self.start_ticking();
        let now = self.shared.clock.elapsed();
        let mut state = self.shared.state.lock();
        if let Some(record) = &mut state.record {
            record.event(&event, now, self.shared.clock.now());
        }
        let is_warning = matches!(event, Event::Warning { .. });
        let lines = match &mut state.mode {
            Mode::Quiet if is_warning => Plain::new(false).apply(&event, now),
            Mode::Quiet => Vec::new(),
            Mode::Live(board) => {
                let notes = board.apply(&event, now);
                self.shared.paint(&notes)
            }
            Mode::Plain(plain) => plain.apply(&event, now),
            Mode::Json => vec![json::event(&event, now)],
        };
        self.shared.show(&mut state, lines);
    }
}

impl Shared {
    fn painter(&self) -> Painter {
        let (columns, rows) = (self.terminal.size)().unwrap_or((80, 24));
        Painter {
            columns: usize::from(columns.max(20)),
            rows: usize::from(rows.max(8)),
            symbols: self.symbols,
        }
    }

    fn paint(&self, notes: &[Note]) -> Vec<Line> {
        let painter = self.painter();
        notes.iter().flat_map(|note| painter.note(note)).collect()
    }

    fn show(&self, state: &mut State, lines: Vec<Line>) {
        if state.is_paused {
            state.held.extend(lines);
            return;
        }
        if lines.is_empty() {
            return;
        }
        self.draw(state, &lines);
    }

    fn draw(&self, state: &mut State, lasting: &[Line]) {
        let State { mode, screen, .. } = state;
        let drawn = match mode {
            Mode::Live(board) => {
                let painter = self.painter();
                let picture = painter.frame(board, self.clock.elapsed());
                screen.draw(lasting, &picture, painter.columns)
            }
            Mode::Quiet | Mode::Plain(_) | Mode::Json => screen.append(lasting),
        };
        if let Err(error) = drawn {
            tracing::debug!(%error, "cannot show progress");
        }
    }

    fn erase(&self, state: &mut State) {
        if let Err(error) = state.screen.draw(&[], &[], self.painter().columns) {
            tracing::debug!(%error, "cannot erase the picture");
        }
    }

    fn tick(&self) {
        let mut state = self.state.lock();
        if state.is_paused || self.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let now = self.clock.elapsed();
        let lines = match &mut state.mode {
            Mode::Live(_) => return self.draw(&mut state, &[]),
            Mode::Plain(plain) => plain.tick(now),
            Mode::Quiet | Mode::Json => return,
        };
        self.show(&mut state, lines);
    }
}

/// Something that this machine does. Dropped without an end, it counts as failed.
#[derive(Debug)]
pub(crate) struct Activity {
    ui: Ui,
    name: &'static str,
    title: String,
    is_ended: bool,
}

impl Activity {
    /// Takes a line of its output.
    pub(crate) fn line(&self, text: &str) {
        let shared = &self.ui.shared;
        let now = shared.clock.elapsed();
        let mut state = shared.state.lock();
        if let Some(record) = &mut state.record {
            record.activity_line(text, now, shared.clock.now());
        }
        let lines = match &mut state.mode {
            Mode::Quiet => Vec::new(),
            Mode::Live(board) => {
                board.activity_line(text);
                Vec::new()
            }
            Mode::Plain(plain) => plain.activity_line(text, now),
            Mode::Json => vec![json::activity_line(self.name, text, now)],
        };
        shared.show(&mut state, lines);
    }

    /// Ends it well; the note says what came of it.
    pub(crate) fn done(mut self, note: Option<String>) {
        self.end(&StepOutcome::Done { note });
    }

    fn end(&mut self, outcome: &StepOutcome) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let shared = &self.ui.shared;
        let now = shared.clock.elapsed();
        let mut state = shared.state.lock();
        if let Some(record) = &mut state.record {
            record.end_activity(outcome, now, shared.clock.now());
        }
        let lines = match &mut state.mode {
            Mode::Quiet => Vec::new(),
            Mode::Live(board) => {
                let notes = board.end_activity(outcome, now);
                shared.paint(&notes)
            }
            Mode::Plain(plain) => plain.end_activity(outcome, now),
            Mode::Json => vec![json::activity(self.name, &self.title, Some(outcome), now)],
        };
        shared.show(&mut state, lines);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.end(&StepOutcome::Failed { error: String::new() });
    }
}

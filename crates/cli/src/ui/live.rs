use std::time::Duration;

use freehold_fleet::Progress;

use super::amount;
use super::board::{Board, Group, Note, Row, Running, Standing, short_revisions};
use super::line::{Line, Tone};
use super::symbols::Symbols;

/// Lines wider than this are hard to read, however wide the terminal is.
const MAX_COLUMNS: usize = 110;
/// From this width on there is room for a bar.
const BAR_FROM_COLUMNS: usize = 76;
const BAR_COLUMNS: usize = 20;
/// How much of a build's or a hook's output is repeated when it failed.
const OUTPUT_LINES: usize = 200;

/// Draws a board for a terminal: finished groups as one line each, the present one as rows that change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Painter {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    pub(crate) symbols: Symbols,
}

impl Painter {
    fn width(&self) -> usize {
        self.columns.saturating_sub(1).clamp(20, MAX_COLUMNS)
    }

    /// Draws what changes: the header of the present group and its rows. A group of one row is one line.
    pub(crate) fn frame(&self, board: &Board, now: Duration) -> Vec<Line> {
        let Some(group) = board.group() else { return Vec::new() };
        let mut lines = match (group.rows.as_slice(), &group.title) {
            (_, Some(_)) => vec![self.header(group, now)],
            ([row], None) => vec![self.single(group, row, now)],
            (_, None) => {
                let mut lines = vec![self.header(group, now)];
                lines.extend(self.rows(group, now));
                lines
            }
        };
        if let Some(last) = group.output.last() {
            lines.push(Line::new().pad_to(12).add(Tone::Faint, last.trim()).cut_to(self.width()));
        }
        lines
    }

    fn head(&self, group: &Group, now: Duration) -> Line {
        Line::new()
            .plain(" ")
            .add(Tone::Busy, self.symbols.spinner(now))
            .plain(" ")
            .add(Tone::Strong, group.name)
            .pad_to(12)
    }

    fn header(&self, group: &Group, now: Duration) -> Line {
        let finished = group.rows.iter().filter(|row| row.until.is_some()).count();
        let text = match &group.title {
            Some(title) => title.clone(),
            None if group.rows.is_empty() => String::new(),
            None => format!("{finished} of {} hosts", group.rows.len()),
        };
        self.head(group, now).add(Tone::Faint, text).with_right(
            self.width(),
            Tone::Faint,
            &amount::span(now.saturating_sub(group.since)),
        )
    }

    fn single(&self, group: &Group, row: &Row, now: Duration) -> Line {
        let line = self.head(group, now).plain(&row.label).plain("  ");
        let line = match row.standing() {
            Standing::Failed => line.add(Tone::Bad, row.errors.first().map_or("", String::as_str)),
            Standing::Waiting => line,
            Standing::Skipped => line.add(Tone::Faint, "skipped"),
            Standing::Done => line.add(Tone::Faint, self.done_text(row)),
            Standing::Running => self.running(line, row),
        };
        line.with_right(self.width(), Tone::Faint, &amount::span(now.saturating_sub(group.since)))
    }

    /// Draws the rows that fit: first what runs or failed, then what waits, then what is done; the rest is counted.
    fn rows(&self, group: &Group, now: Duration) -> Vec<Line> {
        let room = self.rows.saturating_sub(5).max(3);
        let label = group
            .rows
            .iter()
            .map(|row| Line::new().plain(&row.label).width())
            .max()
            .unwrap_or(0)
            .clamp(6, 28);
        let mut shown: Vec<&Row> = group.rows.iter().collect();
        let mut hidden = 0;
        if shown.len() > room {
            shown.sort_by_key(|row| match row.standing() {
                Standing::Failed => 0,
                Standing::Running => 1,
                Standing::Waiting => 2,
                Standing::Skipped | Standing::Done => 3,
            });
            hidden = shown.len() - (room - 1);
            shown.truncate(room - 1);
        }
        let mut lines: Vec<Line> = shown.into_iter().map(|row| self.row(row, label, now)).collect();
        if hidden > 0 {
            lines.push(
                Line::new()
                    .plain("     ")
                    .add(Tone::Faint, format!("and {}", amount::counted_items(hidden, "more host"))),
            );
        }
        lines
    }

    fn row(&self, row: &Row, label: usize, now: Duration) -> Line {
        let line = Line::new().plain("   ");
        let name = Line::new().plain(&row.label).cut_to(label);
        let join = |line: Line, mark: &str, tone: Tone| {
            line.add(tone, mark)
                .plain(" ")
                .plain(name.render(super::line::Colours::Hidden))
                .pad_to(6 + label)
                .plain(" ")
        };
        match row.standing() {
            Standing::Waiting => {
                join(line, self.symbols.waiting, Tone::Faint).add(Tone::Faint, "waiting").cut_to(self.width())
            }
            Standing::Skipped => {
                join(line, "-", Tone::Faint).add(Tone::Faint, "skipped").cut_to(self.width())
            }
            Standing::Failed => join(line, self.symbols.failed, Tone::Bad)
                .add(Tone::Bad, row.errors.first().map_or("", String::as_str))
                .cut_to(self.width()),
            Standing::Done => join(line, self.symbols.done, Tone::Good)
                .add(Tone::Faint, self.done_text(row))
                .with_right(self.width(), Tone::Faint, &span_of(row, now)),
            Standing::Running => {
                let line = join(line, self.symbols.spinner(now), Tone::Busy);
                let since = row.running.first().map(|running| running.since).or(row.since).unwrap_or(now);
                self.running(line, row).with_right(
                    self.width(),
                    Tone::Faint,
                    &amount::span(now.saturating_sub(since)),
                )
            }
        }
    }

    fn running(&self, line: Line, row: &Row) -> Line {
        let Some(running) = row.running.first() else {
            return line.add(Tone::Faint, row.last.as_deref().unwrap_or_default());
        };
        let others = row.running.len() - 1;
        let line = line.plain(short_revisions(&running.title));
        let line = self.progress(line, running);
        if others > 0 { line.add(Tone::Faint, format!(" and {others} more")) } else { line }
    }

    fn progress(&self, line: Line, running: &Running) -> Line {
        match &running.progress {
            None | Some(Progress::Build { .. }) => line,
            Some(Progress::Output { line: text }) => {
                line.add(Tone::Faint, self.symbols.separator).add(Tone::Faint, text)
            }
            Some(Progress::Status { text }) => {
                line.add(Tone::Faint, self.symbols.separator).add(Tone::Faint, text)
            }
            Some(Progress::Transfer { bytes_sent, bytes_total, layers_sent, layers_total }) => {
                let mut line = line.plain("  ");
                if let Some(total) = bytes_total.filter(|_| self.columns >= BAR_FROM_COLUMNS) {
                    let share = u64::try_from(u128::from(*bytes_sent) * 1000 / u128::from(total.max(1)))
                        .unwrap_or(1000);
                    let (done, rest) = self.symbols.bar(BAR_COLUMNS, share);
                    line = line.add(Tone::Busy, done).add(Tone::Faint, rest).plain(" ");
                }
                let sent = match bytes_total {
                    Some(total) => format!("{} of {}", amount::bytes(*bytes_sent), amount::bytes(*total)),
                    None => amount::bytes(*bytes_sent),
                };
                line.plain(sent)
                    .add(Tone::Faint, format!("{}layer {layers_sent}/{layers_total}", self.symbols.separator))
            }
        }
    }

    fn done_text(&self, row: &Row) -> String {
        match (row.notes.last(), &row.last) {
            (Some(note), _) => short_revisions(note),
            (None, Some(last)) if row.changed > 0 => short_revisions(last),
            (None, Some(_)) => "nothing to do".to_owned(),
            (None, None) => String::new(),
        }
    }

    /// Draws what became final.
    pub(crate) fn note(&self, note: &Note) -> Vec<Line> {
        match note {
            Note::Headline(text) => vec![
                Line::new(),
                Line::new().plain(" ").add(Tone::Strong, text).cut_to(self.width()),
                Line::new(),
            ],
            Note::Warning(host, message) => {
                let subject = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                vec![
                    Line::new()
                        .plain(" ")
                        .add(Tone::Warn, self.symbols.warning)
                        .plain(" ")
                        .add(Tone::Warn, "warning")
                        .pad_to(12)
                        .plain(subject)
                        .plain(message),
                ]
            }
            Note::PuttingBack(cause) => {
                let cause = cause.iter().map(|cause| {
                    Line::new()
                        .plain(" ")
                        .add(Tone::Bad, self.symbols.failed)
                        .plain(" ")
                        .add(Tone::Bad, cause)
                });
                let what = Line::new()
                    .plain(" ")
                    .add(Tone::Warn, self.symbols.back)
                    .plain(" ")
                    .add(Tone::Warn, "putting back what was changed, on every host");
                cause.chain([what]).collect()
            }
            Note::Recovering(forward) => {
                let what = if *forward { "finishing" } else { "undoing" };
                vec![
                    Line::new()
                        .plain(" ")
                        .add(Tone::Warn, self.symbols.back)
                        .plain(" ")
                        .add(Tone::Warn, format!("{what} a rollout that was cut off")),
                ]
            }
            Note::Ended(group, until) => self.ended(group, *until),
        }
    }

    fn ended(&self, group: &Group, until: Duration) -> Vec<Line> {
        let has_failed = group.has_failed();
        let is_broken = group.rows.iter().any(|row| matches!(row.standing(), Standing::Running));
        let (mark, tone) = match (has_failed, is_broken) {
            (true, _) => (self.symbols.failed, Tone::Bad),
            (false, true) => ("-", Tone::Warn),
            (false, false) => (self.symbols.done, Tone::Good),
        };
        let mut lines = Vec::new();
        if has_failed {
            lines.extend(self.output(group));
        }
        lines.push(
            Line::new()
                .plain(" ")
                .add(tone, mark)
                .plain(" ")
                .add(Tone::Strong, group.name)
                .pad_to(12)
                .plain(self.ended_text(group))
                .with_right(self.width(), Tone::Faint, &amount::span(until.saturating_sub(group.since))),
        );
        let named = group.rows.iter().filter(|row| !row.label.is_empty());
        for row in named.clone().filter(|row| !row.errors.is_empty()) {
            let error = row.errors.first().map_or("", String::as_str);
            lines.push(Self::detail(self.symbols.failed, Tone::Bad, &row.label, error));
        }
        // Beside a failure it does not matter what else was stopped by it.
        for row in named.filter(|_| !has_failed) {
            if let Some(running) = row.running.first() {
                lines.push(Self::detail("-", Tone::Warn, &row.label, &format!("stopped: {}", running.title)));
            }
        }
        lines
    }

    fn detail(mark: &str, tone: Tone, label: &str, text: &str) -> Line {
        Line::new().plain("   ").add(tone, mark).plain(" ").plain(label).plain("  ").plain(text)
    }

    fn output(&self, group: &Group) -> Vec<Line> {
        let skipped = group.output.len().saturating_sub(OUTPUT_LINES);
        let mut lines = Vec::new();
        if skipped > 0 {
            lines.push(
                Line::new()
                    .plain("   ")
                    .add(Tone::Faint, format!("… {} before", amount::counted_items(skipped, "line"))),
            );
        }
        lines.extend(
            group
                .output
                .iter()
                .skip(skipped)
                .map(|line| Line::new().plain("   ").add(Tone::Faint, "│ ").plain(line.trim_end())),
        );
        lines
    }

    fn ended_text(&self, group: &Group) -> String {
        let done = group.rows.iter().filter(|row| row.standing() == Standing::Done).count();
        let subject = match (&group.title, group.rows.as_slice()) {
            (Some(title), _) => title.clone(),
            (None, [row]) => row.label.clone(),
            (None, rows) if done == rows.len() => amount::counted_items(done, "host"),
            (None, rows) => format!("{done} of {} hosts", rows.len()),
        };
        let mut notes: Vec<&String> = group.rows.iter().flat_map(|row| &row.notes).collect();
        notes.sort();
        notes.dedup();
        let worth: Vec<&str> = match notes.len() {
            0 if group.title.is_none()
                && !group.rows.is_empty()
                && group.rows.iter().all(|row| {
                    row.standing() == Standing::Done && row.changed == 0 && row.last.is_some()
                }) =>
            {
                vec!["nothing to do"]
            }
            1..=2 if !group.has_failed() => notes.iter().map(|note| note.as_str()).collect(),
            _ => Vec::new(),
        };
        let text = std::iter::once(subject.as_str())
            .chain(worth)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(self.symbols.separator);
        short_revisions(&text)
    }
}

fn span_of(row: &Row, now: Duration) -> String {
    let since = row.since.unwrap_or(now);
    amount::span(row.until.unwrap_or(now).saturating_sub(since))
}

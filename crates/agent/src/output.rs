use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The most that is kept of what a run writes.
const MOST_BYTES: usize = 256 * 1024;
const MOST_LINES: usize = 10_000;

/// How much of it stands in the history itself.
const LAST_LINES: usize = 10;
const LAST_LINE_CHARACTERS: usize = 400;

/// The end of what a run wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    /// The number of the first line that is kept, counted from 0.
    first: u64,
    lines: VecDeque<String>,
    #[serde(skip)]
    bytes: usize,
}

impl Output {
    /// Appends a line; the oldest ones go.
    pub(crate) fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MOST_BYTES || self.lines.len() > MOST_LINES {
            let Some(gone) = self.lines.pop_front() else { return };
            self.bytes -= gone.len();
            self.first += 1;
        }
    }

    /// Returns the lines from one on, with the number of the first of them.
    pub(crate) fn after(&self, number: u64) -> (u64, Vec<String>) {
        let skipped = number.saturating_sub(self.first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.lines.len());
        let first = self.first + u64::try_from(skipped).unwrap_or_default();
        (first, self.lines.iter().skip(skipped).cloned().collect())
    }

    /// Returns the last lines, shortened.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let skipped = self.lines.len().saturating_sub(LAST_LINES);
        let shorten = |line: &String| line.chars().take(LAST_LINE_CHARACTERS).collect();
        self.lines.iter().skip(skipped).map(shorten).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_lines_keep_their_numbers() {
        let mut output = Output::default();
        for number in 0..MOST_LINES + 5 {
            output.push(number.to_string());
        }
        let (first, lines) = output.after(0);
        assert_eq!((first, lines.first().unwrap().as_str(), lines.len()), (5, "5", MOST_LINES));
        let (first, lines) = output.after(10_004);
        assert_eq!((first, lines), (10_004, vec!["10004".to_owned()]));
        assert_eq!(output.after(99_999).1, [""; 0]);
        assert_eq!(output.last_lines().len(), LAST_LINES);
        output.push("x".repeat(MOST_BYTES));
        assert_eq!(output.after(0).1.len(), 1);
        assert_eq!(output.last_lines().first().unwrap().len(), LAST_LINE_CHARACTERS);
    }
}

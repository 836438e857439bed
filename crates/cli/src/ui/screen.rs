use std::io::{self, Write};

use super::line::{Colours, Line};

/// The lower end of a terminal: lines that stay scroll away above a picture that is drawn again and again.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    colours: Colours,
    /// How many columns wide each line of the last picture was.
    drawn: Vec<usize>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Screen").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

impl Screen {
    pub(crate) fn new(out: Box<dyn Write + Send>, colours: Colours) -> Self {
        Self { out, colours, drawn: Vec::new() }
    }

    /// Writes lines that stay.
    pub(crate) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        self.draw(lines, &[], usize::MAX)
    }

    /// Writes lines that stay and a new picture below them, in one go so that nothing flickers.
    pub(crate) fn draw(&mut self, lasting: &[Line], picture: &[Line], columns: usize) -> io::Result<()> {
        if lasting.is_empty() && picture.is_empty() && self.drawn.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        let is_live = !self.drawn.is_empty() || !picture.is_empty();
        if is_live {
            // Synchronized output: terminals that know it show the whole change at once, others ignore it.
            text.push_str("\u{1b}[?2026h");
            // A window that became narrower has wrapped the old lines.
            let rows: usize = self.drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
            if rows > 0 {
                text.push_str(&format!("\r\u{1b}[{rows}A"));
            } else {
                text.push_str("\u{1b}[?25l");
            }
            text.push_str("\u{1b}[J");
        }
        for line in lasting.iter().chain(picture) {
            text.push_str(&line.render(self.colours));
            text.push('\n');
        }
        self.drawn = picture.iter().map(Line::width).collect();
        if is_live {
            if self.drawn.is_empty() {
                text.push_str("\u{1b}[?25h");
            }
            text.push_str("\u{1b}[?2026l");
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a text without a line feed, for a question.
    pub(crate) fn write_raw(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

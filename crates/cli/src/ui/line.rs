use freehold_model::printable;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a piece of text looks where colours are shown. Its meaning never rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As the terminal writes.
    Plain,
    /// What the eye should find.
    Strong,
    /// What can be passed over.
    Faint,
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// It needs a look.
    Warn,
    /// It is going on.
    Busy,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Warn => Some("33"),
            Self::Busy => Some("36"),
        }
    }
}

/// Whether escape sequences for colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    Shown,
    Hidden,
}

/// One line of output in pieces. What is put into it is made safe for a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends a text; line feeds in it become blanks.
    pub(crate) fn add(mut self, tone: Tone, text: impl AsRef<str>) -> Self {
        let text = printable(text.as_ref()).replace('\n', " ");
        if !text.is_empty() {
            self.pieces.push((tone, text));
        }
        self
    }

    pub(crate) fn plain(self, text: impl AsRef<str>) -> Self {
        self.add(Tone::Plain, text)
    }

    /// Returns how many columns it takes.
    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// Appends blanks until it is so many columns wide.
    pub(crate) fn pad_to(mut self, columns: usize) -> Self {
        let missing = columns.saturating_sub(self.width());
        if missing > 0 {
            self.pieces.push((Tone::Plain, " ".repeat(missing)));
        }
        self
    }

    /// Shortens it to so many columns; what was cut is shown by `…`.
    pub(crate) fn cut_to(self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(1);
        let mut pieces = Vec::new();
        for (tone, text) in self.pieces {
            let mut kept = String::new();
            let mut is_cut = false;
            for character in text.chars() {
                let width = character.width().unwrap_or(0);
                if width > left {
                    is_cut = true;
                    break;
                }
                left -= width;
                kept.push(character);
            }
            if is_cut {
                kept.push('…');
            }
            pieces.push((tone, kept));
            if is_cut {
                break;
            }
        }
        Self { pieces }
    }

    /// Puts a text at the right end of so many columns and cuts what stands before it if there is not enough room.
    pub(crate) fn with_right(self, columns: usize, tone: Tone, text: &str) -> Self {
        let room = columns.saturating_sub(text.width() + 1);
        self.cut_to(room).pad_to(columns.saturating_sub(text.width())).add(tone, text)
    }

    /// Returns its text without colours.
    pub(crate) fn text(&self) -> String {
        self.render(Colours::Hidden)
    }

    /// Says whether a piece of it has a tone.
    pub(crate) fn has_tone(&self, tone: Tone) -> bool {
        self.pieces.iter().any(|(other, _)| *other == tone)
    }

    /// Returns the line as a terminal gets it, without a line feed.
    pub(crate) fn render(&self, colours: Colours) -> String {
        let mut rendered = String::new();
        for (tone, text) in &self.pieces {
            match (tone.code(), colours) {
                (Some(code), Colours::Shown) => {
                    rendered.push_str("\u{1b}[");
                    rendered.push_str(code);
                    rendered.push('m');
                    rendered.push_str(text);
                    rendered.push_str("\u{1b}[0m");
                }
                _ => rendered.push_str(text),
            }
        }
        if colours == Colours::Hidden { rendered.trim_end().to_owned() } else { rendered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_filled_by_columns_not_bytes() {
        let line = Line::new().plain("日本語").add(Tone::Bad, "abc");
        assert_eq!(line.width(), 9);
        assert_eq!(line.clone().cut_to(6).render(Colours::Hidden), "日本…");
        assert_eq!(line.clone().cut_to(9), line);
        assert_eq!(line.with_right(12, Tone::Faint, "1s").render(Colours::Hidden), "日本語abc 1s");
    }

    #[test]
    fn what_a_host_says_cannot_move_the_cursor() {
        let line = Line::new().plain("a\u{1b}[2Jb\nc");
        assert_eq!(line.render(Colours::Shown), "a\\u{1b}[2Jb c");
    }
}

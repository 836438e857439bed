use super::line::{Line, Tone};

/// Rows of cells that line up.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// Makes a table with headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (Tone::Faint, (*heading).to_owned())).collect()] }
    }

    /// Appends a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [(Tone, String); N]) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Says whether there are headings only.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Lays the cells out.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(_, text)| Line::new().plain(text).width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = Vec::new();
        for row in &self.rows {
            let mut line = Line::new();
            let mut end = 0;
            for ((tone, text), width) in row.iter().zip(&widths) {
                line = line.pad_to(end).add(*tone, text);
                end += width + 2;
            }
            lines.push(line);
        }
        lines
    }
}

//! Tables as kubectl prints them: no borders, columns parted by spaces, headings in capitals.

use crate::style::Style;
use comfy_table::{Cell, Color, presets::NOTHING};

/// Least distance of columns; kubectl has three spaces.
const GAP: u16 = 3;

/// What a cell tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing of note.
    Plain,
    /// Well.
    Good,
    /// Under way or worth a look.
    Busy,
    /// Wrong.
    Bad,
}

impl Mood {
    /// The mood of a phase or a pod's state.
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "Ready" | "Running" | "True" | "ok" | "Normal" => Self::Good,
            "Failed" | "fail" | "CrashLoopBackOff" | "ImagePullBackOff" | "ErrImagePull"
            | "Error" => Self::Bad,
            "Paused" | "Completed" | "" => Self::Plain,
            _ => Self::Busy,
        }
    }
}

/// Rows of text under headings.
#[derive(Debug, Default)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<(String, Mood)>>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: vec![],
        }
    }

    /// The same rows alone, for programs that read lines.
    pub(crate) fn without_headings(self) -> Self {
        Self {
            headings: vec![],
            ..self
        }
    }

    /// Adds a row of plain cells.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.moody(cells.into_iter().map(|cell| (cell, Mood::Plain)).collect());
    }

    /// Adds a row of cells with moods. Much of what they say was written by tenants.
    pub(crate) fn moody(&mut self, cells: Vec<(String, Mood)>) {
        let cells = cells.into_iter();
        let shown = cells.map(|(text, mood)| (crate::output::visible(&text), mood));
        self.rows.push(shown.collect());
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text that ends with a line break. With `width`, the last column is cut so that no line is longer.
    pub(crate) fn render(&self, style: Style, width: Option<usize>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).force_no_tty();
        if style.is_on() {
            table.enforce_styling();
        }
        if !self.headings.is_empty() {
            table.set_header(self.headings.clone());
        }
        let room = width.map(|width| width.saturating_sub(self.width_before_last()));
        for row in &self.rows {
            let last = row.len().saturating_sub(1);
            table.add_row(row.iter().enumerate().map(|(at, (text, mood))| {
                let text = if at == last {
                    cut(text, room)
                } else {
                    text.clone()
                };
                coloured(Cell::new_owned(text), *mood)
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }

    fn width_before_last(&self) -> usize {
        let columns = self
            .headings
            .len()
            .max(self.rows.iter().map(Vec::len).max().unwrap_or_default());
        (0..columns.saturating_sub(1))
            .map(|at| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|row| row.get(at))
                    .map(|(text, _)| text.chars().count());
                let heading = self.headings.get(at).map_or(0, |heading| heading.len());
                cells.max().unwrap_or_default().max(heading) + usize::from(GAP)
            })
            .sum()
    }
}

/// Cuts `text` to `room` characters; a room too small to be of use cuts nothing.
fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if room >= 20 && text.chars().count() > room => {
            text.chars().take(room - 1).chain(['…']).collect()
        }
        _ => text.to_owned(),
    }
}

fn coloured(cell: Cell, mood: Mood) -> Cell {
    match mood {
        Mood::Plain => cell,
        Mood::Good => cell.fg(Color::DarkGreen),
        Mood::Busy => cell.fg(Color::DarkYellow),
        Mood::Bad => cell.fg(Color::DarkRed),
    }
}

/// The width of the terminal that standard output is, if it is one.
pub(crate) fn terminal_width() -> Option<usize> {
    comfy_table::Table::new().width().map(usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "PHASE", "MESSAGE"]);
        table.moody(vec![
            ("team-a".into(), Mood::Plain),
            ("Ready".into(), Mood::Good),
            (String::new(), Mood::Plain),
        ]);
        table.row(vec![
            "b".into(),
            "Provisioning".into(),
            "waiting for etcd-0, which has no node".into(),
        ]);
        table
    }

    #[test]
    fn cells_that_tenants_wrote_neither_steer_the_terminal_nor_forge_rows() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec!["x\nteam-b".into(), "\u{1b}[2JReady".into()]);
        let text = table.render(off(), None);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    fn off() -> Style {
        crate::style::plain()
    }

    #[test]
    fn columns_stand_apart_and_lines_end_clean() {
        expect![[r#"
            NAME     PHASE          MESSAGE
            team-a   Ready
            b        Provisioning   waiting for etcd-0, which has no node
        "#]]
        .assert_eq(&table().render(off(), None));
    }

    #[test]
    fn the_last_column_is_cut_to_the_terminal() {
        let text = table().render(off(), Some(50));
        assert!(
            text.lines().all(|line| line.chars().count() <= 50),
            "{text}"
        );
        assert!(text.contains("waiting for etcd-0, which…"), "{text}");
        assert_eq!(table().render(off(), Some(30)), table().render(off(), None));
    }

    #[test]
    fn a_table_without_headings_has_rows_only() {
        let mut table = Table::new(&["LEVEL", "TEXT"]).without_headings();
        table.row(vec!["ok".into(), "the cluster answers".into()]);
        assert_eq!(table.render(off(), None), "ok   the cluster answers\n");
    }
}

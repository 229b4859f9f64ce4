//! Tables and paragraphs that fit a terminal.

use std::io::IsTerminal;

use comfy_table::{
    Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle,
};
use unicode_width::UnicodeWidthStr;

/// Terminal columns left and right of a cell.
const MARGINS: usize = 2;

/// Narrowest terminal that a table is fitted to; a narrower one wraps lines.
const MIN_WIDTH: u16 = 40;

/// Where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Columns; none when the output is not a terminal.
    pub width: Option<u16>,
    /// Whether colours are welcome.
    pub colour: bool,
}

impl Terminal {
    /// Standard output as it is: colours only on a terminal that wants them
    /// (<https://no-color.org>).
    pub fn stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let plain = set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb");
        let width = Table::new().width().filter(|&columns| columns > 0);
        Self { width, colour: is_terminal && !plain }
    }
}

/// What is written on.
#[derive(Clone, Copy)]
pub struct Paper {
    pub width: Option<u16>,
    colour: bool,
}

impl Paper {
    pub fn new(Terminal { width, colour }: Terminal) -> Paper {
        Paper { width: width.map(|columns| columns.max(MIN_WIDTH)), colour }
    }

    /// Columns side by side under a rule; cells wrap when there is no room.
    pub fn table(self, columns: &[Column]) -> String {
        let mut table = Table::new();
        table
            .force_no_tty()
            .load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
        if self.colour {
            table.enforce_styling();
        }
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        let header = columns.iter().map(|column| {
            Cell::new(&column.header).set_alignment(column.alignment).add_attribute(Attribute::Dim)
        });
        table.set_header(header);
        let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
        table.add_rows((0..rows).map(|row| {
            let cells = columns.iter().map(move |column| {
                let cell = column.cells.get(row).cloned().unwrap_or_else(|| Cell::new(""));
                cell.set_alignment(column.alignment)
            });
            cells.collect::<Vec<_>>()
        }));
        table.trim_fmt()
    }

    /// A paragraph that wraps at the width.
    pub fn wrap(self, paragraph: &str) -> String {
        let mut table = Table::new();
        table.force_no_tty().load_style(TableStyle::new());
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        table.add_row([paragraph]);
        if let Some(column) = table.column_mut(0) {
            column.set_padding((0, 0));
        }
        table.trim_fmt()
    }

    pub fn heading(self, line: &str) -> String {
        if self.colour { format!("\u{1b}[1m{line}\u{1b}[0m") } else { line.to_owned() }
    }
}

/// A column of a table, before it is known whether it fits.
pub struct Column {
    pub header: String,
    pub alignment: CellAlignment,
    pub cells: Vec<Cell>,
}

impl Column {
    /// Terminal columns of the widest cell and its margins.
    pub fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.content().width());
        cells.chain([self.header.width()]).max().unwrap_or(0) + MARGINS
    }
}

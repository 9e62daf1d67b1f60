//! Tables for people, on a terminal.

use std::fmt::Write;

/// Space between columns.
const GAP: &str = "  ";

/// `rows` below `heads`, each column as wide as its widest text.
pub(super) fn render<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(|head| head.chars().count());
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let mut out = String::new();
    let heads = heads.map(str::to_owned);
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (width, text) in widths.iter().zip(row) {
            // Writing to a text does not fail.
            let written = write!(line, "{text:<width$}{GAP}");
            debug_assert!(written.is_ok());
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = [["a".to_owned(), "long text".to_owned()], ["bcd".to_owned(), String::new()]];
        assert_eq!(render(["ID", "NAME"], &rows), "ID   NAME\na    long text\nbcd\n");
    }
}

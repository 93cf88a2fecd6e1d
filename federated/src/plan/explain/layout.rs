//! Tables and paragraphs of plain text.

use std::fmt::Write as _;

/// The widest line.
const WIDTH: usize = 100;

/// A table with a head line; cells wrap inside their column's width.
pub(super) fn table(head: &[&str], widths: &[usize], rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    row(&mut out, &head, widths);
    let rule: usize = widths.iter().sum::<usize>() + widths.len() - 1;
    let _ = writeln!(out, "  {}", "-".repeat(rule.min(WIDTH - 2)));
    for cells in rows {
        row(&mut out, cells, widths);
    }
    out
}

fn row(out: &mut String, cells: &[String], widths: &[usize]) {
    let wrapped: Vec<Vec<String>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| wrap(cell, *width))
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = String::from(" ");
        for (cell, width) in wrapped.iter().zip(widths) {
            let part = cell.get(line).map_or("", String::as_str);
            let pad = width.saturating_sub(part.chars().count());
            let _ = write!(text, " {part}{}", " ".repeat(pad));
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
}

/// A text behind a lead, continued with an indent.
pub(super) fn paragraph(lead: &str, text: &str) -> String {
    let mut out = String::new();
    for (line, part) in wrap(&format!("{lead}{text}"), WIDTH - 6)
        .into_iter()
        .enumerate()
    {
        let indent = if line == 0 { "  " } else { "      " };
        let _ = writeln!(out, "{indent}{part}");
    }
    out
}

/// Lines of at most `width` characters, broken at spaces, inside words where there is none.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + rest.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            lines.push(rest.into_iter().collect());
            rest = tail;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += rest.len();
        line.extend(rest);
    }
    if length > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A number with separators: 120,000.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// About so many bytes, for people: 27.6 MB.
#[must_use]
pub fn bytes(number: u64) -> String {
    let mut unit = "B";
    let mut scaled = number.saturating_mul(10);
    for larger in ["kB", "MB", "GB", "TB"] {
        if scaled < 10_000 {
            break;
        }
        // Rounded to a tenth of the larger unit.
        scaled = scaled.saturating_add(500) / 1000;
        unit = larger;
    }
    if unit == "B" {
        return format!("{number} B");
    }
    format!("{}.{} {unit}", scaled / 10, scaled % 10)
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, wrap};

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.0 kB");
        assert_eq!(bytes(27_565_311), "27.6 MB");
    }

    #[test]
    fn lines_break_at_spaces_and_inside_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
    }
}

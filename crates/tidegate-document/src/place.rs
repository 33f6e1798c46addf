//! Place: a line and a column of a file.

use std::fmt;

/// A place in a file, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// Where the lines of a text begin, and which of its bytes begin no character: a place is found without reading the line.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    continuations: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        let positions = |is: fn(u8) -> bool| {
            text.bytes().enumerate().filter(move |(_, byte)| is(*byte)).map(|(at, _)| at)
        };
        let starts = std::iter::once(0).chain(positions(|byte| byte == b'\n').map(|at| at + 1)).collect();
        Self { text, starts, continuations: positions(|byte| byte & 0xC0 == 0x80).collect() }
    }

    /// The place of a byte.
    pub(crate) fn place(&self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = |end: usize| self.continuations.partition_point(|position| *position < end);
        Place { line, column: at - start - (before(at) - before(start)) + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters() {
        let text = "aé\u{1F30A}b\n\nü = 1";
        let lines = Lines::of(text);
        for (at, character) in text.char_indices() {
            let before = &text[..at];
            let start = before.rfind('\n').map_or(0, |end| end + 1);
            let expected =
                Place { line: before.matches('\n').count() + 1, column: text[start..at].chars().count() + 1 };
            assert_eq!(lines.place(at), expected, "{character}");
        }
        assert_eq!(lines.place(text.len() + 7), Place { line: 3, column: 6 });
    }

    #[test]
    fn a_place_far_into_a_line_costs_no_more_than_one_at_its_start() {
        let text = "é,".repeat(300_000);
        let lines = Lines::of(&text);
        // Counting from the start of the line each time, this would not end.
        let columns = (0..300_000).map(|at| lines.place(at * 3).column);
        assert!(columns.eq((0..300_000).map(|at| at * 2 + 1)));
    }
}

//! Standard output: [`print_line`] and [`print_text`] in place of `println!` and `print!`, which panic when no one reads the
//! output any more. The measurement goes on, and writes its files.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line on standard output.
macro_rules! print_line {
    ($($argument:tt)*) => {
        $crate::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Prints text without an end of line.
macro_rules! print_text {
    ($($argument:tt)*) => {
        $crate::output::write(format_args!($($argument)*))
    };
}

pub(crate) use print_line;
pub(crate) use print_text;

/// Writes to standard output, unless it is closed.
pub(crate) fn write(text: Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

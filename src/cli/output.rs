//! Standard output of commands: [`print_line`] and [`print_text`] in place of `println!` and `print!`, which panic when no
//! one reads the output any more, as in `tidegate token check | head -3`.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line on standard output.
macro_rules! print_line {
    ($($argument:tt)*) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Prints text without an end of line.
macro_rules! print_text {
    ($($argument:tt)*) => {
        $crate::cli::output::write(format_args!($($argument)*))
    };
}

pub(super) use print_line;
pub(super) use print_text;

/// Writes to standard output. If that is closed, the command goes on: its work and its exit code are the same, whether
/// someone reads or not.
pub(super) fn write(text: Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

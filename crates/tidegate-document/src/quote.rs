//! Quote: text from outside as it may be in a message.

/// On one line, without control characters, between quotation marks, and short.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let cut = text.char_indices().nth(LONGEST).map_or(text.len(), |(index, _)| index);
    let ellipsis = if cut < text.len() { "…" } else { "" };
    format!("\"{}{ellipsis}\"", text[..cut].escape_debug())
}

/// The same for a key or a path, without quotation marks.
pub fn plain(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

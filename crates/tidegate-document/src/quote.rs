//! Quoting foreign text for messages.

/// The text in quotation marks: on one line, without control characters, and shortened.
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

//! String literals in Rust source, and whether a sentence was made from one of them.

/// The string literals of a file, without escapes, and with the placeholders of `format!` as they are written.
pub(crate) fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in joined(source).lines() {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        let mut rest = line.replace("'\"'", "");
        while let Some(begin) = rest.find('"') {
            let Some(length) = end(&rest[begin + 1..]) else { break };
            found.push(unescaped(&rest[begin + 1..][..length]));
            rest = rest.split_off(begin + 1 + length + 1);
        }
    }
    found
}

/// Joins the lines of a literal that continues after a backslash.
fn joined(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

/// The end of a literal, counted from after its first quotation mark.
fn end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn unescaped(literal: &str) -> String {
    literal.replace("\\\"", "\"").replace("\\\\", "\\").replace("\\n", "\n")
}

/// Whether `format!` with this literal can make the text. Literals of less than eight characters do not count.
pub(crate) fn is_from(text: &str, literal: &str) -> bool {
    if text == literal {
        return true;
    }
    let literal = literal.replace("{{", "\0").replace("}}", "\u{1}");
    let mut pieces = Vec::new();
    for (at, part) in literal.split('{').enumerate() {
        let piece = if at == 0 { part } else { part.split_once('}').map_or("", |(_, behind)| behind) };
        pieces.push(piece.replace('\0', "{").replace('\u{1}', "}"));
    }
    if pieces.len() < 2 || pieces.iter().map(String::len).sum::<usize>() < 8 {
        return false;
    }
    let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
    let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
    let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
    for piece in &pieces[1..pieces.len() - 1] {
        let Some((_, behind)) = rest.split_once(piece.as_str()) else { return false };
        rest = behind;
    }
    true
}

#[test]
fn sentences_are_found_in_the_literals_that_make_them() {
    let source = "// \"no\"\nlet x = \"a \\\"b\\\" \\\n    c {n} d\"; ('\"', \"second\")";
    assert_eq!(literals(source), ["a \"b\" c {n} d", "second"]);
    for (text, literal, expected) in [
        ("at most 64 channels", "at most {max} channels", true),
        ("at most 64 channels here", "at most {max} channels", false),
        ("send {\"x\":1} first", "send {{\"x\":{n}}} first", true),
        ("anything", "{0}", false),
        ("", "at most {max} channels", false),
    ] {
        assert_eq!(is_from(text, literal), expected, "{text}");
    }
}

//! The fields of a log line in the text format. What a peer has sent stays on the line and cannot change the terminal.

use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format;

/// Formats fields as `name=value`, with spaces between them, and the message as it is.
pub(super) fn text_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let fields = format::debug_fn(|writer, field, value| {
        let text = one_line(&format!("{value:?}"));
        if field.name() == "message" { write!(writer, "{text}") } else { write!(writer, "{field}={text}") }
    });
    fields.delimited(" ")
}

/// Escapes all characters that begin a new line, control the terminal, or change the direction of text.
fn one_line(text: &str) -> String {
    let is_unsafe = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_unsafe(letter) {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;
    use std::sync::mpsc::Sender;

    use tracing::info;
    use tracing::subscriber::with_default;

    use super::*;

    struct Lines(Sender<Vec<u8>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_01_an_event_is_one_line_whatever_a_peer_has_sent() {
        let hostile = "a\r\nERROR forged=1\u{1b}[2J\u{9b}2J\u{7f}\0\u{2028}\u{202e}b \"quoted\" é";
        let (sender, written) = mpsc::channel();
        let logs = tracing_subscriber::fmt().with_writer(move || Lines(sender.clone())).with_ansi(false);
        with_default(logs.compact().fmt_fields(text_fields()).finish(), || {
            info!(shown = %hostile, text = hostile, debug = ?hostile, "message {hostile}");
        });
        let line = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        let body = line.strip_suffix('\n').unwrap();
        assert!(!body.contains(|letter: char| letter.is_control()), "{body:?}");
        assert!(!body.contains(['\u{2028}', '\u{202e}']), "{body:?}");
        for part in ["message a\\r\\nERROR forged=1\\u{1b}[2J", "shown=a\\r\\n", "text=\"a\\r\\n", " é"] {
            assert!(body.contains(part), "{part}: {body}");
        }
    }

    #[test]
    fn log_01_an_event_is_one_line_of_json() {
        let hostile = "a\r\nb\u{1b}[2J\"}\n{";
        let (sender, written) = mpsc::channel();
        let logs = tracing_subscriber::fmt().with_writer(move || Lines(sender.clone())).json();
        with_default(logs.flatten_event(true).finish(), || {
            info!(shown = %hostile, text = hostile, "message {hostile}");
        });
        let line = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.contains(['\r', '\u{1b}']), "{line:?}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["shown"], &event["text"]), (&hostile.into(), &hostile.into()));
    }
}

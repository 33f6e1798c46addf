//! Explain: a vocabulary in words, path by path: what a client may send and what comes of it, what it is sent, and what
//! it is never told.

pub mod message;
mod near;

use std::fmt::Write;

use tidegate_protocol::json;
use tidegate_protocol::subject::Pattern;
use toml::Table;
use toml::Value;

use crate::channel::Channel;
use crate::compile::compile;
use crate::source::Mistake;

/// What a client may be told beside answers and publications: the section, and of what it speaks.
const WORDS: [(&str, &str); 7] = [
    ("error", "errors"),
    ("gap", "gaps, where publications are missing"),
    ("stale", "a channel that has fallen silent"),
    ("unsubscribed", "a channel that ends unasked"),
    ("expiring", "a credential that is about to expire"),
    ("close", "the end of a session"),
    ("heartbeat", "pings in messages"),
];

/// A vocabulary in words; or all mistakes in its file.
pub fn explain(text: &str) -> Result<String, Vec<Mistake>> {
    compile(text)?;
    let file = File(toml::from_str(text).unwrap_or_default());
    let mut out = String::new();
    // Writing to a text does not fail.
    file.put(&mut out).ok();
    Ok(out)
}

/// A file that compiles.
struct File(Table);

impl File {
    fn put(&self, out: &mut String) -> std::fmt::Result {
        let root = &self.0;
        writeln!(out, "{}: {}", text(root, "name"), text(root, "description"))?;
        if let Some(protocol) = table(root, "protocol") {
            let offered = texts(protocol.get("subprotocols"));
            let needed = protocol.get("required").and_then(Value::as_bool).unwrap_or(false);
            if !offered.is_empty() {
                let must = if needed { "one of them must be offered" } else { "none has to be offered" };
                let own = text(root, "name");
                writeln!(out, "subprotocols: {}, {own}; {must}", offered.join(", "))?;
            }
        }
        for path in tables(root, "path") {
            self.put_path(path, out)?;
        }
        self.put_silence(out)?;
        self.put_calls(out)
    }

    fn put_path(&self, path: &Table, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\npath {} \"{}\"", text(path, "path"), text(path, "name"))?;
        for (key, words) in [
            ("token_query", "a credential may stand in the query as"),
            ("token_field", "a credential may stand in any message as"),
            ("label", "statistics call a session"),
        ] {
            if let Some(value) = path.get(key) {
                writeln!(out, "  {words} {}", json(value))?;
            }
        }
        for (left, right) in table(path, "require").into_iter().flatten() {
            writeln!(out, "  {left} must be {}", json(right))?;
        }
        let greeting = path.get("greeting").or_else(|| table(&self.0, "greeting")?.get("send"));
        match greeting {
            Some(greeting) => writeln!(out, "  who comes in is sent {}", json(greeting))?,
            None => writeln!(out, "  who comes in is not greeted")?,
        }
        for act in tables(path, "on_connect") {
            writeln!(out, "  at once: {}", done(act))?;
        }
        writeln!(out, "  a client may send")?;
        for rule in tables(&self.0, "receive").filter(|rule| is_for(rule, path)) {
            writeln!(out, "    {}", table(rule, "when").map_or_else(|| "any object".to_owned(), matched))?;
            writeln!(out, "      {}", done(rule))?;
            for line in said(rule) {
                writeln!(out, "      {line}")?;
            }
        }
        let heartbeat = table(&self.0, "heartbeat");
        if let Some(pong) = heartbeat.and_then(|heartbeat| table(heartbeat, "pong")) {
            writeln!(out, "    {}\n      answers a ping, and nothing more", matched(pong))?;
        }
        writeln!(out, "    anything else: {}", self.unknown())?;
        if let Some(ping) = heartbeat.and_then(|heartbeat| heartbeat.get("ping")) {
            let every = heartbeat.map(|heartbeat| text(heartbeat, "every")).filter(|every| !every.is_empty());
            let every = every.map_or_else(String::new, |every| format!(" every {every}"));
            writeln!(out, "  it is pinged{every} by {}", json(ping))?;
        }
        self.put_shown(path, out)
    }

    fn unknown(&self) -> String {
        let Some(unknown) = table(&self.0, "unknown") else { return "the error unknown_type".to_owned() };
        if unknown.contains_key("do") {
            return "nothing is done and nothing said".to_owned();
        }
        let code = unknown.get("code").and_then(Value::as_str).unwrap_or("unknown_type");
        let message = unknown.get("message").map(|message| format!(", {}", json(message)));
        format!("the error {code}{}", message.unwrap_or_default())
    }

    /// What is sent of the channels that can be joined here.
    fn put_shown(&self, path: &Table, out: &mut String) -> std::fmt::Result {
        let rules = tables(&self.0, "receive").filter(|rule| is_for(rule, path));
        let joins = |rule: &&Table| matches!(text(rule, "do"), "subscribe" | "replace");
        let joined = tables(path, "on_connect").chain(rules).filter(joins);
        let joined = joined.flat_map(|rule| texts(rule.get("channel").or_else(|| rule.get("channels"))));
        let joined: Vec<Pattern> =
            joined.filter_map(|channel| Some(Channel::compile(channel).ok()?.reach())).collect();
        let pattern = |show: &Table| Pattern::parse(text(show, "pattern")).ok();
        let shows = tables(&self.0, "deliver").filter(|show| is_for(show, path));
        let shows: Vec<(&Table, Pattern)> = shows.filter_map(|show| Some((show, pattern(show)?))).collect();
        writeln!(out, "  a client is sent, of channels that it has")?;
        for (show, pattern) in &shows {
            if joined.iter().any(|reach| pattern.overlaps(reach)) {
                let when = table(show, "when").map(|when| format!(", where {}", matched(when)));
                writeln!(out, "    {pattern}{}: {}", when.unwrap_or_default(), json_at(show, "send"))?;
            }
        }
        Ok(())
    }

    fn put_silence(&self, out: &mut String) -> std::fmt::Result {
        let has_words = |section: &str| match section {
            "heartbeat" => table(&self.0, section).is_some_and(|table| table.contains_key("ping")),
            section => table(&self.0, section).is_some_and(|table| table.contains_key("send")),
        };
        writeln!(out, "\non every path")?;
        for (section, of) in WORDS {
            match (has_words(section), table(&self.0, section).and_then(|table| table.get("send"))) {
                (true, Some(send)) => writeln!(out, "  of {of}: {}", json(send))?,
                (true, None) => {}
                (false, _) => writeln!(out, "  of {of}: nothing is said")?,
            }
        }
        for (section, words) in [("error", "the error"), ("close", "the end")] {
            let ends = table(&self.0, section).map(|table| match section {
                "error" => table.get("close").and_then(Value::as_table).into_iter().flatten().collect(),
                _ => table.iter().filter(|(name, _)| *name != "send").collect::<Vec<_>>(),
            });
            for (name, code) in ends.into_iter().flatten() {
                writeln!(out, "  {words} {name} closes with {}", json(code))?;
            }
        }
        Ok(())
    }

    fn put_calls(&self, out: &mut String) -> std::fmt::Result {
        for call in tables(&self.0, "http") {
            writeln!(out, "\nhttp {} {}", text(call, "method"), text(call, "path"))?;
            for (left, right) in table(call, "require").into_iter().flatten() {
                writeln!(out, "  {left} must be {}", json(right))?;
            }
            writeln!(out, "  {}", done(call))?;
            let status = call.get("status").map_or_else(|| "200".to_owned(), json);
            match call.get("send") {
                Some(send) if text(call, "do") != "receive" => {
                    writeln!(out, "  is answered {status} {}", json(send))?
                }
                Some(_) | None if text(call, "do") == "send" => writeln!(out, "  is answered {status}")?,
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// What comes of a message, an entrance or a call.
fn done(rule: &Table) -> String {
    let channels = texts(rule.get("channel").or_else(|| rule.get("channels"))).join(", ");
    let each = rule.get("each").map(|each| format!(", for each of {}", json(each))).unwrap_or_default();
    let group = rule.get("group").map(|group| format!(" in the group {}", json(group))).unwrap_or_default();
    let data = rule.get("data").map(json).unwrap_or_default();
    match text(rule, "do") {
        "subscribe" if rule.get("unique").and_then(Value::as_bool) == Some(true) => {
            format!("joins {channels}{each}{group}, which must be empty")
        }
        "subscribe" => format!("joins {channels}{each}{group}"),
        "replace" => format!("joins {channels}{each}{group}, and leaves what else is in it"),
        "unsubscribe" if channels.is_empty() => {
            let group = if group.is_empty() { " without a group".to_owned() } else { group };
            format!("leaves all channels{group}")
        }
        "unsubscribe" => format!("leaves {channels}{each}{group}"),
        "filter" => {
            let values = rule.get("in").map(json).unwrap_or_default();
            format!("from now on only those of {channels} whose {} is in {values}", text(rule, "field"))
        }
        "publish" => format!("publishes {data} on {}", text(rule, "subject")),
        "request" => format!("asks whoever answers on {} with {data}", text(rule, "subject")),
        "auth" => format!("shows the credential {}", json_at(rule, "token")),
        "send" | "pong" => "asks nothing of anybody else".to_owned(),
        "ignore" => "is ignored".to_owned(),
        "error" => {
            let code = rule.get("code").and_then(Value::as_str).unwrap_or("bad_request");
            format!("is refused: {code}, {}", json_at(rule, "message"))
        }
        "close" => {
            format!("ends the session with {}", rule.get("code").map_or_else(|| "1000".to_owned(), json))
        }
        "last" => format!("gives the last values of {channels}{each}"),
        "stats" => "gives figures of this vocabulary, of all nodes together".to_owned(),
        "receive" => "takes the body as a message, which [[receive]] judges".to_owned(),
        "health" => "says how the node is".to_owned(),
        "console" => "gives the test page, if it is on".to_owned(),
        other => other.to_owned(),
    }
}

/// What a client hears of its message.
fn said(rule: &Table) -> Vec<String> {
    let word = text(rule, "do");
    let mut lines: Vec<String> = Vec::new();
    for (left, right) in table(rule, "require").into_iter().flatten() {
        lines.push(format!("if {left} is {}", json(right)));
    }
    for (name, value) in table(rule, "keep").into_iter().flatten() {
        lines.push(format!("keeps {} as {{sub.{name}}}", json(value)));
    }
    for (name, value) in table(rule, "set").into_iter().flatten() {
        lines.push(format!("sets {{var.{name}}} to {}", json(value)));
    }
    let answer = rule.get("send").or_else(|| rule.get("confirm"));
    match answer {
        Some(answer) => lines.push(format!("and is answered {}", json(answer))),
        None if matches!(word, "ignore" | "error" | "close") => {}
        None => lines.push("and is not answered".to_owned()),
    }
    lines.extend(rule.get("refuse").map(|refuse| format!("if it is refused: {}", json(refuse))));
    lines
}

/// What a message or a publication must look like.
fn matched(when: &Table) -> String {
    let one = |value: &Value| match value {
        Value::Boolean(true) => "…".to_owned(),
        Value::Boolean(false) => "absent".to_owned(),
        Value::Table(inner) => matched(inner),
        Value::Array(list) => list.iter().map(json).collect::<Vec<_>>().join(" or "),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Datetime(_) => json(value),
    };
    let members: Vec<String> = when.iter().map(|(name, value)| format!("{name}: {}", one(value))).collect();
    if members.is_empty() { "any object".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
}

fn is_for(rule: &Table, path: &Table) -> bool {
    rule.get("path").is_none_or(|names| texts(Some(names)).contains(&text(path, "name")))
}

/// A template as JSON, holes and all, its members in the order of the file.
fn json(value: &Value) -> String {
    match value {
        Value::String(text) => json::string(text),
        Value::Array(list) => format!("[{}]", list.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Table(table) => {
            let members = table
                .iter()
                .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), json(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
    }
}

fn json_at(table: &Table, key: &str) -> String {
    table.get(key).map(json).unwrap_or_default()
}

fn text<'t>(table: &'t Table, key: &str) -> &'t str {
    table.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Table(_),
        )
        | None => Vec::new(),
    }
}

fn table<'t>(table: &'t Table, key: &str) -> Option<&'t Table> {
    table.get(key).and_then(Value::as_table)
}

fn tables<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}

#[cfg(test)]
mod tests;

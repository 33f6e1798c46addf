//! Explain: a vocabulary in words, path by path: what a client may send and what comes of it, what it is sent, and what
//! it is never told.

pub mod message;
mod near;

use std::fmt::Write;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::node::Value;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::compile::read;
use crate::source::json;

/// What a client may be told next to answers and publications: the section, and of what it speaks.
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
pub fn explain(text: &str) -> Result<String, Vec<Diagnostic>> {
    let (file, _) = read(text)?;
    let mut out = String::new();
    // Writing to a text does not fail.
    if let Some(root) = file.table() {
        File(root).put(&mut out).ok();
    }
    Ok(out)
}

/// A file that compiles.
struct File<'f>(&'f Table);

impl File<'_> {
    fn put(&self, out: &mut String) -> std::fmt::Result {
        let root = self.0;
        writeln!(out, "{}: {}", text(root, "name"), text(root, "description"))?;
        if let Some(protocol) = table(root, "protocol") {
            let offered = texts(protocol.get("subprotocols"));
            let needed = protocol.get("required").and_then(Node::boolean).unwrap_or(false);
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
        for (left, right) in entries(path, "require") {
            writeln!(out, "  {left} must be {}", json(right))?;
        }
        let greeting = path.get("greeting").or_else(|| table(self.0, "greeting")?.get("send"));
        match greeting {
            Some(greeting) => writeln!(out, "  who comes in is sent {}", json(greeting))?,
            None => writeln!(out, "  who comes in is not greeted")?,
        }
        for act in tables(path, "on_connect") {
            writeln!(out, "  at once: {}", done(act))?;
        }
        writeln!(out, "  a client may send")?;
        for rule in tables(self.0, "receive").filter(|rule| is_for(rule, path)) {
            writeln!(out, "    {}", table(rule, "when").map_or_else(|| "any object".to_owned(), matched))?;
            writeln!(out, "      {}", done(rule))?;
            for line in said(rule) {
                writeln!(out, "      {line}")?;
            }
        }
        let heartbeat = table(self.0, "heartbeat");
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
        let Some(unknown) = table(self.0, "unknown") else { return "the error unknown_type".to_owned() };
        if unknown.get("do").is_some() {
            return "nothing is done and nothing said".to_owned();
        }
        let code = unknown.get("code").and_then(Node::text).unwrap_or("unknown_type");
        let message = unknown.get("message").map(|message| format!(", {}", json(message)));
        format!("the error {code}{}", message.unwrap_or_default())
    }

    /// What is sent of the channels that can be joined here.
    fn put_shown(&self, path: &Table, out: &mut String) -> std::fmt::Result {
        let rules = tables(self.0, "receive").filter(|rule| is_for(rule, path));
        let joins = |rule: &&Table| matches!(text(rule, "do"), "subscribe" | "replace");
        let joined = tables(path, "on_connect").chain(rules).filter(joins);
        let joined = joined.flat_map(|rule| texts(rule.get("channel").or_else(|| rule.get("channels"))));
        let joined: Vec<Pattern> =
            joined.filter_map(|channel| Some(Channel::compile(channel).ok()?.reach())).collect();
        let pattern = |show: &Table| Pattern::parse(text(show, "pattern")).ok();
        let shows = tables(self.0, "deliver").filter(|show| is_for(show, path));
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
            "heartbeat" => table(self.0, section).is_some_and(|table| table.get("ping").is_some()),
            section => table(self.0, section).is_some_and(|table| table.get("send").is_some()),
        };
        writeln!(out, "\non every path")?;
        for (section, of) in WORDS {
            match (has_words(section), table(self.0, section).and_then(|table| table.get("send"))) {
                (true, Some(send)) => writeln!(out, "  of {of}: {}", json(send))?,
                (true, None) => {}
                (false, _) => writeln!(out, "  of {of}: nothing is said")?,
            }
        }
        for (section, words) in [("error", "the error"), ("close", "the end")] {
            let ends = table(self.0, section).map(|table| match section {
                "error" => entries(table, "close").collect(),
                _ => table.iter().filter(|(name, _)| *name != "send").collect::<Vec<_>>(),
            });
            for (name, code) in ends.into_iter().flatten() {
                writeln!(out, "  {words} {name} closes with {}", json(code))?;
            }
        }
        Ok(())
    }

    fn put_calls(&self, out: &mut String) -> std::fmt::Result {
        for call in tables(self.0, "http") {
            writeln!(out, "\nhttp {} {}", text(call, "method"), text(call, "path"))?;
            for (left, right) in entries(call, "require") {
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
        "subscribe" if rule.get("unique").and_then(Node::boolean) == Some(true) => {
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
            let code = rule.get("code").and_then(Node::text).unwrap_or("bad_request");
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
    for (left, right) in entries(rule, "require") {
        lines.push(format!("if {left} is {}", json(right)));
    }
    for (name, value) in entries(rule, "keep") {
        lines.push(format!("keeps {} as {{sub.{name}}}", json(value)));
    }
    for (name, value) in entries(rule, "set") {
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
    let one = |node: &Node| match &node.value {
        Value::Boolean(true) => "…".to_owned(),
        Value::Boolean(false) => "absent".to_owned(),
        Value::Table(inner) => matched(inner),
        Value::List(list) => list.iter().map(json).collect::<Vec<_>>().join(" or "),
        Value::Text(_) | Value::Whole(_) | Value::Float(_) | Value::Time(_) => json(node),
    };
    let members: Vec<String> = when.iter().map(|(name, value)| format!("{name}: {}", one(value))).collect();
    if members.is_empty() { "any object".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
}

fn is_for(rule: &Table, path: &Table) -> bool {
    rule.get("path").is_none_or(|names| texts(Some(names)).contains(&text(path, "name")))
}

fn json_at(table: &Table, key: &str) -> String {
    table.get(key).map(json).unwrap_or_default()
}

fn text<'t>(table: &'t Table, key: &str) -> &'t str {
    table.get(key).and_then(Node::text).unwrap_or_default()
}

fn texts(node: Option<&Node>) -> Vec<&str> {
    let list = node.and_then(Node::list).into_iter().flatten();
    node.into_iter().chain(list).filter_map(Node::text).collect()
}

fn table<'t>(table: &'t Table, key: &str) -> Option<&'t Table> {
    table.get(key).and_then(Node::table)
}

/// The keys and values of a table in a table.
fn entries<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = (&'t str, &'t Node)> {
    table.get(key).and_then(Node::table).into_iter().flat_map(Table::iter)
}

fn tables<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    table.get(key).and_then(Node::list).into_iter().flatten().filter_map(Node::table)
}

#[cfg(test)]
mod tests;

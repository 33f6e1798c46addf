//! Explain: describes a vocabulary in English, path by path: what clients may send, what happens then, what they are
//! sent, and what they are never told.

pub mod message;
mod nearest_rule;

use std::fmt::Write;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::node::Value;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::channel::MAX_DOTTED_TOKENS;
use crate::compile::read;
use crate::file::json;

/// The sections with messages other than answers and publications, and what each of them is about.
const SERVER_MESSAGES: [(&str, &str); 7] = [
    ("error", "errors"),
    ("gap", "gaps (missing publications)"),
    ("stale", "stale channels"),
    ("unsubscribed", "channels that the server ends"),
    ("expiring", "credentials that expire soon"),
    ("close", "the end of a session"),
    ("heartbeat", "pings in messages"),
];

/// Describes a vocabulary with these switches on, or returns all errors in its file.
pub fn explain(text: &str, switches: &[&str]) -> Result<String, Vec<Diagnostic>> {
    let (file, _) = read(text, switches)?;
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    if let Some(root) = file.table() {
        File(&without_off(root, switches)).put(switches, &mut out).ok();
    }
    Ok(out)
}

/// A file without the rules that are off.
pub(crate) fn without_off(root: &Table, switches: &[&str]) -> Table {
    let kept = |name: &str, node: &Node| match (name, &node.value) {
        ("receive" | "deliver" | "http" | "on_connect", Value::List(list)) => {
            let on = list.iter().filter(|node| node.table().is_none_or(|rule| is_on(rule, switches)));
            Node { value: Value::List(on.cloned().collect()), ..node.clone() }
        }
        ("path", Value::List(list)) => {
            let path = |node: &Node| match node.table() {
                Some(path) => Node { value: Value::Table(without_off(path, switches)), ..node.clone() },
                None => node.clone(),
            };
            Node { value: Value::List(list.iter().map(path).collect()), ..node.clone() }
        }
        _ => node.clone(),
    };
    Table(root.iter().map(|(name, node)| (name.to_owned(), kept(name, node))).collect())
}

/// Whether a rule is on.
pub(crate) fn is_on(rule: &Table, switches: &[&str]) -> bool {
    let has = |key| rule.get(key).and_then(Node::text).map(|name| switches.contains(&name));
    has("if").unwrap_or(true) && !has("unless").unwrap_or(false)
}

/// A file that compiles, with the rules that are on.
struct File<'f>(&'f Table);

impl File<'_> {
    fn put(&self, switches: &[&str], out: &mut String) -> std::fmt::Result {
        let root = self.0;
        writeln!(out, "{}: {}", text(root, "name"), text(root, "description"))?;
        for (name, description) in entries(root, "switches") {
            let state = if switches.contains(&name) { "on" } else { "off" };
            writeln!(out, "switch {name} is {state}: {}", description.text().unwrap_or_default())?;
        }
        if let Some(protocol) = table(root, "protocol") {
            let offered = texts(protocol.get("subprotocols"));
            let needed = protocol.get("required").and_then(Node::boolean).unwrap_or(false);
            if !offered.is_empty() {
                let must = if needed { "one of them is required" } else { "optional" };
                let own = text(root, "name");
                writeln!(out, "subprotocols: {}, {own}; {must}", offered.join(", "))?;
            }
        }
        for path in tables(root, "path") {
            self.put_path(path, out)?;
        }
        self.put_server_messages(out)?;
        self.put_http_routes(out)
    }

    fn put_path(&self, path: &Table, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\npath {} \"{}\"", text(path, "path"), text(path, "name"))?;
        for (key, words) in [
            ("token_query", "a credential may be in the query parameter"),
            ("token_field", "a credential may be in the message member"),
            ("label", "label in statistics:"),
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
            Some(greeting) => writeln!(out, "  on connect, the client is sent {}", json(greeting))?,
            None => writeln!(out, "  on connect, the client is sent nothing")?,
        }
        for act in tables(path, "on_connect") {
            writeln!(out, "  on connect: {}", action_of(act))?;
        }
        writeln!(out, "  a client may send")?;
        for rule in tables(self.0, "receive").filter(|rule| is_for(rule, path)) {
            writeln!(out, "    {}", table(rule, "when").map_or_else(|| "any object".to_owned(), when_of))?;
            writeln!(out, "      {}", action_of(rule))?;
            for line in details(rule) {
                writeln!(out, "      {line}")?;
            }
        }
        let heartbeat = table(self.0, "heartbeat");
        if let Some(pong) = heartbeat.and_then(|heartbeat| table(heartbeat, "pong")) {
            writeln!(out, "    {}\n      answers a ping of the server", when_of(pong))?;
        }
        writeln!(out, "    anything else: {}", self.unknown())?;
        if let Some(ping) = heartbeat.and_then(|heartbeat| heartbeat.get("ping")) {
            let every = heartbeat.map(|heartbeat| text(heartbeat, "every")).filter(|every| !every.is_empty());
            let every = every.map_or_else(String::new, |every| format!(" every {every}"));
            writeln!(out, "  the server pings{every} with {}", json(ping))?;
        }
        self.put_deliver_rules(path, out)
    }

    fn unknown(&self) -> String {
        let Some(unknown) = table(self.0, "unknown") else { return "the error unknown_type".to_owned() };
        if unknown.get("do").is_some() {
            return "is ignored".to_owned();
        }
        let code = unknown.get("code").and_then(Node::text).unwrap_or("unknown_type");
        let message = unknown.get("message").map(|message| format!(", {}", json(message)));
        format!("the error {code}{}", message.unwrap_or_default())
    }

    /// Describes what is sent for the channels that clients of a path can join.
    fn put_deliver_rules(&self, path: &Table, out: &mut String) -> std::fmt::Result {
        let rules = tables(self.0, "receive").filter(|rule| is_for(rule, path));
        let joins = |rule: &&Table| matches!(text(rule, "do"), "subscribe" | "replace");
        let joined = tables(path, "on_connect").chain(rules).filter(joins);
        let joined = joined.flat_map(|rule| texts(rule.get("channel").or_else(|| rule.get("channels"))));
        let joined: Vec<Pattern> =
            joined.filter_map(|channel| Some(Channel::compile(channel).ok()?.reach())).collect();
        let pattern = |show: &Table| Pattern::parse(text(show, "pattern")).ok();
        let shows = tables(self.0, "deliver").filter(|show| is_for(show, path));
        let shows: Vec<(&Table, Pattern)> = shows.filter_map(|show| Some((show, pattern(show)?))).collect();
        writeln!(out, "  a client receives, for its channels")?;
        for (show, pattern) in &shows {
            if joined.iter().any(|reach| pattern.overlaps(reach)) {
                let when = table(show, "when").map(|when| format!(", where {}", when_of(when)));
                let (when, each) = (when.unwrap_or_default(), each_of(show));
                writeln!(out, "    {pattern}{when}{each}: {}", json_at(show, "send"))?;
            }
        }
        Ok(())
    }

    fn put_server_messages(&self, out: &mut String) -> std::fmt::Result {
        let has_template = |section: &str| match section {
            "heartbeat" => table(self.0, section).is_some_and(|table| table.get("ping").is_some()),
            section => table(self.0, section).is_some_and(|table| table.get("send").is_some()),
        };
        writeln!(out, "\non every path")?;
        for (section, of) in SERVER_MESSAGES {
            match (has_template(section), table(self.0, section).and_then(|table| table.get("send"))) {
                (true, Some(send)) => writeln!(out, "  {of}: {}", json(send))?,
                (true, None) => {}
                (false, _) => writeln!(out, "  {of}: nothing is sent")?,
            }
        }
        for (section, words) in [("error", "the error"), ("close", "the reason")] {
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

    fn put_http_routes(&self, out: &mut String) -> std::fmt::Result {
        for call in tables(self.0, "http") {
            let when = table(call, "when").map(|when| format!(", where {}", when_of(when)));
            let (method, path) = (text(call, "method"), text(call, "path"));
            writeln!(out, "\nhttp {method} {path}{}", when.unwrap_or_default())?;
            for (left, right) in entries(call, "require") {
                writeln!(out, "  {left} must be {}", json(right))?;
            }
            writeln!(out, "  {}", action_of(call))?;
            let status = call.get("status").map_or_else(|| "200".to_owned(), json);
            match call.get("send") {
                Some(send) if text(call, "do") != "receive" => {
                    writeln!(out, "  responds with {status} {}", json(send))?
                }
                Some(_) | None if text(call, "do") == "send" => writeln!(out, "  responds with {status}")?,
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// How a rule takes publications apart, if it does.
fn each_of(show: &Table) -> String {
    let Some(each) = show.get("each") else { return String::new() };
    let channel = show.get("channel").map(|channel| format!(" to the channel {}", json(channel)));
    let collect = table(show, "collect")
        .map(|collect| format!(", together, the newest of each {}", json_at(collect, "by")));
    let each = format!(", each element of {}", json(each));
    each + &channel.unwrap_or_default() + &collect.unwrap_or_default()
}

/// What a message, a connection or an HTTP request does.
fn action_of(rule: &Table) -> String {
    let channels = texts(rule.get("channel").or_else(|| rule.get("channels"))).join(", ");
    let each = rule.get("each").map(|each| format!(", for each of {}", json(each))).unwrap_or_default();
    let group = rule.get("group").map(|group| format!(" in the group {}", json(group))).unwrap_or_default();
    let data = rule.get("data").map(json).unwrap_or_default();
    match text(rule, "do") {
        "subscribe" if rule.get("unique").and_then(Node::boolean) == Some(true) => {
            format!("joins {channels}{each}{group}, which must be empty")
        }
        "subscribe" => format!("joins {channels}{each}{group}"),
        "replace" => format!("joins {channels}{each}{group}, and leaves all others in it"),
        "unsubscribe" if channels.is_empty() => {
            let group = if group.is_empty() { " without a group".to_owned() } else { group };
            format!("leaves all channels{group}")
        }
        "unsubscribe" => format!("leaves {channels}{each}{group}"),
        "filter" => {
            let tests = [("in", "in"), ("not", "not in"), ("min", "at least"), ("max", "at most")];
            let tests = tests
                .into_iter()
                .filter_map(|(key, words)| Some(format!("{words} {}", json(rule.get(key)?))));
            let change = match text(rule, "change") {
                "add" => ", and what was chosen before",
                "remove" => ", which no longer counts",
                _ => "",
            };
            format!(
                "from now on receives only publications of {channels} whose {} is {}{change}",
                text(rule, "field"),
                tests.collect::<Vec<_>>().join(" and ")
            )
        }
        "publish" => format!("publishes {data} on {}", text(rule, "subject")),
        "request" => format!("sends the request {data} to {}", text(rule, "subject")),
        "auth" => format!("authenticates with {}", json_at(rule, "token")),
        "send" | "pong" => "only answers".to_owned(),
        "ignore" => "is ignored".to_owned(),
        "error" => {
            let code = rule.get("code").and_then(Node::text).unwrap_or("bad_request");
            format!("is refused: {code}, {}", json_at(rule, "message"))
        }
        "close" => {
            format!("closes the session with {}", rule.get("code").map_or_else(|| "1000".to_owned(), json))
        }
        "last" => format!("returns the last values of {channels}{each}"),
        "stats" => "returns statistics of this vocabulary on all nodes".to_owned(),
        "receive" => "handles the body as a message of a client, by [[receive]]".to_owned(),
        "health" => "returns the health of the node".to_owned(),
        "console" => "returns the test page, if http.console is on".to_owned(),
        other => other.to_owned(),
    }
}

/// What a client is sent for its message.
fn details(rule: &Table) -> Vec<String> {
    let word = text(rule, "do");
    let mut lines: Vec<String> = Vec::new();
    let mut subjects = ["channel", "channels", "subject"].into_iter().flat_map(|key| texts(rule.get(key)));
    let dotted = subjects.find_map(|text| Some(Channel::compile(text).ok()?.dotted()?.name.clone()));
    if let Some(name) = dotted {
        lines.push(format!("{{{name}|dotted}} may have dots: it becomes up to {MAX_DOTTED_TOKENS} tokens"));
    }
    for (left, right) in entries(rule, "require") {
        lines.push(format!("requires that {left} is {}", json(right)));
    }
    for (name, value) in entries(rule, "keep") {
        lines.push(format!("keeps {} as {{sub.{name}}}", json(value)));
    }
    for (name, value) in entries(rule, "set") {
        lines.push(format!("sets {{var.{name}}} to {}", json(value)));
    }
    let answer = rule.get("send").or_else(|| rule.get("confirm"));
    match answer {
        Some(answer) => lines.push(format!("the answer is {}", json(answer))),
        None if matches!(word, "ignore" | "error" | "close") => {}
        None => lines.push("there is no answer".to_owned()),
    }
    lines
        .extend(rule.get("refuse").map(|refuse| format!("on an error, the client is sent {}", json(refuse))));
    lines
}

/// A `when`, in short.
fn when_of(when: &Table) -> String {
    let one = |node: &Node| match &node.value {
        Value::Boolean(true) => "…".to_owned(),
        Value::Boolean(false) => "absent".to_owned(),
        Value::Table(inner) => when_of(inner),
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

/// The keys and values of a table within a table.
fn entries<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = (&'t str, &'t Node)> {
    table.get(key).and_then(Node::table).into_iter().flat_map(Table::iter)
}

fn tables<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    table.get(key).and_then(Node::list).into_iter().flatten().filter_map(Node::table)
}

#[cfg(test)]
mod tests;

//! One message in words: which rule takes it, what comes of it, what a role has to allow, and what is answered at once.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::node::Table;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::DecodeError;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::Connected;
use tidegate_protocol::message::Joining;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::SubscribeRequest;
use tidegate_protocol::message::Variables;

use crate::binding::Binding;
use crate::compile::read;
use crate::explain::json_at;
use crate::explain::matched;
use crate::explain::near::Near;
use crate::explain::near::nearest;
use crate::explain::table;
use crate::explain::tables;
use crate::explain::text;
use crate::inbound;

/// Who sends a message, and where it has come in.
#[derive(Clone, Debug)]
pub struct Sender<'s> {
    /// The path and the query. `None`: the file's first path, each parameter by its own name.
    pub target: Option<&'s str>,
    /// The user.
    pub user: &'s str,
    /// What else its token says, a JSON object.
    pub claims: Option<&'s str>,
}

/// Why a message cannot be explained.
#[derive(Debug)]
pub enum Unexplained {
    /// The file has mistakes.
    File(Vec<Diagnostic>),
    /// No path of the file is there.
    Elsewhere(String),
}

/// What comes of a message, in words.
pub fn explain_message(file: &str, sender: &Sender<'_>, message: &str) -> Result<String, Unexplained> {
    let (file, compiled) = read(file).map_err(Unexplained::File)?;
    let described = Arc::new(compiled.described);
    let nothing = Table::default();
    let root = file.table().unwrap_or(&nothing);
    let first = || described.paths.first().map(|path| path.template.replace(['{', '}'], ""));
    let target = sender.target.map(str::to_owned).or_else(first).unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let elsewhere = |_| {
        let known: Vec<&str> = described.paths.iter().map(|path| &*path.template).collect();
        Unexplained::Elsewhere(format!("nobody comes in at {path}: the paths are {}", known.join(", ")))
    };
    let binding = Arc::new(described.enter(VocabularyId(1), path, query, |_| None).map_err(elsewhere)?);
    let claims = sender.claims.map(claims).transpose().map_err(Unexplained::Elsewhere)?;
    let identity = Identity { user: sender.user.into(), claims, ..Identity::default() };
    let mut variables = Variables::default();
    let scope = SessionScope {
        session: "session",
        node: "node",
        identity: Some(&identity),
        ..SessionScope::default()
    };
    let mut out = format!("at {target}, as {}:\n", sender.user);
    let mut teller = Teller { root, binding: &binding, scope, out: &mut out };
    // Writing to a text does not fail.
    teller.enter(&mut variables).ok();
    let scope = SessionScope { variables: Some(&variables), ..scope };
    let mut teller = Teller { scope, ..teller };
    teller.tell(message, binding.decode(scope, &ClientMessage::Text(message.to_owned()))).ok();
    Ok(out)
}

/// The claims, if they are what a token can say.
fn claims(text: &str) -> Result<Arc<str>, String> {
    let wrong = |words: &str| {
        format!(
            "the claims {words}; write a JSON object between single quotes, such as '{{\"org\":\"acme\"}}'"
        )
    };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(text.into()),
        Ok(_) => Err(wrong("are JSON, but not an object")),
        Err(error) => Err(wrong(&format!("are not JSON ({error})"))),
    }
}

struct Teller<'t> {
    root: &'t Table,
    binding: &'t Binding,
    scope: SessionScope<'t>,
    out: &'t mut String,
}

impl<'t> Teller<'t> {
    /// What happens before the first message: the greeting, and what is joined at once.
    fn enter(&mut self, variables: &mut Variables) -> std::fmt::Result {
        if let Some(greeting) = self.binding.reply(self.scope, &Reply::Connected(connected())) {
            let greeting = String::from_utf8_lossy(greeting.message()).into_owned();
            writeln!(self.out, "who comes in is sent {greeting}")?;
        }
        for decoded in inbound::on_connect(self.binding, self.scope) {
            write!(self.out, "at once it ")?;
            match decoded {
                Ok(command) => {
                    let asked = command.asked().cloned();
                    if let Some(RequestContext::Message(question)) = &asked {
                        variables.set(&question.set);
                    }
                    self.command(&command, asked)?;
                }
                Err(DecodeError { asked, refusal }) => self.refused(asked, refusal)?,
            }
        }
        Ok(())
    }

    fn tell(&mut self, message: &str, decoded: Result<Command, DecodeError>) -> std::fmt::Result {
        match decoded {
            Ok(command) => {
                let asked = command.asked().cloned();
                if asked.is_some() {
                    self.rule(message, asked.as_ref())?;
                }
                self.command(&command, asked)
            }
            Err(DecodeError { asked, refusal }) => {
                self.rule(message, asked.as_ref())?;
                self.refused(asked, refusal)
            }
        }
    }

    fn command(&mut self, command: &Command, asked: Option<RequestContext>) -> std::fmt::Result {
        match command {
            Command::Subscribe { wanted, .. } => {
                if self.wanted(asked.as_ref(), wanted)? {
                    self.confirmed(asked)
                } else {
                    Ok(())
                }
            }
            Command::Unsubscribe { channels: Some(channels), group, .. } => {
                if self.channels("leaves", asked.as_ref(), channels)?.is_empty() {
                    return Ok(());
                }
                if !group.is_empty() {
                    writeln!(self.out, "in the group \"{group}\"")?;
                }
                self.confirmed(asked)
            }
            Command::Unsubscribe { channels: None, group, .. } => {
                writeln!(self.out, "leaves all of the group \"{group}\"")?;
                self.confirmed(asked)
            }
            Command::Filter { channel, .. } => {
                writeln!(self.out, "from now on lets only some publications of {channel} pass")?;
                self.confirmed(asked)
            }
            Command::Publish { channel, data, .. } => {
                writeln!(self.out, "publishes on {channel}: {}", String::from_utf8_lossy(data))?;
                writeln!(self.out, "a role has to allow: publish {channel}")?;
                self.confirmed(asked)
            }
            Command::Request { channel, data, .. } => {
                writeln!(self.out, "asks the service on {channel}: {}", String::from_utf8_lossy(data))?;
                writeln!(self.out, "a role has to allow: request {channel}")?;
                let answer = self.rule_of(asked.as_ref()).map(|(_, rule)| json_at(rule, "send"));
                writeln!(
                    self.out,
                    "the page is told, with what the service says: {}",
                    answer.unwrap_or_default()
                )
            }
            Command::Auth { .. } => writeln!(self.out, "shows a credential"),
            Command::Ping { .. } | Command::Say { .. } => self.answer(&Reply::Said { asked }),
            Command::Pong => writeln!(self.out, "it needs no answer, and nothing comes of it"),
            Command::Close { code, reason } => {
                writeln!(self.out, "ends the session with {code} \"{reason}\"")
            }
            // No rule asks for the former.
            Command::LastValues { .. } | Command::Statistics { .. } | Command::Echo(..) => Ok(()),
        }
    }

    /// Whether there is something to subscribe to.
    fn wanted(
        &mut self,
        asked: Option<&RequestContext>,
        wanted: &SubscribeRequest,
    ) -> Result<bool, std::fmt::Error> {
        let verb = if wanted.joining == Joining::Replace { "changes to" } else { "subscribes to" };
        let channels = self.channels(verb, asked, &wanted.channels)?;
        if channels.is_empty() {
            return Ok(false);
        }
        if !wanted.group.is_empty() {
            writeln!(self.out, "in the group \"{}\"", wanted.group)?;
        }
        writeln!(self.out, "a role has to allow: subscribe {}", channels.join(", "))?;
        Ok(true)
    }

    /// What the page is told once it is done, if there are words for it.
    fn confirmed(&mut self, asked: Option<RequestContext>) -> std::fmt::Result {
        match self.binding.reply(self.scope, &Reply::Said { asked }) {
            Some(frame) => {
                writeln!(
                    self.out,
                    "when that is done, the page is told {}",
                    String::from_utf8_lossy(frame.message())
                )
            }
            None => writeln!(self.out, "when that is done, the page is told nothing"),
        }
    }

    /// Those that have a name, and why others have none.
    fn channels<'c>(
        &mut self,
        verb: &str,
        asked: Option<&RequestContext>,
        channels: &'c [Result<String, ClientError>],
    ) -> Result<Vec<&'c str>, std::fmt::Error> {
        for refusal in channels.iter().filter_map(|channel| channel.as_ref().err()) {
            self.refused(asked.cloned(), refusal.clone())?;
        }
        let named: Vec<&str> = channels.iter().flatten().map(String::as_str).collect();
        if !named.is_empty() {
            writeln!(self.out, "{verb} {}", named.join(", "))?;
        }
        Ok(named)
    }

    fn refused(&mut self, asked: Option<RequestContext>, refusal: ClientError) -> std::fmt::Result {
        writeln!(self.out, "is refused: {}: {}", refusal.code.name(), refusal.message)?;
        self.answer(&Reply::Error { asked, channel: None, refusal })
    }

    /// Which rule has taken the message; of one that none takes, which one nearly did.
    fn rule(&mut self, message: &str, asked: Option<&RequestContext>) -> std::fmt::Result {
        if let Some((at, rule)) = self.rule_of(asked) {
            return writeln!(
                self.out,
                "receive[{at}] takes {}: do = \"{}\"",
                looked_for(rule),
                text(rule, "do")
            );
        }
        let near = nearest(self.binding, message).and_then(|Near { rule, lacks }| {
            let at = usize::from(rule.0).checked_sub(self.acts_on_connect())?;
            Some((at, tables(self.root, "receive").nth(at)?, lacks))
        });
        match near {
            Some((at, rule, lacks)) => writeln!(
                self.out,
                "no rule takes this; the nearest is receive[{at}] {}, but {}",
                looked_for(rule),
                lacks.join(" and ")
            ),
            None => writeln!(self.out, "no rule takes this"),
        }
    }

    fn rule_of(&self, asked: Option<&RequestContext>) -> Option<(usize, &'t Table)> {
        let Some(RequestContext::Message(question)) = asked else { return None };
        let at = usize::from(question.rule?.0).checked_sub(self.acts_on_connect())?;
        Some((at, tables(self.root, "receive").nth(at)?))
    }

    /// They come before the rules for messages.
    fn acts_on_connect(&self) -> usize {
        tables(self.root, "path").map(|path| tables(path, "on_connect").count()).sum()
    }

    fn answer(&mut self, reply: &Reply) -> std::fmt::Result {
        match self.binding.reply(self.scope, reply) {
            Some(frame) => {
                writeln!(self.out, "the page is told {}", String::from_utf8_lossy(frame.message()))
            }
            None => writeln!(self.out, "the page is told nothing"),
        }
    }
}

fn looked_for(rule: &Table) -> String {
    table(rule, "when").map_or_else(|| "any object".to_owned(), matched)
}

/// What a greeting cannot show is not looked at.
fn connected() -> Connected {
    Connected {
        session: "session".into(),
        user: "".into(),
        node: "node".into(),
        ping_interval: Duration::ZERO,
        expires_in: None,
        max_message: 0,
        max_subscriptions: 0,
    }
}

#[cfg(test)]
mod tests;

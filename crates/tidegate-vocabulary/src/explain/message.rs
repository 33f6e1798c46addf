//! Explains one message: the rule that matches it, what it does, the permissions it needs, and its answer.

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
use tidegate_protocol::message::JoinMode;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::SubscribeRequest;
use tidegate_protocol::message::Variables;
use tidegate_protocol::template::is_token_value;
use tidegate_protocol::user_token;

use crate::binding::Binding;
use crate::compile::read;
use crate::explain::is_on;
use crate::explain::json_at;
use crate::explain::nearest_rule::NearestRule;
use crate::explain::nearest_rule::nearest_rule;
use crate::explain::table;
use crate::explain::tables;
use crate::explain::text;
use crate::explain::when_of;
use crate::explain::without_off;
use crate::inbound;
use crate::model::CompiledVocabulary;

/// Who sends a message, and where the client is connected.
#[derive(Clone, Debug)]
pub struct Sender<'s> {
    /// The path and query. `None` means the first path of the file, with each parameter named by itself.
    pub target: Option<&'s str>,
    pub user: &'s str,
    /// Claims of the token besides the user, as a JSON object.
    pub claims: Option<&'s str>,
    /// The switches that are on.
    pub switches: &'s [&'s str],
}

/// Why a message cannot be explained.
#[derive(Debug)]
pub enum ExplainError {
    /// The file has errors.
    File(Vec<Diagnostic>),
    /// The path or the claims are wrong.
    Sender(String),
}

/// Explains what a message does.
pub fn explain_message(file: &str, sender: &Sender<'_>, message: &str) -> Result<String, ExplainError> {
    let (file, compiled) = read(file, sender.switches).map_err(ExplainError::File)?;
    // Only nodes that encode users accept such a name.
    let encoded_user =
        user_token::encode(sender.user).filter(|_| !is_token_value(sender.user)).map(Arc::from);
    let encodes_users = encoded_user.is_some();
    let vocabulary = Arc::new(CompiledVocabulary { encodes_users, ..compiled.vocabulary });
    let nothing = Table::default();
    let whole = file.table().unwrap_or(&nothing);
    let root = &without_off(whole, sender.switches);
    let rules = tables(whole, "receive").zip(0..).filter(|(rule, _)| is_on(rule, sender.switches));
    let places: Vec<usize> = rules.map(|(_, at)| at).collect();
    let first = || vocabulary.paths.first().map(|path| path.template.replace(['{', '}'], ""));
    let target = sender.target.map(str::to_owned).or_else(first).unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let unknown_path = |_| {
        let known: Vec<&str> = vocabulary.paths.iter().map(|path| &*path.template).collect();
        ExplainError::Sender(format!(
            "no path of this vocabulary matches {path}: its paths are {}",
            known.join(", ")
        ))
    };
    let binding = Arc::new(vocabulary.bind(VocabularyId(1), path, query, |_| None).map_err(unknown_path)?);
    let claims = sender.claims.map(claims).transpose().map_err(ExplainError::Sender)?.map(Arc::new);
    let identity = Identity { user: sender.user.into(), encoded_user, claims, ..Identity::default() };
    let mut variables = Variables::default();
    let scope = SessionScope {
        session: "session",
        node: "node",
        identity: Some(&identity),
        ..SessionScope::default()
    };
    let mut out = format!("at {target}, as {}:\n", sender.user);
    let mut explainer = MessageExplainer { root, places: &places, binding: &binding, scope, out: &mut out };
    // Writing to a `String` cannot fail.
    explainer.connected(&mut variables).ok();
    let scope = SessionScope { variables: Some(&variables), ..scope };
    let mut explainer = MessageExplainer { scope, ..explainer };
    explainer.decoded(message, binding.decode(scope, &ClientMessage::Text(message.to_owned()))).ok();
    Ok(out)
}

/// Checks that the claims are a JSON object.
fn claims(text: &str) -> Result<String, String> {
    let wrong = |words: &str| {
        format!(
            "the claims {words}; write a JSON object between single quotes, such as '{{\"org\":\"acme\"}}'"
        )
    };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(text.to_owned()),
        Ok(_) => Err(wrong("are JSON, but not an object")),
        Err(error) => Err(wrong(&format!("are not JSON ({error})"))),
    }
}

struct MessageExplainer<'t> {
    /// The file without the rules that are off.
    root: &'t Table,
    /// The places in the file of the `[[receive]]` rules that are on.
    places: &'t [usize],
    binding: &'t Binding,
    scope: SessionScope<'t>,
    out: &'t mut String,
}

impl<'t> MessageExplainer<'t> {
    /// Explains what happens before the first message: the greeting, and the rules of `on_connect`.
    fn connected(&mut self, variables: &mut Variables) -> std::fmt::Result {
        if let Some(greeting) = self.binding.reply(self.scope, &Reply::Connected(connected_reply())) {
            let greeting = String::from_utf8_lossy(greeting.message()).into_owned();
            writeln!(self.out, "on connect, the client is sent {greeting}")?;
        }
        for decoded in inbound::on_connect(self.binding, self.scope) {
            write!(self.out, "on connect, the client ")?;
            match decoded {
                Ok(command) => {
                    let request_context = command.request_context().cloned();
                    if let Some(RequestContext::Message(original)) = &request_context {
                        variables.set(&original.set);
                    }
                    self.command(&command, request_context)?;
                }
                Err(DecodeError { request_context, error }) => self.refused(request_context, error)?,
            }
        }
        Ok(())
    }

    fn decoded(&mut self, message: &str, decoded: Result<Command, DecodeError>) -> std::fmt::Result {
        match decoded {
            Ok(command) => {
                let request_context = command.request_context().cloned();
                if request_context.is_some() {
                    self.rule(message, request_context.as_ref())?;
                }
                self.command(&command, request_context)
            }
            Err(DecodeError { request_context, error }) => {
                self.rule(message, request_context.as_ref())?;
                self.refused(request_context, error)
            }
        }
    }

    fn command(&mut self, command: &Command, request_context: Option<RequestContext>) -> std::fmt::Result {
        match command {
            Command::Subscribe { wanted, .. } => {
                if self.subscription(request_context.as_ref(), wanted)? {
                    self.confirmed(request_context)
                } else {
                    Ok(())
                }
            }
            Command::Unsubscribe { channels: Some(channels), group, .. } => {
                if self.channels("leaves", request_context.as_ref(), channels)?.is_empty() {
                    return Ok(());
                }
                if !group.is_empty() {
                    writeln!(self.out, "in the group \"{group}\"")?;
                }
                self.confirmed(request_context)
            }
            Command::Unsubscribe { channels: None, group, .. } => {
                writeln!(self.out, "leaves all channels of the group \"{group}\"")?;
                self.confirmed(request_context)
            }
            Command::Filter { channel, .. } => {
                writeln!(
                    self.out,
                    "from now on receives only publications of {channel} that pass the filter"
                )?;
                self.confirmed(request_context)
            }
            Command::Publish { channel, data, .. } => {
                writeln!(self.out, "publishes on {channel}: {}", String::from_utf8_lossy(data))?;
                writeln!(self.out, "needs the permission: publish {channel}")?;
                self.confirmed(request_context)
            }
            Command::Request { channel, data, .. } => {
                writeln!(self.out, "sends a request to {channel}: {}", String::from_utf8_lossy(data))?;
                writeln!(self.out, "needs the permission: request {channel}")?;
                let answer = self.rule_of(request_context.as_ref()).map(|(_, rule)| json_at(rule, "send"));
                writeln!(
                    self.out,
                    "the client is sent, with the reply of the service: {}",
                    answer.unwrap_or_default()
                )
            }
            Command::Auth { .. } => writeln!(self.out, "authenticates with a credential"),
            Command::Ping { .. } | Command::Acknowledge { .. } => {
                self.answer(&Reply::Acknowledged { request_context })
            }
            Command::Pong => writeln!(self.out, "is ignored"),
            Command::Close { code, reason } => {
                writeln!(self.out, "closes the session with {code} \"{reason}\"")
            }
            // Only HTTP routes and the echo have these commands.
            Command::LastValues { .. } | Command::Statistics { .. } | Command::Echo(..) => Ok(()),
        }
    }

    /// Explains a subscription. False if it has no valid channel.
    fn subscription(
        &mut self,
        request_context: Option<&RequestContext>,
        wanted: &SubscribeRequest,
    ) -> Result<bool, std::fmt::Error> {
        let verb = if wanted.joining == JoinMode::Replace { "changes to" } else { "subscribes to" };
        let channels = self.channels(verb, request_context, &wanted.channels)?;
        if channels.is_empty() {
            return Ok(false);
        }
        if !wanted.group.is_empty() {
            writeln!(self.out, "in the group \"{}\"", wanted.group)?;
        }
        writeln!(self.out, "needs the permission: subscribe {}", channels.join(", "))?;
        Ok(true)
    }

    /// Explains the answer once the action is done.
    fn confirmed(&mut self, request_context: Option<RequestContext>) -> std::fmt::Result {
        match self.binding.reply(self.scope, &Reply::Acknowledged { request_context }) {
            Some(frame) => {
                writeln!(
                    self.out,
                    "on success, the client is sent {}",
                    String::from_utf8_lossy(frame.message())
                )
            }
            None => writeln!(self.out, "on success, the client is sent nothing"),
        }
    }

    /// Explains errors of invalid channels, and returns the valid ones.
    fn channels<'c>(
        &mut self,
        verb: &str,
        request_context: Option<&RequestContext>,
        channels: &'c [Result<String, ClientError>],
    ) -> Result<Vec<&'c str>, std::fmt::Error> {
        for error in channels.iter().filter_map(|channel| channel.as_ref().err()) {
            self.refused(request_context.cloned(), error.clone())?;
        }
        let named: Vec<&str> = channels.iter().flatten().map(String::as_str).collect();
        if !named.is_empty() {
            writeln!(self.out, "{verb} {}", named.join(", "))?;
        }
        Ok(named)
    }

    fn refused(&mut self, request_context: Option<RequestContext>, error: ClientError) -> std::fmt::Result {
        writeln!(self.out, "is refused: {}: {}", error.code.name(), error.message)?;
        self.answer(&Reply::Error { request_context, channel: None, error })
    }

    /// Names the rule that matches the message, or else the nearest rule.
    fn rule(&mut self, message: &str, request_context: Option<&RequestContext>) -> std::fmt::Result {
        if let Some((at, rule)) = self.rule_of(request_context) {
            return writeln!(
                self.out,
                "receive[{}] matches {}: do = \"{}\"",
                self.place(at),
                rule_when(rule),
                text(rule, "do")
            );
        }
        let near = nearest_rule(self.binding, message).and_then(|NearestRule { rule, mismatches }| {
            let at = usize::from(rule.0).checked_sub(self.on_connect_rules())?;
            Some((at, tables(self.root, "receive").nth(at)?, mismatches))
        });
        match near {
            Some((at, rule, mismatches)) => writeln!(
                self.out,
                "no rule matches this message; the closest is receive[{}] {}, but {}",
                self.place(at),
                rule_when(rule),
                mismatches.join(" and ")
            ),
            None => writeln!(self.out, "no rule matches this message"),
        }
    }

    fn rule_of(&self, request_context: Option<&RequestContext>) -> Option<(usize, &'t Table)> {
        let Some(RequestContext::Message(original)) = request_context else { return None };
        let at = usize::from(original.rule?.0).checked_sub(self.on_connect_rules())?;
        Some((at, tables(self.root, "receive").nth(at)?))
    }

    /// The place in the file of a rule that is on.
    fn place(&self, at: usize) -> usize {
        self.places.get(at).copied().unwrap_or(at)
    }

    /// The number of rules of `on_connect`. They have the first numbers.
    fn on_connect_rules(&self) -> usize {
        tables(self.root, "path").map(|path| tables(path, "on_connect").count()).sum()
    }

    fn answer(&mut self, reply: &Reply) -> std::fmt::Result {
        match self.binding.reply(self.scope, reply) {
            Some(frame) => {
                writeln!(self.out, "the client is sent {}", String::from_utf8_lossy(frame.message()))
            }
            None => writeln!(self.out, "the client is sent nothing"),
        }
    }
}

fn rule_when(rule: &Table) -> String {
    table(rule, "when").map_or_else(|| "any object".to_owned(), when_of)
}

/// Greetings do not show these values.
fn connected_reply() -> Connected {
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

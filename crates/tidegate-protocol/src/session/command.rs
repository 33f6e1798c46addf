//! What a session does with each command of its client. Channels, publishes and requests have files of their own.

use crate::class::Priority;
use crate::client_message::ClientMessage;
use crate::dialect::DecodeError;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::message::Command;
use crate::message::Filter;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::permissions::Permissions;
use crate::session::Output;
use crate::session::Pending;
use crate::session::Session;
use crate::session::phase::Phase;

impl Session {
    pub(super) fn received(&mut self, message: ClientMessage) {
        self.is_refused = false;
        self.charge(1);
        if !self.wait_for_identity(&message) {
            let decoded = self.dialect.decode(self.scope(), &message);
            self.decoded(decoded);
        }
    }

    /// Counts work of the client's against its rate, and for who shares a thread among clients.
    pub(super) fn charge(&mut self, commands: u32) {
        self.commands.owe(self.settings.commands, commands, self.now.instant);
        self.work = self.work.saturating_add(commands);
    }

    /// Whether a message has to wait until it is known whose it is: it brings a credential, or the name of a trusted
    /// user.
    fn wait_for_identity(&mut self, message: &ClientMessage) -> bool {
        let output = if let Some(token) = self.dialect.credential(message) {
            Output::Authenticate { token }
        } else if matches!(self.phase, Phase::Waiting { .. })
            && let Some(user) = self.dialect.claimed_user(self.scope(), message)
        {
            Output::TrustClientIdentity { user }
        } else {
            return false;
        };
        self.authenticate(Pending::Message(message.clone()), output);
        true
    }

    fn authenticate(&mut self, pending: Pending, output: Output) {
        if !self.takes_credentials {
            let asked = if let Pending::Command(asked) = pending { asked } else { None };
            let words = "a credential of a call stands in its header, and not in its message";
            return self.refuse(asked, None, ClientError::new(ErrorCode::Unsupported, words));
        }
        if self.pending.is_some() {
            let refusal =
                ClientError::new(ErrorCode::TryAgain, "a credential is being verified: send it again");
            return self.refuse(None, None, refusal);
        }
        self.pending = Some(Box::new(pending));
        self.outputs.push_back(output);
    }

    pub(super) fn decoded(&mut self, decoded: Result<Command, DecodeError>) {
        match decoded {
            Ok(command) => self.obey(command),
            Err(undecodable) => self.refuse(undecodable.asked, None, undecodable.refusal),
        }
    }

    fn obey(&mut self, command: Command) {
        let is_open = matches!(self.phase, Phase::Open(_));
        match command {
            Command::Auth { asked, token } => {
                self.authenticate(Pending::Command(asked), Output::Authenticate { token });
            }
            Command::Ping { asked } => {
                self.remember(asked.as_ref());
                self.reply(&Reply::Pong { asked }, Priority::High);
            }
            Command::Pong => {}
            Command::Close { code, reason } => self.end(code, &reason),
            Command::Echo(_, frame) => {
                self.outputs.push_back(Output::Send { frame, priority: Priority::Normal })
            }
            command @ (Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Filter { .. }
            | Command::Say { .. }
            | Command::Publish { .. }
            | Command::Request { .. }
            | Command::LastValues { .. }
            | Command::Statistics { .. })
                if !is_open =>
            {
                let words = "the session has no identity yet: send {\"type\":\"auth\",\"token\":…} first";
                self.refuse(command.asked().cloned(), None, ClientError::new(ErrorCode::Unauthorized, words));
            }
            Command::Subscribe { asked, wanted } => self.subscribe_all(asked, wanted),
            Command::Unsubscribe { asked, channels, group } => self.unsubscribe(asked, channels, &group),
            Command::Filter { asked, channel, filter } => self.filter(asked, channel, &filter),
            Command::Say { asked } => self.accept(asked),
            Command::Publish { asked, channel, data, headers } => self.publish(asked, channel, data, headers),
            Command::Request { asked, channel, data, timeout } => self.ask(asked, channel, data, timeout),
            Command::LastValues { asked, channels } => self.last_values(asked, &channels),
            Command::Statistics { asked } => self.statistics(asked),
        }
    }

    /// Remembers what an accepted message sets.
    pub(super) fn remember(&mut self, asked: Option<&RequestContext>) {
        if let Some(RequestContext::Message(question)) = asked {
            self.variables.set(&question.set);
        }
    }

    /// Does what is left to do for a message that is done at once, and says so.
    pub(super) fn accept(&mut self, asked: Option<RequestContext>) {
        self.remember(asked.as_ref());
        self.reply(&Reply::Said { asked }, Priority::High);
    }

    fn filter(&mut self, asked: Option<RequestContext>, channel: String, filter: &Filter) {
        let there = self.subscriptions.iter().filter(|subscription| subscription.pattern.as_str() == channel);
        let there: Vec<_> = there.map(|subscription| subscription.id).collect();
        if there.is_empty() {
            let refusal =
                ClientError::new(ErrorCode::NotSubscribed, "this session does not have the channel");
            return self.refuse(asked, Some(channel), refusal);
        }
        for subscription in there {
            self.outputs.push_back(Output::Filter { subscription, filter: filter.clone() });
        }
        self.accept(asked);
    }

    pub(super) fn permissions(&self) -> Result<&Permissions, ClientError> {
        let identity = self.identity().map(|identity| identity.permissions.as_ref());
        identity.ok_or_else(|| ClientError::new(ErrorCode::Unauthorized, "the session has no identity"))
    }
}

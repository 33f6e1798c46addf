//! What a session does with each command. Channels, publishes and requests have their own files.

use crate::class::Priority;
use crate::client_message::ClientMessage;
use crate::dialect::DecodeError;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::message::Command;
use crate::message::Filter;
use crate::message::FilterChange;
use crate::message::MAX_FILTER_VALUES;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::permissions::Permissions;
use crate::session::Output;
use crate::session::PendingAuth;
use crate::session::Session;
use crate::session::phase::Phase;

impl Session {
    pub(super) fn received(&mut self, message: ClientMessage) {
        self.has_rejected = false;
        self.charge(1);
        if !self.defer_until_identified(&message) {
            let decoded = self.dialect.decode(self.scope(), &message);
            self.handle_decoded(decoded);
        }
    }

    /// Counts work against the client's command rate, and for the scheduler of its shard.
    pub(super) fn charge(&mut self, commands: u32) {
        self.commands.overdraw(self.settings.commands, commands, self.now.instant);
        self.work = self.work.saturating_add(commands);
    }

    /// Postpones a message that carries a credential, or a user name that the endpoint trusts, until the identity is
    /// known.
    fn defer_until_identified(&mut self, message: &ClientMessage) -> bool {
        let output = if let Some(token) = self.dialect.credential(message) {
            Output::Authenticate { token }
        } else if matches!(self.phase, Phase::Waiting { .. })
            && let Some(user) = self.dialect.trusted_user(self.scope(), message)
        {
            Output::TrustIdentity { user }
        } else {
            return false;
        };
        self.authenticate(PendingAuth::Message(message.clone()), output);
        true
    }

    fn authenticate(&mut self, pending_auth: PendingAuth, output: Output) {
        if !self.accepts_credentials {
            let request_context =
                if let PendingAuth::Command(request_context) = pending_auth { request_context } else { None };
            let message = "send the credential of a call in its header, not in its message";
            return self.refuse(request_context, None, ClientError::new(ErrorCode::Unsupported, message));
        }
        if self.pending_auth.is_some() {
            let error =
                ClientError::new(ErrorCode::TryAgain, "a credential is being verified: send it again");
            return self.refuse(None, None, error);
        }
        self.pending_auth = Some(Box::new(pending_auth));
        self.outputs.push_back(output);
    }

    pub(super) fn handle_decoded(&mut self, decoded: Result<Command, DecodeError>) {
        match decoded {
            Ok(command) => self.execute(command),
            Err(undecodable) => self.refuse(undecodable.request_context, None, undecodable.error),
        }
    }

    fn execute(&mut self, command: Command) {
        let is_open = matches!(self.phase, Phase::Open(_));
        match command {
            Command::Auth { request_context, token } => {
                self.authenticate(PendingAuth::Command(request_context), Output::Authenticate { token });
            }
            Command::Ping { request_context } => {
                self.set_variables(request_context.as_ref());
                self.reply(&Reply::Pong { request_context }, Priority::High);
            }
            Command::Pong => {}
            Command::Close { code, reason } => self.end(code, &reason),
            Command::Echo(_, frame) => {
                self.outputs.push_back(Output::Send { frame, priority: Priority::Normal })
            }
            command @ (Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Filter { .. }
            | Command::Acknowledge { .. }
            | Command::Publish { .. }
            | Command::Request { .. }
            | Command::LastValues { .. }
            | Command::Statistics { .. })
                if !is_open =>
            {
                let message = "the session has no identity yet: send {\"type\":\"auth\",\"token\":…} first";
                self.refuse(
                    command.request_context().cloned(),
                    None,
                    ClientError::new(ErrorCode::Unauthorized, message),
                );
            }
            Command::Subscribe { request_context, wanted } => self.subscribe_all(request_context, wanted),
            Command::Unsubscribe { request_context, channels, group } => {
                self.unsubscribe(request_context, channels, &group)
            }
            Command::Filter { request_context, channel, filter, change } => {
                self.filter(request_context, channel, &filter, change)
            }
            Command::Acknowledge { request_context } => self.acknowledge(request_context),
            Command::Publish { request_context, channel, data, headers } => {
                self.publish(request_context, channel, data, headers)
            }
            Command::Request { request_context, channel, data, headers, timeout } => {
                self.request(request_context, channel, data, headers, timeout)
            }
            Command::LastValues { request_context, channels } => self.last_values(request_context, &channels),
            Command::Statistics { request_context } => self.statistics(request_context),
        }
    }

    /// Sets the variables that an accepted message defines.
    pub(super) fn set_variables(&mut self, request_context: Option<&RequestContext>) {
        if let Some(RequestContext::Message(original)) = request_context {
            self.variables.set(&original.set);
        }
    }

    /// Confirms a message that needs no further work.
    pub(super) fn acknowledge(&mut self, request_context: Option<RequestContext>) {
        self.set_variables(request_context.as_ref());
        self.reply(&Reply::Acknowledged { request_context }, Priority::High);
    }

    fn filter(
        &mut self,
        request_context: Option<RequestContext>,
        channel: String,
        filter: &Filter,
        change: FilterChange,
    ) {
        let there = self.subscriptions.iter().filter(|subscription| subscription.pattern.as_str() == channel);
        let changed = there.map(|subscription| {
            let context = subscription.subscription_context.as_deref();
            let before = context.and_then(|context| context.filter.borrow().clone());
            filter.changed(before.as_ref(), change).map(|filter| (subscription.id, filter))
        });
        let Some(changed) = changed.collect::<Option<Vec<_>>>() else {
            let message = format!("a filter has at most {MAX_FILTER_VALUES} values");
            let error = ClientError::new(ErrorCode::LimitExceeded, message);
            return self.refuse(request_context, Some(channel), error);
        };
        if changed.is_empty() {
            let error =
                ClientError::new(ErrorCode::NotSubscribed, "the session is not subscribed to this channel");
            return self.refuse(request_context, Some(channel), error);
        }
        for (subscription, filter) in changed {
            // Of several filters in one go, each changes the one before it.
            let context =
                self.subscriptions.get(subscription).and_then(|it| it.subscription_context.as_deref());
            if let Some(context) = context {
                context.set_filter(filter.clone());
            }
            self.outputs.push_back(Output::Filter { subscription, filter });
        }
        self.acknowledge(request_context);
    }

    pub(super) fn permissions(&self) -> Result<&Permissions, ClientError> {
        let identity = self.identity().map(|identity| identity.permissions.as_ref());
        identity.ok_or_else(|| ClientError::new(ErrorCode::Unauthorized, "the session has no identity"))
    }
}

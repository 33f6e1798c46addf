//! Who the client is, and whether it may subscribe: verifies credentials, and asks the services that decide.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::phase::Verified;
use tracing::debug;

use crate::auth::Unidentified;
use crate::auth::error::AuthError;
use crate::auth::policy::Via;
use crate::auth::service::ClientFacts;
use crate::auth::shares::AskedBy;
use crate::auth::shares::Asker;
use crate::auth::shares::ShareWait;
use crate::connection::Connection;
use crate::connection::pending_decisions::DecisionAbout;
use crate::hub::Subscribe;
use crate::node::refusals::Refused;
use crate::node::services;
use crate::node::services::ChannelReader;
use crate::node::services::ServiceRefusal;

impl Connection {
    /// Verifies a credential. Returns the resulting input, unless the keys of the token's issuer must be fetched first, or
    /// a service must judge it: then the input comes later, and the session takes no message until then.
    pub(super) fn authenticate(self: &Rc<Self>, token: String, now: Instant) -> Option<Input> {
        let verify = |connection: &Self, token: &str, now: Instant| {
            let wall = connection.context.clock.at(now).wall;
            connection.context.node.verify_now(&connection.policy, Via::Socket, token, wall)
        };
        let result = verify(self, &token, now);
        let pending = match result {
            Ok(identity) => return Some(self.on_identified(Ok(identity), &token, now)),
            Err(Unidentified::Refused(error)) => return Some(self.on_identified(Err(error), &token, now)),
            Err(Unidentified::NeedsKeys(pending)) => pending,
            Err(Unidentified::NeedsService(service)) => {
                let (node, policy) = (Arc::clone(&self.context.node), Arc::clone(&self.policy));
                let facts =
                    ClientFacts { address: self.log_context.client_address.ip(), ..ClientFacts::default() };
                let (asked, wall) = (token.clone(), self.context.clock.at(now).wall);
                let ask = async move {
                    let about = (&*policy.endpoint, &facts);
                    node.ask_connect_service(&service, Some(&asked), about, wall).await
                };
                self.spawn_decision(DecisionAbout::Credential, ask, move |connection, result, now| {
                    Some(connection.on_identified(result, &token, now))
                });
                return None;
            }
        };
        self.spawn_then(async move { pending.wait().await }, move |connection, (), now| {
            let result = verify(connection, &token, now);
            connection.on_identified(result.map_err(Unidentified::into_refusal), &token, now)
        });
        None
    }

    /// Turns the result of an authentication into an input, and counts the connection for its user. `credential` is for
    /// the log.
    pub(super) fn on_identified(
        &self,
        result: Result<Arc<Identity>, AuthError>,
        credential: &str,
        now: Instant,
    ) -> Input {
        match &result {
            Ok(identity) if self.log_context.is_another_user(identity) => {
                self.log_rejected_credential("other_user", credential);
            }
            Ok(identity) => self.note_identity(identity),
            Err(error) => self.log_rejected_credential(error.reason(), credential),
        }
        if result.as_ref().is_ok_and(|identity| !self.count_user(identity, now)) {
            return Input::Disconnect(Disconnect::TooManyConnections);
        }
        let result = result
            .map(|identity| Verified::at(identity, self.context.clock.at(now)))
            .map_err(|error| unauthorized(&error));
        Input::Authenticated(result)
    }

    /// Counts the connection for its user, once: later credentials are of the same user. Returns false if the user has
    /// too many. Where users have one connection, it replaces the earlier one instead.
    pub(super) fn count_user(&self, identity: &Identity, now: Instant) -> bool {
        let node = &self.context.node;
        if let Some(endpoint) =
            self.policy.one_connection_at.as_ref().filter(|_| self.transport.is_websocket())
        {
            let now = self.context.clock.at(now).wall;
            self.guard.register_only(&node.latest_connections, endpoint, identity, now);
            return true;
        }
        let counted = self.guard.count_user(&node.user_slots, identity);
        if let Err(error) = &counted {
            node.refusals.count(Refused::UserConnections);
            debug!(%error, "user has too many connections");
        }
        counted.is_ok()
    }

    /// Joins a channel, once all services that decide about it have allowed that.
    pub(super) fn authorize_and_join(self: &Rc<Self>, subscribe: Subscribe) -> Option<Input> {
        let services = services::of_channel(&self.settings.session.classes, &subscribe.pattern);
        if services.is_empty() {
            return self.join(subscribe);
        }
        // That of the session: it may have kept an earlier credential than the last one that was verified.
        let Some(identity) = self.session.borrow().identity().map(Arc::clone) else {
            let error = ClientError::new(ErrorCode::Unauthorized, "this channel needs an identity");
            return Some(Input::JoinFailed { subscription: subscribe.subscription, error });
        };
        let (endpoint, address) = (self.policy.endpoint.clone(), self.log_context.client_address.ip());
        // The session bounds how many of its questions wait, and a client that leaves a channel takes its question back.
        let asked_by = AskedBy { asker: self.asker(&identity, address), wait: ShareWait::Unlimited };
        let reader = ChannelReader { identity, endpoint, address, asked_by };
        let (node, channel) = (Arc::clone(&self.context.node), subscribe.pattern.clone());
        let ask = async move { node.authorize(&reader, &channel, &services).await };
        let about = DecisionAbout::Subscription(subscribe.subscription);
        self.spawn_decision(about, ask, move |connection, decision, _| {
            connection.on_decided(subscribe, decision)
        });
        None
    }

    /// Whose questions count together with those of this connection: its user's, or its address's if the client is anonymous
    /// or may only have claimed its user.
    fn asker(&self, identity: &Identity, address: Option<IpAddr>) -> Asker {
        let node = &self.context.node;
        let is_claimed = self.policy.identity_hint(Via::Socket).is_some() && !identity.has_token();
        if identity.anonymous || is_claimed {
            node.asker_at(address)
        } else {
            node.call_limiter.by_identity(identity).asker()
        }
    }

    /// Joins a channel if the services have allowed it, and if the client still wants it and its roles still allow it.
    fn on_decided(&self, subscribe: Subscribe, decision: Result<(), Box<ServiceRefusal>>) -> Option<Input> {
        let subscription = subscribe.subscription;
        if !self.session.borrow().is_joining(subscription) {
            return None;
        }
        match decision {
            Ok(()) => self.join(subscribe),
            Err(refusal) => {
                let ServiceRefusal { error, denied } = *refusal;
                Some(Input::JoinDenied { subscription, error, denied })
            }
        }
    }
}

fn unauthorized(error: &AuthError) -> ClientError {
    ClientError::new(error.code(), error.to_string())
}

//! Asks the services on NATS that decide for a node, over its control connection: who a client is, and whether it may read a
//! channel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::denied::DenialCause;
use tidegate_protocol::session::denied::Denied;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tracing::warn;

use crate::auth::decisions::Answer;
use crate::auth::decisions::Decisions;
use crate::auth::decisions::ServiceQuestion;
use crate::auth::decisions::Undecided;
use crate::auth::error::AuthError;
use crate::auth::service::ClientFacts;
use crate::auth::service::ConnectDecision;
use crate::auth::service::ConnectService;
use crate::auth::service::subscribe;
use crate::auth::service::subscribe::SubscribeDecision;
use crate::auth::service::subscribe::SubscribeQuestion;
use crate::auth::shares::AskedBy;
use crate::auth::shares::Asker;
use crate::auth::shares::ShareWait;
use crate::nats::control::ControlConnection;
use crate::nats::error::NatsError;
use crate::node::Node;
use crate::node::services::ChannelReader;
use crate::node::services::ServiceRefusal;
use crate::telemetry::limit::LimitByReason;

/// When a client should try again that the service has not answered about: as after close code 4004.
const RETRY_AFTER: Duration = Duration::from_secs(5);

static FAILURES: LimitByReason = LimitByReason::per_second(10);

impl Node {
    /// The identity that the service gives to a client.
    pub async fn ask_connect_service(
        self: &Arc<Self>,
        service: &ConnectService,
        credential: Option<&str>,
        (endpoint, facts): (&str, &ClientFacts),
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        let question = service.question(credential, endpoint, facts);
        let authenticator = self.authenticator();
        let read = move |answer: &[u8], asked| authenticator.read_connect_answer(answer, asked);
        let asked_by = AskedBy { asker: self.asker_at(facts.address), wait: ShareWait::Limited };
        match self.ask(&service.decisions, &service.config.subject, (&question, asked_by), read).await {
            Ok(ConnectDecision::Identity(identity)) => self.revocations.apply(identity, now),
            Ok(ConnectDecision::Refused(message)) => Err(AuthError::RefusedByService { message }),
            Err(undecided) => Err(AuthError::ServiceUnavailable { why: undecided, retry_after: RETRY_AFTER }),
        }
    }

    /// Whose questions those of a client at this address are that has proven nothing. All clients without an address, which
    /// come over a Unix socket, are one.
    pub fn asker_at(&self, address: Option<IpAddr>) -> Asker {
        address.map_or(Asker::Address(0), |address| self.call_limiter.by_address(address).asker())
    }

    /// Asks the services that decide about a channel, one after the other. Returns an error if one of them refuses, or gives
    /// no answer.
    pub async fn authorize(
        self: &Arc<Self>,
        reader: &ChannelReader,
        channel: &Pattern,
        services: &[Subject],
    ) -> Result<(), Box<ServiceRefusal>> {
        let ChannelReader { identity, endpoint, address, asked_by } = reader;
        let about = SubscribeQuestion { identity, channel, endpoint, address: *address };
        for subject in services {
            let question = about.to(subject);
            match self.ask_subscribe_service(subject, &question, *asked_by).await {
                Ok(SubscribeDecision::Allowed) => {}
                Ok(SubscribeDecision::Refused(message)) => {
                    let denied =
                        Denied::by_service(channel, DenialCause::Service { message: (&*message).into() });
                    return Err(ServiceRefusal::new(&*message, denied));
                }
                Err(undecided) => {
                    let (reason, detail) = (undecided.reason(), format!("{subject}: {undecided}").into());
                    let denied = Denied::by_service(channel, DenialCause::NoAnswer { reason, detail });
                    let message = format!(
                        "the service that decides about this channel gives no answer, because {undecided}: try again later"
                    );
                    return Err(ServiceRefusal::new(message, denied));
                }
            }
        }
        Ok(())
    }

    async fn ask_subscribe_service(
        self: &Arc<Self>,
        subject: &Subject,
        question: &ServiceQuestion,
        asked_by: AskedBy,
    ) -> Result<SubscribeDecision, Undecided> {
        let decisions = self.subscribe_services.at(subject).ok_or(Undecided::NoService)?;
        self.ask(decisions, subject, (question, asked_by), |answer, _| subscribe::read_answer(answer)).await
    }

    /// The decision about a question: one that is known, or what `read` makes of the service's answer and of the time when
    /// it was asked.
    async fn ask<A: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        decisions: &Arc<Decisions<A>>,
        subject: &Subject,
        (question, asked_by): (&ServiceQuestion, AskedBy),
        read: impl FnOnce(&[u8], SystemTime) -> Result<Answer<A>, String> + Send + 'static,
    ) -> Result<A, Undecided> {
        let ask = || {
            let (node, subject, json) = (Arc::clone(self), subject.clone(), question.json().clone());
            let limit = decisions.limit();
            async move {
                let asked = SystemTime::now();
                let answer = request(node.tickets.control(), &subject, json, limit).await;
                usable(&subject, answer, |answer| read(answer, asked))
            }
        };
        decisions.decide(question, asked_by, ask).await
    }

    /// Forgets what services have decided: a revocation may have changed it.
    pub fn forget_decisions(&self) {
        self.subscribe_services.forget_all();
        if let Some(service) = self.authenticator().service() {
            service.decisions.forget_all();
        }
    }
}

/// Sends a question, and waits for the answer.
async fn request(
    control: &ControlConnection,
    subject: &Subject,
    json: Bytes,
    limit: Duration,
) -> Result<Bytes, NatsError> {
    let client = control.client().await.ok_or(NatsError::Disconnected)?;
    client.request(subject, json, limit).await
}

/// The answer, if it can be used. Otherwise the log says why, at most ten times a second for each reason.
fn usable<A>(
    subject: &Subject,
    answer: Result<Bytes, NatsError>,
    read: impl FnOnce(&[u8]) -> Result<Answer<A>, String>,
) -> Result<Answer<A>, Undecided> {
    let failed = |undecided: Undecided, problem: String| {
        if let Some(suppressed) = FAILURES.pass(undecided.reason()) {
            warn!(
                subject = subject.as_str(),
                reason = undecided.reason(),
                problem,
                suppressed,
                "a service that decides for this node has given no answer: clients are told to try again"
            );
        }
        undecided
    };
    match answer {
        Ok(answer) => read(&answer).map_err(|problem| failed(Undecided::BadAnswer, problem)),
        Err(error) => {
            let undecided = match &error {
                NatsError::NoResponders => Undecided::NoService,
                NatsError::Timeout => Undecided::Timeout,
                NatsError::Service(_) => Undecided::BadAnswer,
                NatsError::Credentials { .. }
                | NatsError::InvalidInboxPrefix
                | NatsError::Disconnected
                | NatsError::Overloaded
                | NatsError::NoInbox
                | NatsError::ConnectionLost
                | NatsError::Unconfirmed
                | NatsError::Denied
                | NatsError::TooLarge { .. }
                | NatsError::StorageUnknown(_)
                | NatsError::StreamAway
                | NatsError::NotStored(_)
                | NatsError::NeverStored(_)
                | NatsError::Refused(_) => Undecided::Away,
            };
            Err(failed(undecided, error.to_string()))
        }
    }
}

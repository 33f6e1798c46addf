//! `Tickets`: issues and takes one-time tickets. Nodes share them in a key-value bucket of NATS. Without JetStream, each
//! node has its own.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tracing::info;
use tracing::warn;

use crate::auth::ticket::Ticket;
use crate::auth::ticket::TicketGrant;
use crate::config::secret::Secret;
use crate::nats::buckets;
use crate::nats::control::ControlConnection;
use crate::nats::key_value::Bucket;
use crate::nats::key_value::BucketError;
use crate::node::local_tickets::Full;
use crate::node::local_tickets::LocalTickets;
use crate::node::shared_counter::SharedCounter;
use crate::telemetry::limit::LogLimit;

/// How long a node without JetStream waits before it looks for it again, and how long one that NATS does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(1);

static LOCAL: LogLimit = LogLimit::every(30, 1);
static SHARED: LogLimit = LogLimit::every(30, 1);

/// The tickets of a node.
#[derive(Debug)]
pub struct Tickets {
    /// How long a ticket is valid. Zero: there are none.
    validity: Duration,
    control: ControlConnection,
    store: watch::Sender<Option<Store>>,
    /// Lets one request look for the bucket; the others wait for its result.
    looking: Semaphore,
    local: LocalTickets,
    /// What was issued, redeemed and refused.
    pub issued: SharedCounter,
    pub redeemed: SharedCounter,
    pub refused: SharedCounter,
}

/// Where tickets are kept.
#[derive(Clone, Debug)]
enum Store {
    /// In the bucket, for all nodes.
    Shared(Arc<Bucket>),
    /// In this process, until it is time to look for JetStream again.
    Local { until: Instant },
    /// Unknown: NATS has not answered. Until then, it is not asked again.
    Unknown { until: Instant },
}

/// Why there is no ticket, or why a ticket is refused.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum TicketError {
    #[error("this node issues no tickets: send a token, or set auth.ticket_s")]
    Off,
    #[error("the ticket is unknown, expired, or used: get a new one with POST /v1/ticket, and use it once")]
    Unknown,
    #[error("this node cannot check tickets while NATS is unavailable: try again later")]
    Away,
    #[error("this node has issued too many tickets that are not used: try again later")]
    Full,
    #[error(
        "this user has too many tickets: use each for one connection, and try again when they have ended"
    )]
    TooManyOfUser,
    #[error("this node cannot make tickets: the system has no random numbers")]
    NoRandomNumbers,
}

impl Tickets {
    /// `validity` is how long a ticket is valid.
    pub fn new(validity: Duration, control: ControlConnection) -> Self {
        Self {
            validity,
            control,
            store: watch::Sender::new(None),
            looking: Semaphore::new(1),
            local: LocalTickets::default(),
            issued: SharedCounter::default(),
            redeemed: SharedCounter::default(),
            refused: SharedCounter::default(),
        }
    }

    /// The connection over which nodes share tickets.
    pub fn control(&self) -> &ControlConnection {
        &self.control
    }

    /// How long a ticket is valid.
    pub fn validity(&self) -> Duration {
        self.validity
    }

    /// Makes a ticket for this credential, which has been verified. `user` is a hash of its user, and `origin` the page
    /// that asks for it.
    pub async fn issue(
        &self,
        user: u64,
        credential: Secret,
        from_cookie: bool,
        origin: Option<String>,
        now: SystemTime,
    ) -> Result<Ticket, TicketError> {
        if self.validity.is_zero() {
            return Err(TicketError::Off);
        }
        let expires = now.duration_since(UNIX_EPOCH).unwrap_or_default() + self.validity;
        let ticket = Ticket::random().map_err(|_| TicketError::NoRandomNumbers)?;
        let grant = TicketGrant { credential, from_cookie, origin, expires };
        let sealed = ticket.seal(&grant).ok_or(TicketError::NoRandomNumbers)?;
        match self.store().await {
            Store::Shared(bucket) => {
                let created = bucket.create(&ticket.id().text(), sealed.into()).await;
                if created.is_err() {
                    self.forget_store();
                    return Err(TicketError::Away);
                }
            }
            Store::Unknown { .. } => return Err(TicketError::Away),
            Store::Local { .. } => {
                let now = Instant::now();
                let inserted = self.local.insert(user, ticket.id(), sealed, now + self.validity, now);
                inserted.map_err(|full| match full {
                    Full::Node => TicketError::Full,
                    Full::User => TicketError::TooManyOfUser,
                })?;
            }
        }
        self.issued.count();
        Ok(ticket)
    }

    /// Takes a ticket, which then cannot be used again, and returns what it holds.
    pub async fn take(&self, ticket: &Ticket, now: SystemTime) -> Result<TicketGrant, TicketError> {
        let taken = self.take_uncounted(ticket, now).await;
        match &taken {
            Ok(_) => self.redeemed.count(),
            Err(TicketError::Unknown) => self.refused.count(),
            Err(
                TicketError::Off
                | TicketError::Away
                | TicketError::Full
                | TicketError::TooManyOfUser
                | TicketError::NoRandomNumbers,
            ) => {}
        }
        taken
    }

    async fn take_uncounted(&self, ticket: &Ticket, now: SystemTime) -> Result<TicketGrant, TicketError> {
        if self.validity.is_zero() {
            return Err(TicketError::Off);
        }
        let sealed = match self.local.take(&ticket.id()) {
            Some(sealed) => sealed,
            None => match self.store().await {
                Store::Unknown { .. } => return Err(TicketError::Away),
                Store::Local { .. } => return Err(TicketError::Unknown),
                Store::Shared(bucket) => match bucket.take(&ticket.id().text()).await {
                    Ok(Some(sealed)) => sealed.into(),
                    Ok(None) => return Err(TicketError::Unknown),
                    Err(_) => {
                        self.forget_store();
                        return Err(TicketError::Away);
                    }
                },
            },
        };
        ticket.open(sealed).filter(|grant| !grant.is_expired(now)).ok_or(TicketError::Unknown)
    }

    /// Where tickets are kept now.
    async fn store(&self) -> Store {
        if let Some(store) = self.current_store() {
            return store;
        }
        let _one = self.looking.acquire().await;
        if let Some(store) = self.current_store() {
            return store;
        }
        let found = match self.control.client().await {
            Some(client) => client.bucket(&buckets::TICKETS).await,
            None => Err(BucketError::Away),
        };
        let store = match found {
            Ok(bucket) => {
                if let Some(suppressed) = SHARED.pass() {
                    info!(bucket = buckets::TICKETS.name, suppressed, "tickets are valid on all nodes");
                }
                Store::Shared(Arc::new(bucket))
            }
            Err(BucketError::Away) => Store::Unknown { until: Instant::now() + ASK_AGAIN },
            Err(BucketError::Absent(problem)) => {
                if let Some(suppressed) = LOCAL.pass() {
                    warn!(
                        bucket = buckets::TICKETS.name,
                        problem,
                        suppressed,
                        "tickets are valid on this node only: give NATS JetStream, or the node the right to create the bucket"
                    );
                }
                Store::Local { until: Instant::now() + LOOK_AGAIN }
            }
        };
        self.store.send_replace(Some(store.clone()));
        store
    }

    /// What is known, if it is not too old.
    fn current_store(&self) -> Option<Store> {
        let store = self.store.borrow();
        store
            .as_ref()
            .filter(|store| match store {
                Store::Shared(_) => true,
                Store::Local { until } | Store::Unknown { until } => Instant::now() < *until,
            })
            .cloned()
    }

    /// The bucket may have been removed: looks for it again at the next use.
    fn forget_store(&self) {
        self.store.send_replace(None);
    }
}

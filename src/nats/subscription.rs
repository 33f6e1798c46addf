//! The subscriptions of a lane, over a connection of their own. It never drops anything; what is not taken is not read
//! either, and waits at the server.

use std::future::poll_fn;
use std::sync::Arc;

use tidegate_protocol::subject::Pattern;

use crate::hooks::Hooks;
use crate::hooks::fault_point;
use crate::nats::Nats;
use crate::nats::driver::Driver;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;

/// The subscriptions of one lane.
pub struct Subscriptions {
    driver: Driver,
    lane: usize,
    hooks: Hooks,
}

impl Subscriptions {
    /// None yet. The connection is made by whoever waits for [`Subscriptions::ready`].
    pub fn new(nats: &Nats) -> Self {
        Self {
            driver: Driver::new(Arc::clone(&nats.config), Arc::clone(&nats.name)),
            lane: nats.lane,
            hooks: nats.hooks.clone(),
        }
    }

    /// Subscribes. [`Incoming::Opened`] tells when the server knows; messages may come before.
    pub fn subscribe(&mut self, pattern: &Pattern) -> SubscriptionKey {
        self.driver.link.subscribe(pattern)
    }

    /// Unsubscribes. Messages that are on their way may still come.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.driver.link.unsubscribe(key);
    }

    /// Whether the connection is up.
    pub fn is_connected(&self) -> bool {
        self.driver.link.is_up()
    }

    /// Whether the server at its other end answers.
    pub fn is_answering(&self) -> bool {
        self.driver.link.is_answering()
    }

    /// The version of the server that the connection is to, or that was left because it is too old: `"2.15.1"`.
    pub fn server_version(&self) -> Option<&str> {
        self.driver.server_version()
    }

    /// Waits until there is something, and does meanwhile what the connection needs.
    pub async fn ready(&mut self) {
        self.hooks.pass_reader(self.lane).await;
        poll_fn(|context| self.driver.poll_ready(context)).await;
    }

    /// Whether there is more to take, or to read, as far as is known.
    pub fn may_have_more(&self) -> bool {
        self.driver.may_have_more()
    }

    /// Moves what is there to `batch`, until that has `max`.
    pub fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        if self.hooks.is_reader_held_up(self.lane) {
            return;
        }
        self.driver.take(max, batch);
        for incoming in batch.iter() {
            if let Incoming::Message(_, message) = incoming {
                fault_point!("panic in read", &message.payload());
            }
        }
    }
}

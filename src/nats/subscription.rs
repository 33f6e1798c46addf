//! The subscriptions of a lane, on a separate connection. It drops nothing: it reads only as fast as the lane
//! takes, and what is unread waits at the server.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use crate::hooks::Hooks;
use crate::hooks::fault_point;
use crate::nats::Nats;
use crate::nats::incoming::Incoming;
use crate::nats::link::Link;
use crate::nats::link_driver::LinkDriver;

pub struct Subscriptions {
    driver: LinkDriver,
    lane: usize,
    hooks: Hooks,
}

impl Subscriptions {
    /// Does not connect yet: [`Subscriptions::ready`] does.
    pub fn new(nats: &Nats) -> Self {
        Self {
            driver: LinkDriver::new(Arc::clone(&nats.config), Arc::clone(&nats.name)),
            lane: nats.lane,
            hooks: nats.hooks.clone(),
        }
    }

    /// The link, which subscribes and unsubscribes.
    pub fn link(&mut self) -> &mut Link {
        &mut self.driver.link
    }

    /// Whether the server answers `PING`s.
    pub fn is_answering(&self) -> bool {
        self.driver.link.is_answering()
    }

    /// The last round trip of a `PING`, which is sent in each `nats.ping_interval_s`. It is as long as what the lane has not
    /// read yet, because that comes before the answer. Returned once.
    pub fn take_round_trip(&mut self) -> Option<Duration> {
        self.driver.take_round_trip()
    }

    /// How often the server has ended the connection because the lane read too slowly, as far as the lane can tell.
    pub fn slow_ends(&self) -> u64 {
        self.driver.slow_ends()
    }

    /// The version of the connected server, or of one that is too old to be used: `"2.15.1"`.
    pub fn server_version(&self) -> Option<&str> {
        self.driver.server_version()
    }

    /// Waits until there is something to take. Connects, reads, writes and pings meanwhile.
    pub async fn ready(&mut self) {
        self.hooks.pass_reader(self.lane).await;
        poll_fn(|context| self.driver.poll_ready(context)).await;
    }

    /// Whether there may be more to take or to read at once.
    pub fn may_have_more(&self) -> bool {
        self.driver.may_have_more()
    }

    /// Moves events to `batch` until it has `max`.
    pub fn take(&mut self, max: usize, batch: &mut Vec<Incoming>) {
        if self.hooks.is_reader_paused(self.lane) {
            return;
        }
        self.driver.take(max, batch);
        for incoming in batch.iter() {
            if let Incoming::Message(_, message) = incoming {
                self.hooks.count_taken();
                fault_point!("panic in read", &message.payload());
            }
        }
    }
}

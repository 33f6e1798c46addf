//! What must hold after each action, and when nothing is left to do.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::lane::shard_index::ShardIndex;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::subject::Pattern;

use crate::action::Action;
use crate::ledger::Violation;
use crate::ledger::violation;
use crate::world::Bad;
use crate::world::World;
use crate::world::download;
use crate::world::upload;

/// Rounds after which a node must have come to rest.
const MAX_ROUNDS: usize = 5000;
/// The largest frame of a run, and more: an outbox that has room for nothing holds one, and a part of another.
const LARGEST_FRAME: usize = 12_000;
/// How time passes at the end of a run: long enough for everything that waits for it.
const PASSING_MS: [u64; 7] = [100, 200, 1000, 4000, 7000, 3500, 300];

impl World<'_> {
    /// Checks what holds after each action.
    pub(crate) fn check_always(&self) -> Result<(), Violation> {
        for (index, shard) in self.node.shards.iter().enumerate() {
            let (batches, bytes) = shard.inbox_size();
            if batches > 1 && bytes > self.setup.inbox_bytes || batches == 0 && bytes > 0 {
                return violation("bounds", format!("an inbox holds {bytes} bytes in {batches} batches"));
            }
            let connections = shard.connections.all();
            let mut members: BTreeMap<_, usize> = BTreeMap::new();
            for connection in &connections {
                let bytes = connection.subscriber.bytes();
                if bytes > 2 * self.setup.outbox.bytes + LARGEST_FRAME {
                    return violation("bounds", format!("an outbox holds {bytes} bytes"));
                }
                for pattern in connection.subscriber.map_members(|member| member.pattern.clone()) {
                    *members.entry(pattern).or_default() += 1;
                }
            }
            let hub = shard.context.hub.borrow();
            let all: usize = members.values().sum();
            if hub.subscriptions() != all as u64 {
                let counted = hub.subscriptions();
                return violation("hub", format!("shard {index} counts {counted} subscriptions of {all}"));
            }
            for pattern in &self.patterns {
                let (known, of) = (hub.subscriptions_to(pattern), members.get(pattern).copied());
                if known != of.unwrap_or_default() {
                    let text = format!("shard {index}: the topic of {pattern:?} has {known} of {of:?}");
                    return violation("hub", text);
                }
            }
        }
        Ok(())
    }

    /// Heals everything, lets everything happen that can, and checks what holds then.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.act_quietly(Action::Allow {})?;
        self.settle()?;
        // Each time, a short queue of a lane may have room for only one of the leaves that wait for it.
        let mut left = self.patterns.len();
        while left > 0 && self.check_wanted().is_err() {
            self.pass(Duration::from_millis(1))?;
            left -= 1;
        }
        for ms in PASSING_MS {
            self.pass(Duration::from_millis(ms))?;
        }
        self.check_each(|world, client| world.received[client].check_rest(&world.ledger))?;
        let mut last = Vec::new();
        for (subject, key, priority) in self.ledger.kinds() {
            last.push(self.publish(subject, key, priority, 0, Bad::No));
            self.settle()?;
        }
        for ms in [300, 300] {
            self.pass(Duration::from_millis(ms))?;
        }
        self.check_each(|world, client| {
            last.iter().try_for_each(|number| world.received[client].check_last(&world.ledger, *number))
        })?;
        self.check_each(|world, client| world.received[client].check_rest(&world.ledger))?;
        // A connection may have ended only now. Its leaves may wait for each other, and feeds linger.
        let mut left = 2 * self.patterns.len();
        while left > 0 && self.check_feeds().is_err() {
            self.pass(Duration::from_millis(400))?;
            left -= 1;
        }
        self.check_feeds()?;
        self.check_counters()
    }

    fn check_each(&self, check: impl Fn(&Self, usize) -> Result<(), Violation>) -> Result<(), Violation> {
        let connected = (0..self.clients.len()).filter(|client| self.clients[*client].socket.is_some());
        connected.into_iter().try_for_each(|client| check(self, client))
    }

    fn pass(&mut self, by: Duration) -> Result<(), Violation> {
        self.node.clock.advance(by);
        for shard in 0..u16::try_from(self.node.shards.len()).unwrap() {
            self.act_quietly(Action::Deadlines { shard })?;
            self.act_quietly(Action::Tick { shard })?;
        }
        self.settle()
    }

    /// Carries out all that is possible without time.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..MAX_ROUNDS {
            let moved = self.round()?;
            self.check_always()?;
            if !moved {
                return Ok(());
            }
        }
        violation("endless", "the node does not come to rest")
    }

    fn round(&mut self) -> Result<bool, Violation> {
        let mut moved = false;
        let denied = self.denied().clone();
        for at in 0..self.node.lanes.len() {
            let lane = u16::try_from(at).unwrap();
            moved |= self.act_quietly(Action::Restore { lane })?;
            moved |= upload(&mut self.node.lanes[at], &denied);
            moved |= download(&mut self.node.lanes[at], usize::MAX);
            // One at a time, so that no inbox is full.
            for _ in 0..100 {
                let is_busy = self.act_quietly(Action::Turn { lane, requests: 3, events: 15 })?;
                let has_delivered = self.deliver()?;
                if !is_busy && !has_delivered {
                    break;
                }
                moved = true;
            }
        }
        self.run_tasks()?;
        moved |= self.node.lanes.iter().any(|lane| lane.waiting_requests() > 0);
        for client in 0..self.clients.len() {
            while self.act_quietly(Action::Step { client: u16::try_from(client).unwrap() })? {
                moved = true;
            }
            moved |= self.read(client, usize::MAX)?;
        }
        Ok(moved)
    }

    /// Delivers and flushes all that shards have received.
    fn deliver(&mut self) -> Result<bool, Violation> {
        let mut moved = false;
        for shard in 0..u16::try_from(self.node.shards.len()).unwrap() {
            while self.act_quietly(Action::Pump { shard })? {
                moved = true;
            }
            while self.act_quietly(Action::Flush { shard })? {
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Each topic has a feed for its shards, in one lane.
    fn check_wanted(&self) -> Result<(), Violation> {
        for pattern in &self.patterns {
            let shards = self.node.shards.iter().enumerate();
            let topics: BTreeSet<_> = shards
                .filter(|(_, shard)| shard.context.hub.borrow().has_topic(pattern))
                .map(|(index, _)| ShardIndex(index))
                .collect();
            let lanes = self.node.lanes.iter().enumerate();
            let feeds: Vec<_> =
                lanes.filter(|(_, lane)| lane.lane.feeds().activity(pattern).is_some()).collect();
            if feeds.len() > 1 {
                return violation("feeds", format!("{} lanes have {pattern:?}", feeds.len()));
            }
            let wanted: BTreeSet<_> =
                feeds.iter().flat_map(|(_, lane)| lane.lane.feeds().shards_of(pattern)).collect();
            if topics != wanted {
                let text = format!("{pattern:?}: topics on {topics:?}, feeds for {wanted:?}");
                return violation("feeds", text);
            }
        }
        Ok(())
    }

    /// Feeds, topics and the subscriptions on NATS agree, and nothing is kept that no shard wants.
    fn check_feeds(&self) -> Result<(), Violation> {
        self.check_wanted()?;
        let kept = |pattern: &Pattern| {
            let classes = self.setup.classes.iter().map(|class| &class.class);
            classes.into_iter().any(|class| class.feed == FeedBy::Always && class.pattern == *pattern)
        };
        for pattern in self.patterns.iter().filter(|pattern| !kept(pattern)) {
            let is_wanted =
                self.node.shards.iter().any(|shard| shard.context.hub.borrow().has_topic(pattern));
            let has_feed = self.node.lanes.iter().any(|lane| lane.lane.feeds().activity(pattern).is_some());
            if has_feed && !is_wanted {
                return violation("feeds", format!("a feed of {pattern:?} has stayed"));
            }
        }
        for (index, lane) in self.node.lanes.iter().enumerate() {
            let (ours, theirs) = (lane.lane.feeds().subscriptions(), lane.server.as_ref());
            let theirs = theirs.map_or(0, |server| server.patterns().len());
            if ours != theirs {
                let text = format!("lane {index} has {ours} subscriptions, its server {theirs}");
                return violation("feeds", text);
            }
        }
        Ok(())
    }

    /// The counters of shards agree with what clients have received.
    fn check_counters(&self) -> Result<(), Violation> {
        // What a connection has written and the client has not read is lost when the connection ends.
        if self.counts.hang_ups + self.counts.closes + self.counts.resets > 0 {
            return Ok(());
        }
        let received: u64 = self.received.iter().map(|received| received.counts.deliveries).sum();
        let reports = self.node.shards.iter().map(|shard| shard.context.counts.report());
        let delivered: u64 = reports.map(|report| report.delivered.iter().sum::<u64>()).sum();
        if received != delivered {
            let text = format!("shards count {delivered} deliveries, and clients have received {received}");
            return violation("counters", text);
        }
        Ok(())
    }
}

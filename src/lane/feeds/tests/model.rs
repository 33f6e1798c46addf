//! Compares the table with channels that each have their own NATS subscription, for any order of events.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::sample::subsequence;

use super::*;

const CHANNELS: [&str; 12] = [
    "user.a", "user.b", "user.a.n", "user.b.n", "user.*", "user.>", "user.*.n", "user.a.>", "b.x",
    "user.*.*", "b.*", ">",
];
const SUBJECTS: [&str; 10] =
    ["user.a", "user.b", "user.c", "user.a.n", "user.b.n", "user.c.n", "b.x", "other", "user.*", "user.>"];
const CLASSES: [&str; 7] = ["user.>", "user.*", "user.*.n", "user.a", "user.a.>", "b.*", ">"];

#[derive(Clone, Debug)]
enum Event {
    Join { shard: usize, channel: &'static str },
    Leave { shard: usize, channel: &'static str },
    Open,
    Publish(&'static str),
    Malformed { subscription: usize },
    Interrupted { subscription: usize },
    LinkLost,
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    let (shard, channel) = (0..2_usize, select(&CHANNELS[..]));
    prop_oneof![
        6 => (shard.clone(), channel.clone()).prop_map(|(shard, channel)| Event::Join { shard, channel }),
        3 => (shard, channel).prop_map(|(shard, channel)| Event::Leave { shard, channel }),
        3 => Just(Event::Open),
        8 => select(&SUBJECTS[..]).prop_map(Event::Publish),
        1 => (0..9_usize).prop_map(|subscription| Event::Malformed { subscription }),
        1 => (0..9_usize).prop_map(|subscription| Event::Interrupted { subscription }),
        1 => Just(Event::LinkLost),
        2 => Just(Event::Sweep),
    ]
}

fn classes() -> impl Strategy<Value = Vec<Class>> {
    let feed = select(&[FeedBy::Subject, FeedBy::Pattern][..]);
    (subsequence(&CLASSES[..], 0..=CLASSES.len()), vec(feed, CLASSES.len())).prop_map(|(patterns, feeds)| {
        patterns.into_iter().zip(feeds).map(|(pattern, feed)| class(pattern, feed)).collect()
    })
}

/// The shards that wait for or read each channel, and the NATS subscriptions by pattern: whether each is open.
struct Model {
    classes: Classes,
    waiting: Vec<(usize, &'static str)>,
    joined: BTreeSet<(usize, &'static str)>,
    /// Channels whose last item was a gap of unknown size.
    gap_reported: BTreeSet<&'static str>,
    open: BTreeMap<Pattern, bool>,
}

impl Model {
    fn source(&self, channel: &str) -> Pattern {
        let pattern = pattern(channel);
        self.classes.of(&pattern).feed_pattern(&pattern).clone()
    }

    fn join(&mut self, shard: usize, channel: &'static str) -> Vec<String> {
        let source = self.source(channel);
        if !*self.open.entry(source).or_default() {
            self.waiting.push((shard, channel));
            return Vec::new();
        }
        self.joined.insert((shard, channel));
        self.gap_reported.remove(channel);
        vec![format!("{shard} joined {channel}")]
    }

    fn open(&mut self) -> Vec<String> {
        self.open.values_mut().for_each(|open| *open = true);
        let waiting = std::mem::take(&mut self.waiting);
        sorted(waiting.into_iter().flat_map(|(shard, channel)| self.join(shard, channel)).collect())
    }

    fn leave(&mut self, left: (usize, &'static str)) {
        self.waiting.retain(|waits| *waits != left);
        self.joined.remove(&left);
    }

    /// Each channel has its own subscription.
    fn publish(&mut self, subject: &str) -> Vec<String> {
        self.gap_reported.retain(|channel| !pattern(channel).matches(subject));
        let matches = |(_, channel): &&(usize, &str)| pattern(channel).matches(subject);
        let description = |(shard, channel): &(usize, &str)| format!("{shard} publication {channel}");
        sorted(self.joined.iter().filter(matches).map(description).collect())
    }

    fn malformed(&self, source: &Pattern) -> Vec<String> {
        let own = self.joined.iter().filter(|(_, channel)| *channel == source.as_str());
        sorted(own.map(|(shard, channel)| format!("{shard} lost {channel} Some(1)")).collect())
    }

    fn interrupted(&mut self, source: &Pattern) -> Vec<String> {
        self.open.insert(source.clone(), false);
        let mut outgoing = Vec::new();
        for &(shard, channel) in &self.joined {
            if self.source(channel) == *source && !self.gap_reported.contains(channel) {
                outgoing.push((channel, true, format!("{shard} lost {channel} None")));
            }
        }
        self.record_gaps(outgoing)
    }

    fn link_lost(&mut self) -> Vec<String> {
        self.open.values_mut().for_each(|open| *open = false);
        let is_new = |(_, channel): &&(usize, &'static str)| !self.gap_reported.contains(channel);
        let description = |&(shard, channel): &(usize, &'static str)| {
            (channel, true, format!("{shard} lost {channel} None"))
        };
        let outgoing = self.joined.iter().filter(is_new).map(description).collect();
        self.record_gaps(outgoing)
    }

    fn record_gaps(&mut self, outgoing: Vec<(&'static str, bool, String)>) -> Vec<String> {
        self.gap_reported
            .extend(outgoing.iter().filter(|(_, unknown, _)| *unknown).map(|(channel, ..)| *channel));
        sorted(outgoing.into_iter().map(|(.., descriptions)| descriptions).collect())
    }

    /// Removes what no shard wants.
    fn sweep(&mut self) {
        let wanted: BTreeSet<_> =
            self.waiting.iter().chain(&self.joined).map(|(_, channel)| *channel).collect();
        let sources: BTreeSet<_> = wanted.iter().map(|channel| self.source(channel)).collect();
        self.open.retain(|source, _| sources.contains(source));
        self.gap_reported.retain(|channel| wanted.contains(channel));
    }
}

fn sorted(mut descriptions: Vec<String>) -> Vec<String> {
    descriptions.sort();
    descriptions
}

fn apply(table: &mut TestFeeds, model: &mut Model, event: &Event) -> (Vec<String>, Vec<String>) {
    match *event {
        Event::Join { shard, channel } => (table.join(shard, channel), model.join(shard, channel)),
        Event::Leave { shard, channel } => {
            table.leave(shard, channel, 0);
            model.leave((shard, channel));
            (Vec::new(), Vec::new())
        }
        Event::Open => {
            let known = (0..table.made.len()).filter(|&key| table.made[key].is_some());
            let keys: Vec<_> = known.map(|key| u32::try_from(key).unwrap()).collect();
            (sorted(keys.into_iter().flat_map(|key| table.opened(key)).collect()), model.open())
        }
        Event::Publish(subject) => {
            // NATS delivers once to each subscription that it has.
            let matching = |key: &usize| table.made[*key].as_ref().is_some_and(|made| made.matches(subject));
            let keys: Vec<_> = (0..table.made.len()).filter(matching).collect();
            let outgoing =
                keys.into_iter().flat_map(|key| table.message(u32::try_from(key).unwrap(), subject));
            (sorted(outgoing.collect()), model.publish(subject))
        }
        Event::Malformed { subscription } => {
            let Some(source) = table.made.get(subscription).cloned().flatten() else {
                return (Vec::new(), Vec::new());
            };
            (table.malformed(u32::try_from(subscription).unwrap()), model.malformed(&source))
        }
        Event::Interrupted { subscription } => {
            let Some(source) = table.made.get(subscription).cloned().flatten() else {
                return (Vec::new(), Vec::new());
            };
            (table.interrupted(u32::try_from(subscription).unwrap()), model.interrupted(&source))
        }
        Event::LinkLost => {
            (table.outgoing_of(|feeds, _, outgoing| feeds.link_lost(outgoing)), model.link_lost())
        }
        Event::Sweep => {
            table.sweep(5);
            model.sweep();
            (Vec::new(), Vec::new())
        }
    }
}

proptest! {
    #[test]
    fn every_channel_gets_what_a_subscription_of_its_own_would_bring(
        configured in classes(),
        events in vec(event(), 0..80),
    ) {
        let mut table = TestFeeds::new(configured.clone());
        let mut model = Model {
            classes: Classes::new(configured),
            waiting: Vec::new(),
            joined: BTreeSet::new(),
            gap_reported: BTreeSet::new(),
            open: BTreeMap::new(),
        };
        for event in events {
            let (outgoing, expected) = apply(&mut table, &mut model, &event);
            prop_assert_eq!(outgoing, expected, "{:?}", event);
            if matches!(event, Event::Sweep) {
                let mut subscribed = table.subscribed();
                subscribed.sort_unstable();
                let needed: Vec<_> = model.open.keys().map(Pattern::as_str).collect();
                prop_assert_eq!(subscribed, needed, "one for each source, and no other");
            }
        }
    }
}

//! The table in any order of happenings, against channels that each have a NATS subscription of their own.

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
enum Happening {
    Join { shard: usize, channel: &'static str },
    Leave { shard: usize, channel: &'static str },
    Open,
    Publish(&'static str),
    Malformed { subscription: usize },
    Interrupted { subscription: usize },
    LinkLost,
    Sweep,
}

fn happening() -> impl Strategy<Value = Happening> {
    let (shard, channel) = (0..2_usize, select(&CHANNELS[..]));
    prop_oneof![
        6 => (shard.clone(), channel.clone()).prop_map(|(shard, channel)| Happening::Join { shard, channel }),
        3 => (shard, channel).prop_map(|(shard, channel)| Happening::Leave { shard, channel }),
        3 => Just(Happening::Open),
        8 => select(&SUBJECTS[..]).prop_map(Happening::Publish),
        1 => (0..9_usize).prop_map(|subscription| Happening::Malformed { subscription }),
        1 => (0..9_usize).prop_map(|subscription| Happening::Interrupted { subscription }),
        1 => Just(Happening::LinkLost),
        2 => Just(Happening::Sweep),
    ]
}

fn classes() -> impl Strategy<Value = Vec<Class>> {
    let feed = select(&[FeedBy::Subject, FeedBy::Pattern][..]);
    (subsequence(&CLASSES[..], 0..=CLASSES.len()), vec(feed, CLASSES.len())).prop_map(|(patterns, feeds)| {
        patterns.into_iter().zip(feeds).map(|(pattern, feed)| class(pattern, feed)).collect()
    })
}

/// Who listens to what, and what NATS knows: by the pattern of the subscription, whether it is open.
struct Model {
    classes: Classes,
    waiting: Vec<(usize, &'static str)>,
    joined: BTreeSet<(usize, &'static str)>,
    /// Channels of whose loss all who listen have heard, and nothing has come since.
    loss_said: BTreeSet<&'static str>,
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
        self.loss_said.remove(channel);
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

    /// As if each channel had a subscription of its own.
    fn publish(&mut self, subject: &str) -> Vec<String> {
        self.loss_said.retain(|channel| !pattern(channel).matches(subject));
        let hears = |(_, channel): &&(usize, &str)| pattern(channel).matches(subject);
        let tell = |(shard, channel): &(usize, &str)| format!("{shard} publication {channel}");
        sorted(self.joined.iter().filter(hears).map(tell).collect())
    }

    fn malformed(&self, source: &Pattern) -> Vec<String> {
        let own = self.joined.iter().filter(|(_, channel)| *channel == source.as_str());
        sorted(own.map(|(shard, channel)| format!("{shard} lost {channel} Some(1)")).collect())
    }

    fn interrupted(&mut self, source: &Pattern) -> Vec<String> {
        self.open.insert(source.clone(), false);
        let mut outgoing = Vec::new();
        for &(shard, channel) in &self.joined {
            if self.source(channel) == *source && !self.loss_said.contains(channel) {
                outgoing.push((channel, true, format!("{shard} lost {channel} None")));
            }
        }
        self.said(outgoing)
    }

    fn link_lost(&mut self) -> Vec<String> {
        self.open.values_mut().for_each(|open| *open = false);
        let news = |(_, channel): &&(usize, &'static str)| !self.loss_said.contains(channel);
        let tell = |&(shard, channel): &(usize, &'static str)| {
            (channel, true, format!("{shard} lost {channel} None"))
        };
        let outgoing = self.joined.iter().filter(news).map(tell).collect();
        self.said(outgoing)
    }

    fn said(&mut self, outgoing: Vec<(&'static str, bool, String)>) -> Vec<String> {
        self.loss_said
            .extend(outgoing.iter().filter(|(_, unknown, _)| *unknown).map(|(channel, ..)| *channel));
        sorted(outgoing.into_iter().map(|(.., words)| words).collect())
    }

    /// Forgets what no one wants.
    fn sweep(&mut self) {
        let wanted: BTreeSet<_> =
            self.waiting.iter().chain(&self.joined).map(|(_, channel)| *channel).collect();
        let sources: BTreeSet<_> = wanted.iter().map(|channel| self.source(channel)).collect();
        self.open.retain(|source, _| sources.contains(source));
        self.loss_said.retain(|channel| wanted.contains(channel));
    }
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words
}

fn happen(bench: &mut Bench, model: &mut Model, happening: &Happening) -> (Vec<String>, Vec<String>) {
    match *happening {
        Happening::Join { shard, channel } => (bench.join(shard, channel), model.join(shard, channel)),
        Happening::Leave { shard, channel } => {
            bench.leave(shard, channel, 0);
            model.leave((shard, channel));
            (Vec::new(), Vec::new())
        }
        Happening::Open => {
            let known = (0..bench.made.len()).filter(|&key| bench.made[key].is_some());
            let keys: Vec<_> = known.map(|key| u32::try_from(key).unwrap()).collect();
            (sorted(keys.into_iter().flat_map(|key| bench.opened(key)).collect()), model.open())
        }
        Happening::Publish(subject) => {
            // NATS delivers to each subscription that it knows, once.
            let matching = |key: &usize| bench.made[*key].as_ref().is_some_and(|made| made.matches(subject));
            let keys: Vec<_> = (0..bench.made.len()).filter(matching).collect();
            let outgoing =
                keys.into_iter().flat_map(|key| bench.message(u32::try_from(key).unwrap(), subject));
            (sorted(outgoing.collect()), model.publish(subject))
        }
        Happening::Malformed { subscription } => {
            let Some(source) = bench.made.get(subscription).cloned().flatten() else {
                return (Vec::new(), Vec::new());
            };
            (bench.malformed(u32::try_from(subscription).unwrap()), model.malformed(&source))
        }
        Happening::Interrupted { subscription } => {
            let Some(source) = bench.made.get(subscription).cloned().flatten() else {
                return (Vec::new(), Vec::new());
            };
            (bench.interrupted(u32::try_from(subscription).unwrap()), model.interrupted(&source))
        }
        Happening::LinkLost => {
            (bench.told(|feeds, _, outgoing| feeds.link_lost(outgoing)), model.link_lost())
        }
        Happening::Sweep => {
            bench.sweep(5);
            model.sweep();
            (Vec::new(), Vec::new())
        }
    }
}

proptest! {
    #[test]
    fn every_channel_gets_what_a_subscription_of_its_own_would_bring(
        configured in classes(),
        happenings in vec(happening(), 0..80),
    ) {
        let mut bench = Bench::new(configured.clone());
        let mut model = Model {
            classes: Classes::new(configured),
            waiting: Vec::new(),
            joined: BTreeSet::new(),
            loss_said: BTreeSet::new(),
            open: BTreeMap::new(),
        };
        for happening in happenings {
            let (outgoing, expected) = happen(&mut bench, &mut model, &happening);
            prop_assert_eq!(outgoing, expected, "{:?}", happening);
            if matches!(happening, Happening::Sweep) {
                let mut subscribed = bench.subscribed();
                subscribed.sort_unstable();
                let needed: Vec<_> = model.open.keys().map(Pattern::as_str).collect();
                prop_assert_eq!(subscribed, needed, "one for each source, and no other");
            }
        }
    }
}

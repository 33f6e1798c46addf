//! The ledger: what was published, what each client received, and the rules that connect both (`docs/PROTOCOL.md`, Order,
//! Classes and Gaps): nothing is lost without a gap, repeated, out of order, or shown to a client that may not see it.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_protocol::class::Kind;
use tidegate_protocol::subject::Pattern;

use crate::setup::Setup;
use crate::setup::pattern;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which rule: a shrunk script must break the same.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

pub(crate) fn violation<T>(kind: &'static str, text: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { kind, text: text.into() })
}

/// A message that producers have published. Its number is its place in the ledger, from 1.
pub(crate) struct Published {
    pub(crate) subject: usize,
    pub(crate) key: u16,
    pub(crate) priority: u16,
    pub(crate) payload: String,
    /// Whether it can be delivered.
    pub(crate) is_good: bool,
}

/// How the ledger judges a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Everything, in order, or a gap that counts exactly what is missing in its place.
    Exact,
    /// The same, but messages may overtake others of another priority: the counts are right in the end.
    Prioritized,
    /// The newest of each key, in the order of each key.
    Newest,
}

struct Channel {
    pattern: Pattern,
    rule: Rule,
    has_snapshot: bool,
    /// The numbers of its messages.
    messages: Vec<u32>,
}

/// All messages, and the channels that clients may subscribe to.
pub(crate) struct Ledger {
    subjects: Vec<String>,
    messages: Vec<Published>,
    channels: Vec<Channel>,
    by_name: BTreeMap<String, usize>,
}

/// What has been received and found so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LedgerCounts {
    pub(crate) deliveries: u64,
    pub(crate) gaps: u64,
    pub(crate) missing: u64,
    pub(crate) snapshots: u64,
}

/// One subscription of a client, from `subscribed` to `unsubscribed`.
#[derive(Debug, Default)]
struct Epoch {
    /// The last message that certainly came before the subscription, and the last that may have.
    window: (u32, u32),
    /// The last message.
    previous: Option<u32>,
    /// The newest message.
    newest: u32,
    /// Messages up to this one may not come any more.
    barrier: u32,
    /// Since the last message: what gaps count, and whether one does not.
    missing: (u64, bool),
    /// The same since the beginning, with the number of messages.
    all_missing: (u64, bool),
    all_messages: u64,
    /// The number of events so far, and which one was the last gap.
    events: u64,
    last_gap: u64,
    /// By subject and key: the last message or last value, and which event it was.
    keys: BTreeMap<(usize, u16), (u32, u64)>,
    /// By subject and priority: the last message.
    priorities: BTreeMap<(usize, u16), u32>,
}

/// What one connection has received.
#[derive(Default)]
pub(crate) struct Received {
    epochs: BTreeMap<usize, Epoch>,
    /// By id of a `subscribe`, for each channel: the last message that certainly came before it.
    asked: BTreeMap<(u64, usize), u32>,
    pub(crate) counts: LedgerCounts,
}

impl Ledger {
    pub(crate) fn new(setup: &Setup) -> Self {
        let channel = |(name, class): (String, usize)| {
            let class = &setup.classes[class];
            let rule = match class.class.kind {
                Kind::Latest => Rule::Newest,
                Kind::Buffer if class.has_priorities => Rule::Prioritized,
                Kind::Buffer => Rule::Exact,
            };
            let has_snapshot = class.class.snapshot;
            Channel { pattern: pattern(&name), rule, has_snapshot, messages: Vec::new() }
        };
        let channels: Vec<_> = setup.channels().into_iter().map(channel).collect();
        let name = |(at, channel): (usize, &Channel)| (channel.pattern.as_str().to_owned(), at);
        let by_name = channels.iter().enumerate().map(name).collect();
        Self { subjects: setup.subjects(), messages: Vec::new(), channels, by_name }
    }

    /// Adds a message, with this prefix of its payload. Returns its number.
    pub(crate) fn publish(&mut self, mut message: Published) -> u32 {
        let number = self.end() + 1;
        message.payload = format!("{{\"n\":{number},\"p\":\"{}\"}}", message.payload);
        let subject = pattern(&self.subjects[message.subject]);
        for channel in self.channels.iter_mut().filter(|channel| channel.pattern.covers(&subject)) {
            channel.messages.push(number);
        }
        self.messages.push(message);
        number
    }

    /// The number of the last message.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap()
    }

    pub(crate) fn message(&self, number: u32) -> &Published {
        &self.messages[number as usize - 1]
    }

    pub(crate) fn subject(&self, number: u32) -> &str {
        &self.subjects[self.message(number).subject]
    }

    /// The subject, key and priority of every kind of message so far that can be delivered.
    pub(crate) fn kinds(&self) -> Vec<(usize, u16, u16)> {
        let good = self.messages.iter().filter(|message| message.is_good);
        let mut kinds: Vec<_> =
            good.map(|message| (message.subject, message.key, message.priority)).collect();
        kinds.sort_unstable();
        kinds.dedup_by_key(|kind| (kind.0, kind.1));
        kinds
    }

    /// Whether a channel matches the subject of a message.
    pub(crate) fn is_on(&self, channel: usize, number: u32) -> bool {
        self.channels[channel].messages.binary_search(&number).is_ok()
    }

    /// How many messages of a channel there are between two numbers.
    fn between(&self, channel: usize, after: u32, before: u32) -> u64 {
        let messages = &self.channels[channel].messages;
        let (from, to) = (
            messages.partition_point(|number| *number <= after),
            messages.partition_point(|number| *number < before),
        );
        to.saturating_sub(from) as u64
    }

    /// The channel of this name.
    pub(crate) fn channel(&self, name: &str) -> Result<usize, Violation> {
        match self.by_name.get(name) {
            Some(channel) => Ok(*channel),
            None => violation("foreign", format!("the client was sent something about {name:?}")),
        }
    }

    /// A number in a payload: checks that the message is whole, and that it is on the channel.
    fn check_payload(&self, channel: usize, text: &str) -> Result<u32, Violation> {
        let number = text.split_once("\"data\":{\"n\":").and_then(|(_, rest)| {
            rest.split(|sign: char| !sign.is_ascii_digit()).next()?.parse::<u32>().ok()
        });
        let Some(number) = number.filter(|number| (1..=self.end()).contains(number)) else {
            return violation("corrupt", format!("a message without a number: {text}"));
        };
        let (message, name) = (self.message(number), self.channels[channel].pattern.as_str());
        let subject = &self.subjects[message.subject];
        let said = if subject == name { String::new() } else { format!(",\"subject\":\"{subject}\"") };
        let expected = format!("\"channel\":\"{name}\"{said},\"data\":{},", message.payload);
        if !text.contains(&expected) || !message.is_good {
            return violation("corrupt", format!("message {number} is not as it was published: {text}"));
        }
        if !self.is_on(channel, number) {
            return violation("foreign", format!("{name}: message {number} of {subject}"));
        }
        Ok(number)
    }
}

impl Received {
    /// What a new connection of the same client has received: only the counts remain.
    pub(crate) fn restarted(&self) -> Self {
        Self { counts: self.counts, ..Self::default() }
    }

    /// The client asks for a channel. Everything up to `before` reaches its lane earlier, or never.
    pub(crate) fn ask(&mut self, id: u64, channel: usize, before: u32) {
        self.asked.insert((id, channel), before);
    }

    /// A whole message has arrived.
    pub(crate) fn on_text(&mut self, ledger: &Ledger, bytes: &[u8]) -> Result<(), Violation> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return violation("corrupt", format!("{bytes:?}"));
        };
        if let Some(rest) = text.strip_prefix(r#"{"type":"message","channel":""#) {
            let channel = ledger.channel(rest.split('"').next().unwrap_or_default())?;
            return self.on_message(ledger, channel, ledger.check_payload(channel, text)?);
        }
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return violation("corrupt", format!("{text:?}"));
        };
        let channel = || ledger.channel(message["channel"].as_str().unwrap_or_default());
        match message["type"].as_str().unwrap_or_default() {
            "subscribed" => self.on_subscribed(ledger, channel()?, &message),
            "unsubscribed" => self.on_unsubscribed(ledger, channel()?, &message),
            "gap" => self.on_gap(ledger, channel()?, &message),
            "stale" => channel().map(drop),
            "connected" | "error" | "ping" | "pong" | "close" | "expiring" => Ok(()),
            _ => violation("corrupt", format!("{text:?}")),
        }
    }

    fn on_subscribed(&mut self, ledger: &Ledger, channel: usize, message: &Value) -> Result<(), Violation> {
        let name = ledger.channels[channel].pattern.as_str();
        let id = message["id"].as_u64().unwrap_or_default();
        let Some(asked) = self.asked.get(&(id, channel)).copied() else {
            return violation("foreign", format!("{name}: subscribed, and the client did not ask"));
        };
        let end = ledger.end();
        let epoch = self.epochs.entry(channel).or_insert_with(|| Epoch {
            window: (asked, end),
            barrier: asked,
            ..Epoch::default()
        });
        epoch.events += 1;
        let mut newest = 0;
        for value in message["snapshot"].as_array().into_iter().flatten() {
            let text = Value::to_string(value);
            // The members are in another order now.
            let number = u32::try_from(value["data"]["n"].as_u64().unwrap_or_default()).unwrap();
            if number == 0 || number > end || !ledger.is_on(channel, number) {
                return violation("foreign", format!("{name}: the last value {text}"));
            }
            let of = ledger.message(number);
            let key = (of.subject, of.key);
            let newer = newest_of(ledger, channel, key, asked);
            if number < newer {
                let text = format!("{name}: {number} is shown as a last value, but {newer} came later");
                return violation("outdated", text);
            }
            let known = epoch.keys.get(&key).map_or(0, |(known, _)| *known);
            if number < known {
                let text = format!("{name}: {number} is shown as a last value after {known}");
                return violation("outdated", text);
            }
            epoch.keys.insert(key, (number, epoch.events));
            newest = newest.max(number);
        }
        if newest > 0 && !ledger.channels[channel].has_snapshot {
            return violation("foreign", format!("{name}: last values of a class without them"));
        }
        // Everything that comes now was published later than these.
        epoch.barrier = epoch.barrier.max(newest).max(epoch.newest);
        if epoch.events == 1 {
            epoch.window.0 = epoch.window.0.max(newest);
        }
        self.counts.snapshots += u64::from(newest > 0);
        Ok(())
    }

    fn on_unsubscribed(&mut self, ledger: &Ledger, channel: usize, message: &Value) -> Result<(), Violation> {
        if message["code"].as_str() != Some("requested") {
            return violation("foreign", format!("{message}"));
        }
        match self.epochs.remove(&channel) {
            Some(epoch) => epoch.check_counted(ledger, channel),
            None => Ok(()),
        }
    }

    fn on_message(&mut self, ledger: &Ledger, channel: usize, number: u32) -> Result<(), Violation> {
        self.counts.deliveries += 1;
        let Channel { pattern, rule, .. } = &ledger.channels[channel];
        let name = pattern.as_str();
        let Some(epoch) = self.epochs.get_mut(&channel) else {
            return violation("foreign", format!("{name}: message {number} without a subscription"));
        };
        if number <= epoch.barrier {
            let text = format!("{name}: message {number} after something that is newer: {epoch:?}");
            return violation("order", text);
        }
        let of = ledger.message(number);
        let (key, priority) = ((of.subject, of.key), (of.subject, of.priority));
        epoch.events += 1;
        epoch.all_messages += 1;
        let (before, of) = match rule {
            Rule::Exact => (epoch.previous, "the channel"),
            Rule::Newest => (epoch.keys.get(&key).map(|(last, _)| *last), "its key"),
            Rule::Prioritized => (epoch.priorities.get(&priority).copied(), "its priority"),
        };
        if before.is_some_and(|before| number <= before) {
            return violation("order", format!("{name}: message {number} after {before:?} of {of}"));
        }
        if *rule == Rule::Exact {
            epoch.check_missing(ledger, channel, number, "loss")?;
        }
        epoch.keys.insert(key, (number, epoch.events));
        epoch.priorities.insert(priority, number);
        epoch.previous = Some(number);
        epoch.newest = epoch.newest.max(number);
        epoch.missing = (0, false);
        Ok(())
    }

    fn on_gap(&mut self, ledger: &Ledger, channel: usize, message: &Value) -> Result<(), Violation> {
        let dropped = message["dropped"].as_u64();
        self.counts.gaps += 1;
        self.counts.missing += dropped.unwrap_or_default();
        let name = ledger.channels[channel].pattern.as_str();
        let Some(epoch) = self.epochs.get_mut(&channel) else {
            return violation("foreign", format!("{name}: a gap without a subscription"));
        };
        if dropped == Some(0) && message["cause"].as_str() != Some("nats") {
            return violation("count", format!("{name}: a gap of nothing: {message}"));
        }
        epoch.events += 1;
        epoch.last_gap = epoch.events;
        for missing in [&mut epoch.missing, &mut epoch.all_missing] {
            missing.0 += dropped.unwrap_or_default();
            missing.1 |= dropped.is_none() || message["cause"].as_str() == Some("nats");
        }
        // A message that replaces an older one takes its place, which may be before the gap.
        if message["cause"].as_str() != Some("slow") && ledger.channels[channel].rule != Rule::Newest {
            epoch.barrier = epoch.barrier.max(epoch.newest);
        }
        Ok(())
    }

    /// At rest: everything that was published before has arrived, or was announced as missing.
    pub(crate) fn check_rest(&self, ledger: &Ledger) -> Result<(), Violation> {
        for (channel, epoch) in &self.epochs {
            let end = ledger.end() + 1;
            match ledger.channels[*channel].rule {
                Rule::Exact => epoch.check_missing(ledger, *channel, end, "loss at rest")?,
                Rule::Prioritized => epoch.check_totals(ledger, *channel)?,
                Rule::Newest => epoch.check_newest(ledger, *channel)?,
            }
        }
        Ok(())
    }

    /// At rest, after a last message of each kind: the last value is the last that was published.
    pub(crate) fn check_last(&self, ledger: &Ledger, number: u32) -> Result<(), Violation> {
        let of = ledger.message(number);
        for (channel, epoch) in &self.epochs {
            if !ledger.is_on(*channel, number) {
                continue;
            }
            let last = epoch.keys.get(&(of.subject, of.key)).map(|(last, _)| *last);
            if last != Some(number) {
                let name = ledger.channels[*channel].pattern.as_str();
                return violation("last", format!("{name}: the last message {number} is missing: {last:?}"));
            }
        }
        Ok(())
    }
}

/// The newest deliverable message of a key up to a number, if nothing undeliverable may have replaced it since.
fn newest_of(ledger: &Ledger, channel: usize, key: (usize, u16), up_to: u32) -> u32 {
    let messages = &ledger.channels[channel].messages;
    let known = &messages[..messages.partition_point(|number| *number <= up_to)];
    let is_it = |number: &&u32| {
        let message = ledger.message(**number);
        (message.subject, message.key) == key && message.is_good
    };
    known.iter().rfind(is_it).copied().unwrap_or_default()
}

impl Epoch {
    /// Checks that what is missing before a message is what gaps have announced. `next` is the message, or one more than
    /// the last one.
    fn check_missing(
        &self,
        ledger: &Ledger,
        channel: usize,
        next: u32,
        kind: &'static str,
    ) -> Result<(), Violation> {
        let (counted, is_unknown) = self.missing;
        let (least, most) = match self.previous {
            Some(previous) => {
                let missing = ledger.between(channel, previous, next);
                (missing, missing)
            }
            None => {
                (ledger.between(channel, self.window.1, next), ledger.between(channel, self.window.0, next))
            }
        };
        if counted > most || counted < least && !is_unknown {
            let name = ledger.channels[channel].pattern.as_str();
            let text = format!(
                "{name}: before {next}, {least} to {most} messages are missing, and gaps count {counted}: {self:?}"
            );
            return violation(kind, text);
        }
        Ok(())
    }

    /// The subscription has ended: its gaps have not counted more than was published.
    fn check_counted(&self, ledger: &Ledger, channel: usize) -> Result<(), Violation> {
        let since = self.previous.unwrap_or(self.window.0);
        let possible = ledger.between(channel, since, ledger.end() + 1);
        if ledger.channels[channel].rule == Rule::Exact && self.missing.0 > possible {
            let name = ledger.channels[channel].pattern.as_str();
            let text =
                format!("{name}: {possible} messages came after {since}, and gaps count {}", self.missing.0);
            return violation("count", text);
        }
        Ok(())
    }

    fn check_totals(&self, ledger: &Ledger, channel: usize) -> Result<(), Violation> {
        let end = ledger.end() + 1;
        let (least, most) =
            (ledger.between(channel, self.window.1, end), ledger.between(channel, self.window.0, end));
        let accounted = self.all_messages + self.all_missing.0;
        if accounted > most || accounted < least && !self.all_missing.1 {
            let name = ledger.channels[channel].pattern.as_str();
            let text = format!(
                "{name}: {least} to {most} messages were published, and {accounted} have arrived or are counted: {self:?}"
            );
            return violation("loss at rest", text);
        }
        Ok(())
    }

    fn check_newest(&self, ledger: &Ledger, channel: usize) -> Result<(), Violation> {
        let mut newest: BTreeMap<(usize, u16), u32> = BTreeMap::new();
        for number in &ledger.channels[channel].messages {
            let message = ledger.message(*number);
            newest.insert((message.subject, message.key), *number);
        }
        for (key, number) in newest {
            let received = self.keys.get(&key);
            let is_due = received.is_some() || number > self.window.1;
            let (last, event) = received.copied().unwrap_or_default();
            if is_due && last < number && self.last_gap <= event {
                let name = ledger.channels[channel].pattern.as_str();
                let text = format!(
                    "{name}: {number}, the newest of {key:?}, has not come after {last}, and no gap: {self:?}"
                );
                return violation("loss at rest", text);
            }
        }
        Ok(())
    }
}

//! Last values on all nodes: another node may know values of channels that this node has not subscribed to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tidegate_protocol::message::LastValue;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;
use tokio::sync::oneshot;

use crate::connection::context::Context;
use crate::lane::LaneRequest;
use crate::nats::scatter_gather::PeerReply;
use crate::shard::cluster::peer_request::AnswerPart;
use crate::shard::stretch::Stretch;

/// Requests to a lane at a time.
const CONCURRENT_REQUESTS: usize = 64;
/// The headers of a value: its channel, its subject, its key, and when it was received, in nanoseconds since 1970.
const CHANNEL: &str = "Tidegate-Channel";
const SUBJECT: &str = "Tidegate-Subject";
const KEY: &str = "Tidegate-Key";
const TIME: &str = "Tidegate-Time";

/// The last values of one channel, by key.
#[derive(Clone, Debug)]
pub struct Values {
    pub channel: Pattern,
    by_key: BTreeMap<Arc<str>, PeerValue>,
    /// How many values were inserted.
    inserted: usize,
}

/// A value, and when it was received. Values with equal times are ordered by their insertion.
#[derive(Clone, Debug)]
struct PeerValue {
    received: (SystemTime, usize),
    subject: Arc<str>,
    payload: Payload,
}

impl PeerValue {
    fn last_value(&self) -> LastValue {
        let (subject, payload) = (Arc::clone(&self.subject), self.payload.clone());
        LastValue { subject, payload, time: self.received.0 }
    }
}

impl Values {
    pub fn new(channel: Pattern) -> Self {
        Self { channel, by_key: BTreeMap::new(), inserted: 0 }
    }

    /// Whether other nodes cannot add anything. For a wildcard, they may know more keys.
    pub fn is_complete(&self) -> bool {
        self.channel.is_literal() && !self.by_key.is_empty()
    }

    /// Inserts a value, unless there is one of its key that is as new.
    pub fn insert(&mut self, key: Arc<str>, value: LastValue) {
        let LastValue { subject, payload, time } = value;
        if self.by_key.get(&key).is_none_or(|known| known.received.0 < time) {
            self.inserted += 1;
            self.by_key.insert(key, PeerValue { received: (time, self.inserted), subject, payload });
        }
    }

    /// Inserts the values of others that are newer.
    pub(super) async fn add(&mut self, others: &Self, stretch: &mut Stretch) {
        let mut others: Vec<_> = others.by_key.iter().collect();
        others.sort_by_key(|(_, value)| value.received);
        for (key, value) in others {
            self.insert(Arc::clone(key), value.last_value());
            stretch.step().await;
        }
    }

    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// The size of all payloads.
    pub fn bytes(&self) -> usize {
        self.by_key.values().map(|value| value.payload.bytes().len()).sum()
    }

    /// Inserts a value from the answer of another node. Ignores messages that are not values.
    pub(super) fn insert_answer(found: &mut BTreeMap<Box<str>, Self>, answer: &PeerReply) {
        let headers = || {
            let time = Duration::from_nanos(answer.header(TIME)?.parse().ok()?);
            let subject = answer.header(SUBJECT)?;
            Some((
                answer.header(CHANNEL)?,
                subject,
                answer.header(KEY)?,
                SystemTime::UNIX_EPOCH.checked_add(time)?,
            ))
        };
        if let Some((channel, subject, key, time)) = headers()
            && let Some(values) = found.get_mut(channel)
        {
            let payload = Payload::classify(answer.data());
            values.insert(key.into(), LastValue { subject: subject.into(), payload, time });
        }
    }

    /// The values in the order in which they were received.
    pub fn in_order(self) -> impl Iterator<Item = LastValue> {
        let mut values: Vec<_> = self.by_key.into_values().collect();
        values.sort_by_key(|value| value.received);
        values.into_iter().map(|value| value.last_value())
    }
}

/// The last values of these channels on this node; `None` for a channel whose NATS subscription is not up. With
/// `open_feeds`, a channel without a feed gets one. Returns `None` if a lane is overloaded.
pub async fn local(context: &Context, channels: &[Pattern], open_feeds: bool) -> Option<Vec<Option<Values>>> {
    let (mut found, mut stretch) = (Vec::new(), Stretch::default());
    for channels in channels.chunks(CONCURRENT_REQUESTS) {
        let requested: Option<Vec<_>> =
            channels.iter().map(|channel| request(context, channel, open_feeds)).collect();
        for (channel, known) in channels.iter().zip(requested?) {
            let Some(known) = known.await.ok()? else {
                found.push(None);
                continue;
            };
            let mut values = Values::new(channel.clone());
            for Publication { subject, key, time, payload, .. } in known {
                values.insert(key, LastValue { subject, payload, time });
                stretch.step().await;
            }
            found.push(Some(values));
        }
    }
    Some(found)
}

fn request(
    context: &Context,
    channel: &Pattern,
    open_feeds: bool,
) -> Option<oneshot::Receiver<Option<Vec<Publication>>>> {
    let class = context.class_of(channel);
    let lane = context.node.lanes.with_values_of(channel, &class, context.shard)?;
    let (answer, values) = oneshot::channel();
    let pattern = channel.clone();
    lane.try_send(LaneRequest::Last { pattern, class, start_feed: open_feeds, answer }).ok()?;
    Some(values)
}

/// The answer to another node: one part for each value.
pub(super) fn answer_parts(found: &[Values]) -> Vec<AnswerPart> {
    let values = found
        .iter()
        .flat_map(|values| values.by_key.iter().map(|(key, value)| (values.channel.as_str(), &**key, value)));
    let mut values: Vec<(&str, &str, &PeerValue)> = values.collect();
    values.sort_by_key(|(.., value)| value.received);
    let part = |(channel, key, value): (&str, &str, &PeerValue)| {
        let time = value.received.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = time.as_nanos().to_string();
        let subject = value.subject.to_string();
        let headers =
            vec![(CHANNEL, channel.to_owned()), (SUBJECT, subject), (KEY, key.to_owned()), (TIME, time)];
        AnswerPart { data: value.payload.bytes().clone(), headers }
    };
    values.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_later_value_of_a_key_wins_and_values_are_in_order_of_arrival() {
        let mut values = Values::new(Pattern::parse("x.*").unwrap());
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for (key, second, text) in [
            ("b", 5, "b5"),
            ("c", 9, "c9"),
            ("b", 7, "b7"),
            ("a", 7, "a7"),
            ("b", 3, "b3"),
            ("c", 9, "again"),
        ] {
            let payload = Payload::Text(Bytes::from_static(text.as_bytes()));
            values.insert(key.into(), LastValue { subject: key.into(), payload, time: at(second) });
        }
        let texts: Vec<_> = values.in_order().map(|value| value.payload.bytes().clone()).collect();
        assert_eq!(texts, ["b7", "a7", "c9"]);
    }

    #[tokio::test]
    async fn values_of_another_node_that_came_together_stay_in_order() {
        let [mut here, mut there] = [(); 2].map(|()| Values::new(Pattern::parse("x.*").unwrap()));
        for key in ["c", "a", "b"] {
            let payload = Payload::Text(Bytes::from_static(key.as_bytes()));
            there
                .insert(key.into(), LastValue { subject: key.into(), payload, time: SystemTime::UNIX_EPOCH });
        }
        here.add(&there, &mut Stretch::default()).await;
        let texts: Vec<_> = here.in_order().map(|value| value.payload.bytes().clone()).collect();
        assert_eq!(texts, ["c", "a", "b"]);
    }

    #[test]
    fn only_a_literal_channel_with_a_value_is_complete() {
        let literal = Pattern::parse("x.a").unwrap();
        let mut values = Values::new(literal);
        assert!(!values.is_complete());
        let payload = Payload::Text(Bytes::new());
        values.insert("x.a".into(), LastValue { subject: "x.a".into(), payload, time: SystemTime::now() });
        assert!(values.is_complete());
        assert!(!Values { channel: Pattern::parse("x.*").unwrap(), ..values }.is_complete());
    }
}

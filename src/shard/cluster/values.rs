//! Last values on all nodes: what no one on this node has listened to, somebody on another one may have.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;
use tokio::sync::oneshot;

use crate::connection::context::Context;
use crate::lane::LaneRequest;
use crate::nats::scatter_gather::PeerReply;
use crate::shard::cluster::question::Piece;

/// So many questions a lane is asked at a time.
const AT_ONCE: usize = 64;
/// What a message says of the value that is its body: whose, which, and when it came, in nanoseconds since 1970.
const CHANNEL: &str = "Tidegate-Channel";
const KEY: &str = "Tidegate-Key";
const TIME: &str = "Tidegate-Time";

/// The values of one channel by their keys.
#[derive(Clone, Debug)]
pub struct Values {
    /// Whose they are.
    pub channel: Pattern,
    by_key: BTreeMap<Box<str>, PeerValue>,
    /// How many have been put in.
    put: usize,
}

/// A value, and when it came: what came at once is in the order in which it was put in.
#[derive(Clone, Debug)]
struct PeerValue {
    came: (SystemTime, usize),
    payload: Payload,
}

impl Values {
    /// None yet.
    pub fn new(channel: Pattern) -> Self {
        Self { channel, by_key: BTreeMap::new(), put: 0 }
    }

    /// Whether others can know no more. Of a wildcard they may know other keys.
    pub fn are_all(&self) -> bool {
        self.channel.is_literal() && !self.by_key.is_empty()
    }

    /// Puts a value in, unless there is one of this key that is as new.
    fn put(&mut self, key: &str, time: SystemTime, payload: Payload) {
        if self.by_key.get(key).is_none_or(|known| known.came.0 < time) {
            self.put += 1;
            self.by_key.insert(key.into(), PeerValue { came: (time, self.put), payload });
        }
    }

    /// Puts those in that are newer.
    pub fn add(&mut self, others: &Self) {
        for (key, PeerValue { came, payload }) in &others.by_key {
            self.put(key, came.0, payload.clone());
        }
    }

    /// Puts in what another node has answered, if that is a value.
    pub(super) fn take(found: &mut BTreeMap<Box<str>, Self>, answer: &PeerReply) {
        let label = || {
            let time = Duration::from_nanos(answer.header(TIME)?.parse().ok()?);
            Some((answer.header(CHANNEL)?, answer.header(KEY)?, SystemTime::UNIX_EPOCH.checked_add(time)?))
        };
        if let Some((channel, key, time)) = label()
            && let Some(values) = found.get_mut(channel)
        {
            values.put(key, time, Payload::classify(answer.data()));
        }
    }

    /// The oldest first.
    pub fn in_order(self) -> impl Iterator<Item = Payload> {
        let mut values: Vec<_> = self.by_key.into_values().collect();
        values.sort_by_key(|value| value.came);
        values.into_iter().map(|value| value.payload)
    }
}

/// What the lanes of this node know of these channels: of each `None` while NATS does not bring it. With `begins`, a
/// channel that has no feed has one from now on. `None` in place of all if a lane has too much to do.
pub async fn here(context: &Context, channels: &[Pattern], begins: bool) -> Option<Vec<Option<Values>>> {
    let mut found = Vec::new();
    for channels in channels.chunks(AT_ONCE) {
        let asked: Option<Vec<_>> = channels.iter().map(|channel| ask(context, channel, begins)).collect();
        for (channel, known) in channels.iter().zip(asked?) {
            found.push(known.await.ok()?.map(|known| {
                let mut values = Values::new(channel.clone());
                for Publication { key, time, payload, .. } in known {
                    values.put(&key, time, payload);
                }
                values
            }));
        }
    }
    Some(found)
}

fn ask(
    context: &Context,
    channel: &Pattern,
    begins: bool,
) -> Option<oneshot::Receiver<Option<Vec<Publication>>>> {
    let class = context.settings.classes.of(channel);
    let lane = context.node.lanes.of(channel, &class)?;
    let (answer, values) = oneshot::channel();
    let begins = begins.then_some(class);
    lane.try_send(LaneRequest::Last { pattern: channel.clone(), start_feed: begins, answer }).ok()?;
    Some(values)
}

/// What another node is answered: a message for each value.
pub(super) fn pieces(found: &[Values]) -> Vec<Piece> {
    let values = found
        .iter()
        .flat_map(|values| values.by_key.iter().map(|(key, value)| (values.channel.as_str(), &**key, value)));
    let mut values: Vec<(&str, &str, &PeerValue)> = values.collect();
    values.sort_by_key(|(.., value)| value.came);
    let piece = |(channel, key, value): (&str, &str, &PeerValue)| {
        let time = value.came.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = time.as_nanos().to_string();
        let labels = vec![(CHANNEL, channel.to_owned()), (KEY, key.to_owned()), (TIME, time)];
        Piece { data: value.payload.bytes().clone(), labels }
    };
    values.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn of_a_key_the_later_value_counts_and_all_are_in_the_order_in_which_they_came() {
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
            values.put(key, at(second), Payload::Text(Bytes::from_static(text.as_bytes())));
        }
        let texts: Vec<_> = values.in_order().map(|payload| payload.bytes().clone()).collect();
        assert_eq!(texts, ["b7", "a7", "c9"]);
    }

    #[test]
    fn only_a_value_of_a_literal_channel_is_all_that_others_can_know() {
        let literal = Pattern::parse("x.a").unwrap();
        let mut values = Values::new(literal);
        assert!(!values.are_all());
        values.put("x.a", SystemTime::now(), Payload::Text(Bytes::new()));
        assert!(values.are_all());
        assert!(!Values { channel: Pattern::parse("x.*").unwrap(), ..values }.are_all());
    }
}

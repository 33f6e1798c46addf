//! Last values on all nodes: what nobody on this node has listened to, somebody on another one may have.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::debug;

use crate::connection::context::Context;
use crate::lane::Question as LaneQuestion;
use crate::nats::survey::Answer;
use crate::nats::survey::Enquiry;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::payload::Payload;
use crate::protocol::publication::Publication;
use crate::protocol::session::checks;
use crate::protocol::subject::Pattern;
use crate::shard::nodes::SUBJECT;
use crate::shard::nodes::question::Question;

/// What an answer says of its value, which is its body.
struct Label<'a> {
    channel: &'a str,
    key: &'a str,
    /// When it came, in milliseconds since 1970.
    time: SystemTime,
    /// How many of the channel follow from the same node.
    follow: usize,
}

const CHANNEL: &str = "Tidegate-Channel";
const KEY: &str = "Tidegate-Key";
const TIME: &str = "Tidegate-Time";
const FOLLOW: &str = "Tidegate-Follow";

/// The values of one channel by their keys.
#[derive(Debug, Default)]
struct Values(BTreeMap<Box<str>, Value>);

/// A value, and when it came: what came at once is in the order in which it was put in.
#[derive(Debug)]
struct Value {
    came: (SystemTime, usize),
    payload: Payload,
}

impl Values {
    /// Puts a value in, unless there is one of this key that came later.
    fn put(&mut self, key: &str, time: SystemTime, payload: Payload) {
        let came = (time, self.0.len());
        if self.0.get(key).is_none_or(|known| known.came.0 < time) {
            self.0.insert(key.into(), Value { came, payload });
        }
    }

    /// The oldest first.
    fn in_order(self) -> impl Iterator<Item = Payload> {
        let mut values: Vec<_> = self.0.into_values().collect();
        values.sort_by_key(|value| value.came);
        values.into_iter().map(|value| value.payload)
    }
}

/// The last values of these channels, the oldest of each channel first. A channel that has none here, or whose keys may
/// not all be known here, is asked for elsewhere.
pub async fn last(context: &Context, channels: &[Pattern]) -> Result<Vec<Payload>, Refusal> {
    let mut found = Vec::new();
    for known in here(context, channels, true).ok_or_else(busy)? {
        let mut values = Values::default();
        for Publication { key, time, payload, .. } in known.await.map_err(|_| busy())? {
            values.put(&key, time, payload);
        }
        found.push(values);
    }
    elsewhere(context, channels, &mut found).await;
    Ok(found.into_iter().flat_map(Values::in_order).collect())
}

/// Adds what other nodes know. If they cannot be asked, what is known here is better than nothing.
async fn elsewhere(context: &Context, channels: &[Pattern], found: &mut [Values]) {
    let known = channels.iter().zip(&*found);
    let unknown = known.filter(|(channel, values)| !channel.is_literal() || values.0.is_empty());
    let mut unknown: Vec<&Pattern> = unknown.map(|(channel, _)| channel).collect();
    if unknown.is_empty() {
        return;
    }
    let names = unknown.iter().map(|channel| channel.as_str().into()).collect();
    let question = Question::Values { channels: names }.encode();
    let take = |answer: Answer| {
        let Some(Label { channel, key, time, follow }) = Label::of(&answer) else { return true };
        let payload = Payload::classify(answer.data.clone());
        for (_, values) in channels.iter().zip(&mut *found).filter(|(of, _)| of.as_str() == channel) {
            values.put(key, time, payload.clone());
        }
        // Of a wildcard another node may know more.
        unknown.retain(|of| !of.is_literal() || of.as_str() != channel || follow > 0);
        !unknown.is_empty()
    };
    if let Err(error) = context.nats.survey(SUBJECT, question.into(), take).await {
        debug!(%error, "last values of this node alone");
    }
}

/// Answers another node, a message for each value: nothing if there is none.
pub(super) async fn answer(context: &Context, enquiry: &Enquiry, channels: &[Box<str>]) {
    let patterns = channels.iter().map(|channel| checks::pattern(&context.settings, channel));
    let Ok(patterns) = patterns.collect::<Result<Vec<_>, _>>() else { return };
    let Some(asked) = here(context, &patterns, false) else { return };
    for (channel, values) in patterns.iter().zip(asked) {
        let values = values.await.unwrap_or_default();
        for (publication, follow) in values.iter().zip((0..values.len()).rev()) {
            let label =
                Label { channel: channel.as_str(), key: &publication.key, time: publication.time, follow };
            label.answer(enquiry, publication.payload.bytes()).await;
        }
    }
}

/// Asks the lanes of this node. `None` if one has too much to do.
fn here(
    context: &Context,
    channels: &[Pattern],
    begins: bool,
) -> Option<Vec<oneshot::Receiver<Vec<Publication>>>> {
    let ask = |pattern: &Pattern| {
        let class = context.settings.classes.of(pattern);
        let lane = context.lanes.of(pattern, &class)?;
        let (answer, values) = oneshot::channel();
        let begins = begins.then_some(class);
        lane.ask(LaneQuestion::Last { pattern: pattern.clone(), begins, answer }).ok()?;
        Some(values)
    };
    channels.iter().map(ask).collect()
}

impl<'a> Label<'a> {
    fn of(answer: &'a Answer) -> Option<Self> {
        let number = |name| answer.header(name)?.parse::<u64>().ok();
        Some(Self {
            channel: answer.header(CHANNEL)?,
            key: answer.header(KEY)?,
            time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(number(TIME)?))?,
            follow: usize::try_from(number(FOLLOW)?).ok()?,
        })
    }

    async fn answer(&self, enquiry: &Enquiry, value: &Bytes) {
        let time = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (time, follow) = (time.as_millis().to_string(), self.follow.to_string());
        let headers = [(CHANNEL, self.channel), (KEY, self.key), (TIME, &*time), (FOLLOW, &*follow)];
        enquiry.answer(value.clone(), &headers).await;
    }
}

fn busy() -> Refusal {
    Refusal::new(ErrorCode::TryAgain, "the node has too much to do: try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_the_later_value_counts_and_all_are_in_the_order_in_which_they_came() {
        let mut values = Values::default();
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for (key, second, text) in [
            ("b", 5, "b5"),
            ("a", 5, "a5"),
            ("c", 9, "c9"),
            ("a", 3, "a3"),
            ("b", 7, "b7"),
            ("c", 9, "again"),
        ] {
            values.put(key, at(second), Payload::Text(Bytes::from_static(text.as_bytes())));
        }
        let texts: Vec<_> = values.in_order().map(|payload| payload.bytes().clone()).collect();
        assert_eq!(texts, ["a5", "b7", "c9"]);
    }
}

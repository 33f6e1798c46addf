//! Answers a call for last values: reads them on all nodes, charges the caller, and writes the list of the answer.

use std::time::Duration;
use std::time::Instant;

use futures_util::future::try_join_all;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::json::list::JsonList;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::model::CompiledVocabulary;

use crate::connection::auditing::CallRecord;
use crate::connection::auditing::note_denied_call;
use crate::connection::context::Context;
use crate::node::answer_budget::HeldAnswer;
use crate::node::answer_budget::NoRoom;
use crate::node::call_limiter::Caller;
use crate::node::services;
use crate::node::services::ChannelReader;
use crate::shard::cluster::Cluster;
use crate::shard::cluster::values;
use crate::shard::cluster::values::Values;
use crate::shard::job::LimitedCall;
use crate::shard::stretch::Stretch;

/// Values, and bytes of values, that count as one more call for the rate limit.
const VALUES_PER_CALL: usize = 50;
const BYTES_PER_CALL: usize = 8 * 1024;
/// Questions to services that count as one more call.
const QUESTIONS_PER_CALL: usize = 16;
/// Memory of a value until the answer is rendered, in addition to its bytes.
const VALUE_BYTES: usize = 256;

/// A call for the last values of channels.
#[derive(Clone, Copy)]
pub(super) struct LastValuesCall<'c> {
    pub(super) context: &'c Context,
    pub(super) cluster: &'c Cluster,
    pub(super) vocabulary: VocabularyId,
    pub(super) channels: &'c [Pattern],
    pub(super) reader: &'c ChannelReader,
    pub(super) record: &'c CallRecord,
    pub(super) caller: Caller,
}

/// Why a call has no values, and the limit that it exceeded, if that is why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ClientError,
    pub(super) limited: Option<LimitedCall>,
}

/// What a call costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    values: usize,
    bytes: usize,
}

impl LastValuesCall<'_> {
    /// The last values on all nodes, as the vocabulary shows them. A channel without a feed on this node gets one.
    pub(super) async fn answer(self, held: &mut HeldAnswer) -> Result<JsonList, Refusal> {
        self.authorize().await?;
        let (found, cost) = self.read(held).await?;
        let found = self.cluster.last_values(found, self.caller.id()).await.ok_or_else(overloaded)?;
        let all = Cost::of(&found);
        self.charge(all.calls().saturating_sub(cost.calls()));
        held.grow(all.memory()).map_err(no_room)?;
        let _turn = self.context.value_turns.acquire().await;
        let vocabulary = self.context.node.current_vocabularies.get().get(self.vocabulary);
        let vocabulary = vocabulary.ok_or_else(overloaded)?;
        Ok(listed(&vocabulary, self.channels, found, all.bytes).await)
    }

    /// Charges the caller for so many calls, unless that exceeds its rate. With 0, it fails only if earlier calls have been
    /// charged for what they found.
    fn take(self, calls: u32) -> Result<(), Refusal> {
        let limiter = &self.context.node.call_limiter;
        limiter.charge(self.caller, calls, Instant::now()).map_err(|wait| too_many_calls(self.caller, wait))
    }

    /// Asks the services that decide about the channels, because reading their last values is no way around a decision.
    /// Charges the caller for the questions first.
    async fn authorize(self) -> Result<(), Refusal> {
        let settings = self.context.settings();
        let decided = self.channels.iter().filter_map(|channel| {
            let services = services::of_channel(&settings.session.classes, channel);
            (!services.is_empty()).then_some((channel, services))
        });
        let decided: Vec<_> = decided.collect();
        let questions = decided.iter().map(|(_, services)| services.len()).sum::<usize>();
        self.take(u32::try_from(questions / QUESTIONS_PER_CALL).unwrap_or(u32::MAX))?;
        let decisions = decided.into_iter().map(async |(channel, services)| {
            self.context.node.authorize(self.reader, channel, &services).await
        });
        try_join_all(decisions).await.map(drop).map_err(|refusal| {
            note_denied_call(self.context, self.record, &refusal.denied);
            Refusal::from(refusal.error)
        })
    }

    /// The values that this node has. Only a few calls read at a time: what they find is not counted before.
    async fn read(self, held: &mut HeldAnswer) -> Result<(Vec<Values>, Cost), Refusal> {
        let _turn = self.context.value_turns.acquire().await;
        self.take(0)?;
        let found = values::local(self.context, self.channels, true).await.ok_or_else(overloaded)?;
        let found: Vec<Values> = found.into_iter().collect::<Option<_>>().ok_or_else(unavailable)?;
        let cost = Cost::of(&found);
        self.charge(cost.calls());
        held.grow(cost.memory()).map_err(no_room)?;
        Ok((found, cost))
    }

    fn charge(self, calls: u32) {
        self.context.node.call_limiter.overdraw(self.caller, calls, Instant::now());
    }
}

impl Cost {
    fn of(found: &[Values]) -> Self {
        let (values, bytes) = (found.iter().map(Values::count), found.iter().map(Values::bytes));
        Self { values: values.sum(), bytes: bytes.sum() }
    }

    /// How many more calls it counts as.
    fn calls(self) -> u32 {
        let calls = (self.values / VALUES_PER_CALL).max(self.bytes / BYTES_PER_CALL);
        u32::try_from(calls).unwrap_or(u32::MAX)
    }

    fn memory(self) -> usize {
        self.values * VALUE_BYTES + self.bytes
    }
}

/// The list of an answer. `bytes` is its approximate length.
async fn listed(
    vocabulary: &CompiledVocabulary,
    channels: &[Pattern],
    found: Vec<Values>,
    bytes: usize,
) -> JsonList {
    let (mut list, mut stretch) = (vocabulary.last_list(channels), Stretch::default());
    for values in found {
        for value in values.in_order() {
            list.push(&value);
            stretch.step().await;
        }
    }
    let mut json = JsonList::with_capacity(bytes + bytes / 8);
    for shown in list.in_order() {
        shown.put(&mut json);
        stretch.step().await;
    }
    json
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self { error, limited: None }
    }
}

fn too_many_calls(caller: Caller, retry_after: Duration) -> Refusal {
    let message = "too many calls: slow down, and try again after the time in `Retry-After`";
    let limited = LimitedCall { by: caller.limit_of_calls(), retry_after };
    Refusal { error: ClientError::new(ErrorCode::RateLimited, message), limited: Some(limited) }
}

/// The error for an answer without room.
fn no_room(no_room: NoRoom) -> Refusal {
    let code = match no_room {
        NoRoom::Address => ErrorCode::RateLimited,
        NoRoom::Node => ErrorCode::TryAgain,
    };
    let error = ClientError::new(code, no_room.to_string());
    let limited = LimitedCall { by: no_room.refused(), retry_after: Duration::from_secs(1) };
    Refusal { error, limited: Some(limited) }
}

fn unavailable() -> ClientError {
    let message = "the node is not connected to NATS, so it does not know the last values: try again later";
    ClientError::new(ErrorCode::Unavailable, message)
}

pub(super) fn overloaded() -> ClientError {
    ClientError::new(ErrorCode::TryAgain, "this node is overloaded: try again later")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;
    use std::time::SystemTime;

    use futures_util::poll;
    use tidegate_protocol::message::LastValue;
    use tidegate_protocol::payload::Payload;
    use tidegate_vocabulary::compile::compile;

    use super::*;
    use crate::shard::stretch::STEPS;

    const FILE: &str = "name = \"test\"\n[[path]]\nname = \"main\"\npath = \"/\"\n\
        [[receive]]\nwhen = { do = \"watch\" }\ndo = \"subscribe\"\nchannel = \"x.*\"\n\
        [[deliver]]\npattern = \"x.*\"\nsend = \"{data}\"\n";

    fn found(count: usize) -> Vec<Values> {
        let mut values = Values::new(Pattern::parse("x.*").unwrap());
        for number in 0..count {
            let subject = format!("x.{number}");
            let payload = Payload::classify(format!("[{number}]").into());
            let value = LastValue { subject: subject.as_str().into(), payload, time: SystemTime::now() };
            values.insert(subject.into(), value);
        }
        vec![values]
    }

    #[tokio::test]
    async fn a_long_list_is_written_in_stretches_with_other_tasks_in_between() {
        let vocabulary = compile(FILE).unwrap().vocabulary;
        for (count, pauses) in [(10, 0), (STEPS, 2), (10 * STEPS, 20)] {
            let channels = [Pattern::parse("x.*").unwrap()];
            let mut list = pin!(listed(&vocabulary, &channels, found(count), 0));
            let mut paused = 0;
            let list = loop {
                match poll!(list.as_mut()) {
                    Poll::Ready(list) => break list,
                    Poll::Pending => paused += 1,
                }
            };
            assert_eq!((list.count(), paused), (count, pauses));
            assert!(list.as_str().starts_with("[[0],[1],[2],"), "{}", list.as_str());
        }
    }

    #[test]
    fn a_call_is_charged_for_its_values_and_for_their_bytes() {
        let cost = Cost::of(&found(10));
        assert_eq!(cost, Cost { values: 10, bytes: 30 });
        assert_eq!((cost.calls(), cost.memory()), (0, 2590));
        assert_eq!(Cost { values: 19_800, bytes: 1_980_000 }.calls(), 396);
        assert_eq!(Cost { values: 4, bytes: 1_048_576 }.calls(), 128);
    }
}

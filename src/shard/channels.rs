//! The channels of a shard, for operators: which ones have the most subscriptions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tidegate_protocol::subject::Pattern;

use crate::connection::context::Context;
use crate::shard::stretch::STEPS;
use crate::shard::stretch::Stretch;

/// Which channels to list: those that meet all conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelFilter {
    /// The beginning of the channel's text.
    pub prefix: Option<String>,
    /// It matches all subjects of the channel.
    pub pattern: Option<Pattern>,
}

/// The channels that a filter selects on one shard.
#[derive(Debug, Default)]
pub struct ChannelList {
    /// The subscriptions to all of them.
    pub subscriptions: usize,
    /// Those with the most subscriptions, in no order.
    pub most: Vec<Pattern>,
    /// The most subscriptions of one that is not in `most`; 0 if all are.
    pub unlisted: usize,
}

impl ChannelFilter {
    pub fn selects(&self, channel: &Pattern) -> bool {
        let Self { prefix, pattern } = self;
        prefix.as_ref().is_none_or(|prefix| channel.as_str().starts_with(prefix.as_str()))
            && pattern.as_ref().is_none_or(|pattern| pattern.covers(channel))
    }
}

/// The channels that a filter selects: the subscriptions to all are counted, and those with the most are listed.
pub(super) async fn list(context: &Context, filter: &ChannelFilter, most: usize) -> ChannelList {
    let (mut list, mut stretch, mut from) = (ChannelList::default(), Stretch::default(), 0);
    // The fewest subscriptions are on top, and of several channels with as many, the last by name.
    let mut kept: BinaryHeap<Reverse<(usize, Reverse<Pattern>)>> = BinaryHeap::new();
    loop {
        let places = from..from + STEPS;
        let (channels, table) = {
            let hub = context.hub.borrow();
            (hub.channels(places.clone()), hub.table_size())
        };
        for (channel, subscriptions) in channels.into_iter().filter(|(channel, _)| filter.selects(channel)) {
            list.subscriptions += subscriptions;
            kept.push(Reverse((subscriptions, Reverse(channel))));
            if kept.len() > most
                && let Some(Reverse((subscriptions, _))) = kept.pop()
            {
                list.unlisted = list.unlisted.max(subscriptions);
            }
        }
        if places.end >= table {
            break;
        }
        from = places.end;
        stretch.steps(STEPS).await;
    }
    list.most = kept.into_iter().map(|Reverse((_, Reverse(channel)))| channel).collect();
    list
}

/// The subscriptions to each of these channels.
pub(super) async fn count(context: &Context, channels: &[Pattern]) -> Vec<usize> {
    let (mut counts, mut stretch) = (Vec::with_capacity(channels.len()), Stretch::default());
    for channel in channels {
        stretch.step().await;
        counts.push(context.hub.borrow().subscriptions_to(channel));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_channels_by_their_text_and_by_their_subjects() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        let filter = |prefix: &str, of: &str| ChannelFilter {
            prefix: Some(prefix.to_owned()),
            pattern: Some(pattern(of)),
        };
        for (filter, channel, selects) in [
            (ChannelFilter::default(), "a.b", true),
            (filter("pri", ">"), "prices.A", true),
            (filter("prices.A", ">"), "prices.AB", true),
            (filter("prices.B", ">"), "prices.A", false),
            (filter("", "prices.*"), "prices.A", true),
            (filter("", "prices.*"), "prices.*", true),
            (filter("", "prices.*"), "prices.>", false),
        ] {
            assert_eq!(filter.selects(&pattern(channel)), selects, "{filter:?} {channel}");
        }
    }
}

//! Tests of the selection, also against a naive model.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::class::Priority;
use crate::elements::Element;
use crate::elements::Elements;
use crate::message::FieldIndex;
use crate::message::Filter;

const COLLECTION: CollectionId = CollectionId(3);

fn element(channel: &str, key: &str, json: &str, note: &str) -> Arc<Element> {
    let form =
        ElementForm::Json { collection: Some(COLLECTION), json: json.into(), note: note.as_bytes().into() };
    Arc::new(Element { channel: channel.into(), key: key.into(), form })
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

/// A client that has been sent elements up to this number.
fn sent(seen: u64) -> Sent {
    Sent { seen, told_left_out: false }
}

/// The stores of one shard.
struct Shard {
    start: Instant,
    last: u64,
    stores: Vec<(Pattern, ElementStore)>,
}

impl Shard {
    fn new(patterns: &[&str]) -> Self {
        let stores = patterns.iter().map(|text| (pattern(text), ElementStore::new(pattern(text))));
        Self { start: Instant::now(), last: 0, stores: stores.collect() }
    }

    fn put(&mut self, topic: usize, list: Vec<Arc<Element>>, second: u64) {
        self.put_until(topic, list, second, None);
    }

    fn put_until(&mut self, topic: usize, list: Vec<Arc<Element>>, second: u64, expires: Option<Instant>) {
        let (arrived, time) = (self.start + Duration::from_secs(second), SystemTime::UNIX_EPOCH);
        self.stores[topic].1.put(
            &Elements { list, priority: Priority::Normal, arrived, time },
            expires,
            &mut self.last,
        );
    }

    fn members(&self) -> Vec<CollectingMember<'_>> {
        let member =
            |(pattern, store)| CollectingMember { pattern, store, since: 0, joined: 0, context: None };
        self.stores.iter().map(|(pattern, store)| member((pattern, store))).collect()
    }
}

fn texts<'s>(selection: &Selection<'s>) -> Vec<&'s str> {
    selection.elements.iter().filter_map(|stored| stored.element.json()).collect()
}

#[test]
fn sub_11_an_element_is_shown_where_its_channel_was_joined_and_the_newest_of_its_key_wins() {
    let mut shard = Shard::new(&["s", "s.a", "s.b"]);
    shard.put(
        0,
        vec![element("s.b", "b", "1", ""), element("s.c", "c", "2", ""), element("s.a", "a", "3", "")],
        1,
    );
    let all = select(COLLECTION, &shard.members(), sent(0), shard.start);
    assert_eq!((texts(&all), all.has_new, all.newest), (vec!["3", "1"], true, 3));
    shard.put(1, vec![element("s.a", "a", "4", ""), element("s.b", "b", "5", "")], 2);
    shard.put(2, vec![element("s.b", "b", "old", "")], 1);
    let all = select(COLLECTION, &shard.members(), sent(3), shard.start);
    assert_eq!((texts(&all), all.has_new, all.newest), (vec!["4", "5"], true, 6));
    assert!(!select(COLLECTION, &shard.members(), sent(6), shard.start).has_new);
    assert_eq!(texts(&select(CollectionId(4), &shard.members(), sent(0), shard.start)), [""; 0]);
    let members = shard.members();
    assert_eq!(texts(&select(COLLECTION, &members[..2], sent(0), shard.start)), ["4"], "without s.b");
    assert_eq!(texts(&select(COLLECTION, &members[2..], sent(0), shard.start)), ["old"], "without s and s.a");
}

#[test]
fn what_is_older_than_a_join_filtered_or_expired_is_not_shown() {
    let mut shard = Shard::new(&["s", "s.a"]);
    let second = Duration::from_secs(1);
    shard.put_until(0, vec![element("s.a", "1", "1", "buy"), element("s.a", "2", "2", "sell")], 1, None);
    shard.put_until(1, vec![element("s.a", "3", "3", "buy")], 1, Some(shard.start + second));
    let shown = |since: [u64; 2], filtered: [bool; 2], seen, now| {
        let contexts = filtered.map(|is_filtered| {
            let context = SubscriptionContext::default();
            if is_filtered {
                let values = Box::new(["buy".into()]);
                context.set_filter(Filter {
                    field: FieldIndex(0),
                    name: "side".into(),
                    values: Some(values),
                    not: Box::default(),
                    min: None,
                    max: None,
                });
            }
            context
        });
        let members = shard.members().into_iter().zip(&contexts).zip(since);
        let members: Vec<_> = members
            .map(|((member, context), since)| CollectingMember { since, context: Some(context), ..member })
            .collect();
        let selection = select(COLLECTION, &members, sent(seen), now);
        (texts(&selection).join(""), selection.expired)
    };
    assert_eq!(shown([0, 0], [false; 2], 0, shard.start), ("123".into(), 0));
    assert_eq!(shown([1, 0], [false; 2], 0, shard.start), ("23".into(), 0), "the source was joined later");
    assert_eq!(shown([0, 2], [false; 2], 0, shard.start), ("3".into(), 0), "the channel was joined later");
    for filtered in [[true, false], [false, true]] {
        assert!(!shown([0, 0], filtered, 0, shard.start).0.contains('2'), "{filtered:?}");
    }
    assert_eq!(shown([0, 0], [false; 2], 2, shard.start + second), ("12".into(), 1));
    assert_eq!(shown([0, 0], [false; 2], 3, shard.start + second), ("12".into(), 0), "it has been sent");
}

#[test]
fn a_message_is_bounded_and_leaves_the_oldest_out() {
    let mut shard = Shard::new(&["s.*"]);
    let list =
        |count: usize| (0..count).map(|n| element("s.a", &n.to_string(), &n.to_string(), "")).collect();
    shard.put(0, list(MAX_SELECTED), 1);
    let all = select(COLLECTION, &shard.members(), sent(0), shard.start);
    assert_eq!((all.elements.len(), all.left_out), (MAX_SELECTED, 0));
    shard.put(0, list(MAX_SELECTED + 2), 2);
    let all = select(COLLECTION, &shard.members(), sent(0), shard.start);
    assert_eq!((all.elements.len(), all.left_out), (MAX_SELECTED, 2));
    assert_eq!(texts(&all).first(), Some(&"2"), "the first two were published first");
    let large = format!("\"{}\"", "x".repeat(MAX_SELECTED_BYTES / 2 - 2));
    let mut shard = Shard::new(&["s.*"]);
    shard.put(0, vec![element("s.a", "1", "1", "")], 1);
    shard.put(0, vec![element("s.a", "2", &large, ""), element("s.a", "3", &large, "")], 2);
    let all = select(COLLECTION, &shard.members(), sent(0), shard.start);
    assert_eq!((all.elements.len(), all.left_out), (2, 1));
    let huge = format!("\"{}\"", "x".repeat(2 * MAX_SELECTED_BYTES));
    shard.put(0, vec![element("s.a", "4", &huge, "")], 3);
    let all = select(COLLECTION, &shard.members(), sent(0), shard.start);
    assert_eq!((all.elements.len(), all.left_out), (1, 3), "one is always shown");
}

#[test]
fn a_client_that_was_told_costs_no_more_than_a_message() {
    for topic in ["s.*", "s.a"] {
        let mut shard = Shard::new(&[topic]);
        let numbered = |n: usize| element("s.a", &n.to_string(), &n.to_string(), "");
        shard.put(0, (0..crate::elements::MAX_ELEMENTS).map(numbered).collect(), 1);
        let members = shard.members();
        let [all, told] = [false, true]
            .map(|told_left_out| select(COLLECTION, &members, Sent { seen: 0, told_left_out }, shard.start));
        assert_eq!(texts(&all), texts(&told));
        assert_eq!((all.left_out, told.left_out), (10_000 - 256, 1));
        let (mut looked_at, mut found) = (0, Vec::new());
        let newest_first = shard.stores[0].1.matching(&shard.stores[0].0).inspect(|_| looked_at += 1);
        take_newest(newest_first, true, &mut found);
        assert_eq!((looked_at, found.len()), (MAX_SELECTED + 1, MAX_SELECTED + 1));
    }
}

#[test]
fn only_what_passes_or_is_lost_is_news() {
    let mut shard = Shard::new(&["s", "s.a"]);
    assert!(!has_news(COLLECTION, &shard.members(), 0));
    shard.put(0, vec![element("s.b", "1", "1", "")], 1);
    assert!(!has_news(COLLECTION, &shard.members(), 0), "its channel is not joined");
    shard.put(0, vec![element("s.a", "1", "1", "sell")], 1);
    assert!(has_news(COLLECTION, &shard.members(), 1) && !has_news(COLLECTION, &shard.members(), 2));
    assert!(!has_news(CollectionId(4), &shard.members(), 0));
    assert!(!has_news(COLLECTION, &shard.members()[..1], 0), "without s.a");
    let context = SubscriptionContext::default();
    context.set_filter(Filter {
        field: FieldIndex(0),
        name: "side".into(),
        values: Some(Box::new(["buy".into()])),
        not: Box::default(),
        min: None,
        max: None,
    });
    let members: Vec<_> = shard
        .members()
        .into_iter()
        .map(|member| CollectingMember { context: Some(&context), ..member })
        .collect();
    assert!(!has_news(COLLECTION, &members, 0), "the filter lets it not pass");
    assert_eq!(newest(&members), 2);
    let many = (0..=crate::elements::MAX_ELEMENTS).map(|n| element("s.a", &n.to_string(), "1", "buy"));
    let list = many.collect();
    shard.put(1, list, 2);
    assert!(has_news(COLLECTION, &shard.members(), 2));
}

#[test]
fn a_member_is_told_only_of_lost_elements_that_were_live_for_it() {
    let mut shard = Shard::new(&["s.a", "s.*"]);
    let end = Some(shard.start);
    shard.put_until(0, vec![element("s.a", "1", "1", "")], 1, end);
    shard.put_until(0, vec![element("s.a", "2", "2", "")], 2, end);
    let expired = |joined: [u64; 2], seen| {
        let members = shard.members().into_iter().zip(joined);
        let members: Vec<_> = members.map(|(member, joined)| CollectingMember { joined, ..member }).collect();
        select(COLLECTION, &members, sent(seen), shard.start).expired
    };
    assert_eq!(expired([0, 0], 0), 2, "each once, though both patterns match");
    assert_eq!((expired([1, 0], 0), expired([1, 1], 0), expired([2, 2], 0)), (1, 1, 0));
    assert_eq!((expired([0, 0], 1), expired([0, 0], 2)), (1, 0));
}

#[test]
fn removed_elements_count_for_their_collection_and_if_filters_let_them_pass() {
    let mut shard = Shard::new(&["s.*"]);
    shard.put(0, vec![element("s.a", "first", "1", "buy")], 1);
    let list = |count: usize| (0..count).map(|n| element("s.a", &n.to_string(), "1", "sell")).collect();
    shard.put(0, list(crate::elements::MAX_ELEMENTS + 1), 2);
    let context = SubscriptionContext::default();
    let removed = |collection, joined, context| {
        let members = shard.members().into_iter();
        let members: Vec<_> = members.map(|member| CollectingMember { joined, context, ..member }).collect();
        select(collection, &members, sent(0), shard.start).removed
    };
    assert_eq!(removed(COLLECTION, 0, None), 2);
    assert_eq!(removed(CollectionId(4), 0, None), 0);
    assert_eq!(removed(COLLECTION, 1, None), 1, "one was published before it joined");
    context.set_filter(Filter {
        field: FieldIndex(0),
        name: "side".into(),
        values: Some(Box::new(["buy".into()])),
        not: Box::default(),
        min: None,
        max: None,
    });
    assert_eq!(removed(COLLECTION, 0, Some(&context)), 1);
}

proptest! {
    /// Whatever is published where, each key shows the newest element of the joined channels.
    #[test]
    fn the_newest_element_of_each_key_of_the_joined_channels_is_shown(
        joined in vec(any::<bool>(), 5),
        published in vec((0..5_usize, vec((0..5_usize, 0..30_u8), 0..4)), 0..40),
    ) {
        const TOPICS: [&str; 5] = ["s", "s.a", "s.b", "s.*", "t"];
        const CHANNELS: [&str; 5] = ["s", "s.a", "s.b", "s.c", "t"];
        let mut shard = Shard::new(&TOPICS);
        let mut newest: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        let is_joined = |channel: &str| TOPICS.iter().zip(&joined).any(|(topic, is)| *is && pattern(topic).matches(channel));
        for (at, (topic, list)) in published.iter().enumerate() {
            let mut elements = Vec::new();
            for (place, (channel, key)) in list.iter().enumerate() {
                let (channel, key, json) = (CHANNELS[*channel], key.to_string(), format!("{at}{place:03}"));
                if joined[*topic] && is_joined(channel) {
                    newest.insert(key.clone(), json.clone());
                }
                elements.push(element(channel, &key, &json, ""));
            }
            shard.put(*topic, elements, at as u64);
        }
        let members: Vec<_> = shard.members().into_iter().zip(&joined).filter(|(_, is)| **is).map(|(member, _)| member).collect();
        let selection = select(COLLECTION, &members, sent(0), shard.start);
        let shown: std::collections::BTreeMap<String, String> = selection.elements.iter().map(|stored| {
            (stored.element.key.to_string(), stored.element.json().unwrap_or_default().to_owned())
        }).collect();
        prop_assert_eq!(shown.len(), selection.elements.len(), "each key once");
        prop_assert_eq!(shown, newest);
    }
}

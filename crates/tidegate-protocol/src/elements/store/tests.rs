//! Tests of element stores.

use super::*;
use crate::class::Priority;
use crate::elements::ElementForm;

fn element(channel: &str, key: &str, json: &str) -> Arc<Element> {
    let form =
        ElementForm::Json { collection: Some(CollectionId(1)), json: json.into(), note: Box::default() };
    Arc::new(Element { channel: channel.into(), key: key.into(), form })
}

fn elements(list: &[(&str, &str, &str)], arrived: Instant) -> Elements {
    let list = list.iter().map(|(channel, key, json)| element(channel, key, json)).collect();
    Elements { list, priority: Priority::Normal, arrived, time: SystemTime::UNIX_EPOCH }
}

fn shown(store: &ElementStore, pattern: &str) -> Vec<(String, u64, u64)> {
    let pattern = Pattern::parse(pattern).unwrap();
    let show = |stored: &StoredElement| {
        (stored.element.json().unwrap_or_default().to_owned(), stored.number, stored.place)
    };
    let mut found: Vec<_> = store.matching(&pattern).map(show).collect();
    assert!(found.is_sorted_by_key(|(_, number, _)| std::cmp::Reverse(*number)));
    found.sort_unstable_by_key(|(.., place)| *place);
    found
}

fn store(pattern: &str) -> ElementStore {
    ElementStore::new(Pattern::parse(pattern).unwrap())
}

#[test]
fn the_newest_of_each_channel_and_key_is_kept_at_the_place_of_the_first() {
    let (now, mut last) = (Instant::now(), 0);
    let mut store = store("s");
    store.put(
        &elements(&[("s.a", "k", "1"), ("s.b", "k", "2"), ("s", "k", "3"), ("s.a", "k", "4")], now),
        None,
        &mut last,
    );
    assert_eq!(shown(&store, "s.a"), [("4".to_owned(), 4, 1)]);
    assert_eq!(shown(&store, "s.*"), [("4".to_owned(), 4, 1), ("2".to_owned(), 2, 2)]);
    assert_eq!(shown(&store, "s"), [("3".to_owned(), 3, 3)]);
    assert_eq!(shown(&store, "s.aa"), []);
    assert!(store.has_foreign());
    assert_eq!((store.newest(), store.len(), last), (4, 3, 4));
}

#[test]
fn a_snapshot_adds_what_is_missing_older_or_may_be_outdated() {
    let (now, mut last) = (Instant::now(), 0);
    let later = now + std::time::Duration::from_secs(1);
    let mut store = store("s.a");
    store.put(&elements(&[("s.a", "k", "live")], now), None, &mut last);
    store.seed(&[elements(&[("s.a", "k", "same"), ("s.a", "l", "new")], now)], |_| None, &mut last);
    assert_eq!(shown(&store, "s.a"), [("live".to_owned(), 1, 1), ("new".to_owned(), 2, 2)]);
    store.seed(&[elements(&[("s.a", "k", "later")], later)], |_| None, &mut last);
    store.seed(&[elements(&[("s.a", "k", "earlier")], now)], |_| None, &mut last);
    assert_eq!(shown(&store, "s.a")[0], ("later".to_owned(), 3, 1));
    store.note_loss(last);
    store.seed(&[elements(&[("s.a", "k", "again")], later)], |_| None, &mut last);
    let before = now - std::time::Duration::from_secs(1);
    store.seed(&[elements(&[("s.a", "l", "earlier")], before)], |_| None, &mut last);
    assert_eq!(shown(&store, "s.a"), [("again".to_owned(), 4, 1), ("new".to_owned(), 2, 2)]);
    assert!(!store.has_foreign());
}

#[test]
fn of_a_snapshot_the_last_element_of_a_key_counts_also_if_all_arrived_at_once() {
    let (now, mut last) = (Instant::now(), 0);
    let mut store = store("s");
    store.put(&elements(&[("s", "l", "live")], now), None, &mut last);
    let list = |json| elements(&[("s", "k", json), ("s", "l", json)], now);
    store.seed(&[list("1"), list("2"), list("3")], |_| None, &mut last);
    assert_eq!(
        shown(&store, "s").into_iter().map(|(json, ..)| json).collect::<Vec<_>>(),
        ["live", "3"],
        "what came live is newer"
    );
    store.note_loss(last);
    store.seed(&[list("4"), list("3"), list("5")], |_| None, &mut last);
    assert_eq!(shown(&store, "s").into_iter().map(|(json, ..)| json).collect::<Vec<_>>(), ["5", "5"]);
}

#[test]
fn elements_and_their_bytes_are_bounded() {
    let (now, mut last) = (Instant::now(), 0);
    let mut of_many = store("s.*");
    let keys: Vec<String> = (0..MAX_ELEMENTS + 3).map(|number| number.to_string()).collect();
    for key in &keys {
        of_many.put(&elements(&[("s.a", key, "1")], now), None, &mut last);
    }
    assert_eq!(of_many.len(), MAX_ELEMENTS);
    assert_eq!(of_many.removed_since(1).count(), 2, "the first three are gone, and one of them is known");
    assert_eq!((of_many.by_key.len(), of_many.by_channel.len()), (MAX_ELEMENTS, MAX_ELEMENTS));
    let mut of_large = store("s.*");
    let large = format!("\"{}\"", "x".repeat(MAX_ELEMENT_BYTES / 4));
    for key in &keys[..8] {
        of_large.put(&elements(&[("s.a", key, &large)], now), None, &mut last);
        assert!(of_large.bytes() <= MAX_ELEMENT_BYTES);
    }
    assert_eq!(of_large.len(), 3);
    let huge = format!("\"{}\"", "x".repeat(MAX_ELEMENT_BYTES));
    of_large.put(&elements(&[("s.a", "huge", &huge)], now), None, &mut last);
    assert_eq!(of_large.len(), 1, "one is always kept");
    of_large.put(&elements(&[("s.a", "huge", "1")], now), None, &mut last);
    assert_eq!((of_large.len(), of_large.bytes() < 1000, of_large.foreign), (1, true, 1));
}

//! What a feed answers, in any order of joins, leaves, losses and messages.

use super::*;
use crate::protocol::error::ErrorCode;
use crate::protocol::vocabulary::Vocabulary;

fn format() -> Format {
    Vocabulary::Native.format(0)
}

fn feed(class: Class, now: Instant) -> Feed {
    let pattern = class.pattern.clone();
    let now = (now, SystemTime::UNIX_EPOCH);
    Feed::new(pattern, Arc::new(class), SubscriptionKey::of_nothing(), LastValues::new(10, 1000), now)
}

fn plain() -> Class {
    Class::plain(Pattern::parse("chat.a").unwrap())
}

fn refusal() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "later")
}

/// Whom each is for, and a word for what it is.
fn words(addressed: &[Addressed]) -> Vec<(usize, String)> {
    let word = |item: &Item| match item {
        Item::Joined { snapshot, stale, .. } => format!("joined {} {}", snapshot.len(), stale.is_some()),
        Item::Unjoined { .. } => "unjoined".to_owned(),
        Item::Publication { frames, .. } => format!("publication {}", frames.len()),
        Item::Lost { cause, dropped, .. } => format!("lost {} {dropped:?}", cause.name()),
        Item::Stale { .. } => "stale".to_owned(),
    };
    addressed.iter().map(|addressed| (addressed.shard, word(&addressed.item))).collect()
}

fn said(shard: usize, word: &str) -> (usize, String) {
    (shard, word.to_owned())
}

#[test]
fn whoever_waits_is_refused_after_a_time_of_its_own() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut feed = feed(plain(), start);
    assert!(feed.join(0, format(), start).is_none());
    assert_eq!(words(&feed.refuse(&refusal(), start, at(5))), [said(0, "unjoined")]);
    assert!(feed.join(1, format(), at(6)).is_none());
    assert!(feed.refuse(&refusal(), at(1), at(6)).is_empty(), "it has only begun to wait");
    assert!(!feed.is_idle(Duration::ZERO, at(6)));
    assert_eq!(words(&feed.opened(at(7))), [said(1, "joined 0 false")]);
}

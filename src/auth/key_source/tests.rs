//! Tests of when keys are fetched, and of who waits for that.

use super::*;
use crate::auth::keys::VerificationKey;
use crate::auth::tests::signer::Signer;
use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::auth::remote_keys::KeyUrl;
use crate::config::auth::remote_keys::KeysLocation;

const SECOND: Duration = Duration::from_secs(1);

fn source(now: Instant) -> KeySource {
    let location = KeysLocation::KeySet(KeyUrl::parse("https://issuer.example/keys").unwrap());
    let remote = RemoteKeysConfig { location, algorithms: Vec::new(), ca_file: None };
    let rules = ClaimRules::default();
    KeySource::new(
        KeySourceSettings { remote, rules, refresh: 600 * SECOND, min_refetch: 30 * SECOND },
        None,
        now,
    )
}

/// A set with one key for each of these names.
fn keys(kids: &[&str]) -> VerificationKeys {
    let mut keys = VerificationKeys::default();
    for kid in kids {
        let signer = Signer::new(KeyAlgorithm::EdDsa);
        let jwk = signer.jwk(kid);
        let key = crate::auth::keys::public_key::PublicKey::from_jwk(jwk.as_object().unwrap()).unwrap();
        keys.insert(
            (*kid).to_owned(),
            VerificationKey::from_public(signer.algorithm, &key, &ClaimRules::default()),
        );
    }
    keys
}

#[tokio::test]
async fn jwt_04_unknown_keys_cause_one_fetch_in_each_interval() {
    let start = Instant::now();
    let source = source(start);
    assert!(source.begin(false, start), "the first fetch");
    source.finish(Some(keys(&["a"])), start + SECOND);
    let fetch_for_token = |second: u32| {
        let now = start + SECOND * second;
        let mut wait = Box::pin(source.wait_for_fetch(now));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let is_refused = wait.as_mut().poll(&mut context).is_ready();
        let is_fetched = source.begin(true, now);
        assert_eq!(is_refused, !is_fetched);
        if is_fetched {
            source.finish(Some(keys(&["a"])), now);
        }
        is_fetched
    };
    let fetches: Vec<u32> = (1..=120).filter(|second| fetch_for_token(*second)).collect();
    assert!(!source.begin(true, start + 200 * SECOND), "no one asks for it any more");
    assert_eq!(fetches, [30, 60, 90, 120], "30 seconds after the begin of the last");
}

#[test]
fn jwt_10_keys_are_fetched_regularly_and_soon_again_after_a_failure() {
    let start = Instant::now();
    let source = source(start);
    let next = |now: Instant, result: Option<VerificationKeys>| {
        assert!(source.begin(false, now));
        source.finish(result, now);
        source.state().next - now
    };
    let pauses: Vec<u64> = (0..8).map(|hour| next(start + 3600 * SECOND * hour, None).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(source.state().failures, 8);
    let later = start + 36_000 * SECOND;
    assert_eq!(next(later, Some(keys(&["a"]))), 600 * SECOND);
    assert!(!source.begin(false, later + 599 * SECOND));
    assert_eq!(next(later + 600 * SECOND, None), SECOND, "the count of failures starts again");
    assert!(source.keys().is_some(), "the last good set stays");
    assert_eq!((source.state().failures, source.state().finished), (9, 10));
}

#[test]
fn jwt_10_before_the_first_set_clients_learn_when_to_come_back() {
    let start = Instant::now();
    let source = source(start);
    assert_eq!(source.retry_after(start), SECOND, "a fetch is under way");
    for _ in 0..4 {
        let next = source.state().next;
        assert!(source.begin(false, next));
        source.finish(None, next);
    }
    let next = source.state().next;
    assert_eq!(source.retry_after(next - 8 * SECOND), 8 * SECOND);
    assert_eq!(source.retry_after(next + SECOND), SECOND);
    assert!(!source.begin(true, next - SECOND), "clients do not make it try earlier");
}

#[test]
fn a_new_set_tells_which_one_it_replaces() {
    let start = Instant::now();
    let source = source(start);
    let (one, two) = (keys(&["a"]), keys(&["a"]));
    assert!(source.finish(Some(one), start).is_none());
    let earlier = source.finish(Some(two), start).unwrap();
    assert!(!earlier.are_all_in(&source.keys().unwrap()), "the same kid with another key");
    assert!(earlier.are_all_in(&earlier));
    assert!(earlier.are_all_in(&earlier) && VerificationKeys::default().are_all_in(&earlier));
    assert!(!earlier.are_all_in(&VerificationKeys::default()));
}

#[tokio::test]
async fn jwt_04_clients_that_wait_share_one_fetch_and_too_many_do_not_wait() {
    let start = Instant::now();
    let source = Arc::new(source(start));
    let waits: Vec<_> =
        (0..MAX_WAITING + 100).map(|_| Box::pin(source.wait_for_fetch(Instant::now()))).collect();
    let mut waits = waits;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let done: Vec<bool> = waits.iter_mut().map(|wait| wait.as_mut().poll(&mut context).is_ready()).collect();
    assert_eq!(done.iter().filter(|is_done| **is_done).count(), 100, "these are told to come back");
    source.next_fetch().await;
    source.finish(Some(keys(&["a"])), Instant::now());
    for (wait, is_done) in waits.into_iter().zip(done) {
        if !is_done {
            wait.await;
        }
    }
    assert_eq!(source.state().finished, 1);
    // The last fetch is less than the interval ago, so nothing waits and nothing is fetched.
    for _ in 0..10_000 {
        source.wait_for_fetch(Instant::now()).await;
    }
    let another = tokio::time::timeout(Duration::from_millis(20), source.next_fetch()).await;
    assert!(another.is_err(), "no second fetch");
}

#[tokio::test]
async fn jwt_10_a_refresh_during_a_fetch_is_followed_by_another_fetch() {
    let start = Instant::now();
    let source = source(start);
    assert!(source.begin(false, start));
    source.finish(Some(keys(&["a"])), start);
    source.refresh(start + SECOND);
    assert!(source.begin(false, start + SECOND));
    // This fetch may have read the set before the key was removed.
    source.refresh(start + 2 * SECOND);
    source.finish(Some(keys(&["a"])), start + 3 * SECOND);
    assert!(source.begin(false, start + 3 * SECOND));
    source.finish(Some(keys(&["b"])), start + 4 * SECOND);
    assert!(!source.begin(false, start + 5 * SECOND), "once");
}

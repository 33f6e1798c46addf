//! Tests of the token cache: what it keeps, for how long, what it drops, and that results never depend on it.

use std::time::SystemTime;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::Authenticator;
use crate::auth::error::AuthError;
use crate::auth::tests::HEADER;
use crate::auth::tests::NOW;
use crate::auth::tests::SECRET;
use crate::auth::tests::assert_refused;
use crate::auth::tests::at;
use crate::auth::tests::authenticator;
use crate::auth::tests::claims_with;
use crate::auth::tests::config;
use crate::auth::tests::key;
use crate::auth::tests::sign;
use crate::config::auth::AuthConfig;

fn token(changes: serde_json::Value) -> String {
    sign(HEADER, &claims_with(changes), SECRET.as_bytes())
}

fn caching(entries: usize) -> Authenticator {
    authenticator(AuthConfig { token_cache: entries, ..config() })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn verified(user: &str, until: u64) -> VerifiedToken {
    let identity = Arc::new(Identity { user: user.into(), ..Identity::default() });
    VerifiedToken { identity, from: seconds(0), until: seconds(until) }
}

/// A cache with exactly one set.
fn one_set() -> TokenCache {
    TokenCache::new(WAYS)
}

fn fill(cache: &TokenCache, users: std::ops::Range<usize>, until: u64, now: u64) {
    for user in users.map(|number| number.to_string()) {
        cache.insert(TokenDigest::of(&user, ""), verified(&user, until), seconds(now), cache.removal_count());
    }
}

fn knows(cache: &TokenCache, user: &str, now: u64) -> bool {
    matches!(cache.find(&TokenDigest::of(user, ""), seconds(now)), Some(CacheAnswer::Identity(_)))
}

#[test]
fn the_same_token_is_the_same_identity_and_another_one_is_not() {
    let authenticator = caching(64);
    let (one, other) = (token(json!({"sub": "alice"})), token(json!({"sub": "alice", "jti": "2"})));
    let first = authenticator.authenticate(&one, at(NOW)).unwrap();
    assert!(Arc::ptr_eq(&first, &authenticator.authenticate(&one, at(NOW + 1)).unwrap()));
    assert!(!Arc::ptr_eq(&first, &authenticator.authenticate(&other, at(NOW)).unwrap()));
    assert_eq!(authenticator.cached_tokens(), 2);
    // The same header and claims with another signature are another token.
    let (message, _) = one.rsplit_once('.').unwrap();
    let (_, foreign) = other.rsplit_once('.').unwrap();
    let forged = authenticator.authenticate(&format!("{message}.{foreign}"), at(NOW));
    assert_refused(forged, "bad_signature", "another token's signature");
    assert_eq!(authenticator.cached_tokens(), 2, "rejections are not cached");
}

#[test]
fn a_cache_of_size_0_caches_nothing() {
    let (authenticator, token) = (caching(0), token(json!({})));
    let first = authenticator.authenticate(&token, at(NOW)).unwrap();
    let second = authenticator.authenticate(&token, at(NOW)).unwrap();
    assert!(first == second && !Arc::ptr_eq(&first, &second));
    assert_eq!((authenticator.cached_tokens(), authenticator.forget(StaleTokens::All)), (0, 0));
}

#[test]
fn the_tokens_of_one_issuer_are_forgotten_and_no_others() {
    let cache = one_set();
    fill(&cache, 0..3, 10, 0);
    let identity =
        Identity { user: "alice".into(), issuer: Some("https://a.example".into()), ..Identity::default() };
    let of_issuer = VerifiedToken { identity: Arc::new(identity), ..verified("alice", 10) };
    cache.insert(TokenDigest::of("alice", ""), of_issuer, seconds(0), cache.removal_count());
    assert_eq!(cache.forget(StaleTokens::OfIssuer("https://b.example")), 0);
    assert_eq!(cache.forget(StaleTokens::OfIssuer("https://a.example")), 1);
    assert!(!knows(&cache, "alice", 0) && knows(&cache, "0", 0));
    assert_eq!(cache.forget(StaleTokens::All), 3);
    assert!(cache.is_empty());
}

#[test]
fn rev_01_a_verification_while_tokens_are_removed_is_not_cached() {
    let cache = one_set();
    let removals = cache.removal_count();
    assert_eq!(cache.forget(StaleTokens::OfIssuer("https://a.example")), 0);
    cache.insert(TokenDigest::of("alice", ""), verified("alice", 10), seconds(0), removals);
    assert!(!knows(&cache, "alice", 0));
    cache.insert(TokenDigest::of("alice", ""), verified("alice", 10), seconds(0), cache.removal_count());
    assert!(knows(&cache, "alice", 0));
}

#[test]
fn a_new_key_with_the_same_kid_accepts_no_token_of_the_old_key() {
    let before = caching(64);
    let token = token(json!({}));
    assert!(before.authenticate(&token, at(NOW)).is_ok());
    let keys = vec![key("main", "another secret, which is as long as the first")];
    let after = authenticator(AuthConfig { keys, token_cache: 64, ..config() });
    assert_refused(after.authenticate(&token, at(NOW)), "bad_signature", "a token of the old key");
    assert!(before.authenticate(&token, at(NOW)).is_ok());
}

#[test]
fn jwt_05_a_cached_token_begins_and_expires_at_the_exact_second() {
    let config = || AuthConfig { leeway: seconds(0), token_cache: 64, ..config() };
    let authenticator = authenticator(config());
    let token = token(json!({"exp": NOW + 60, "nbf": NOW, "iat": NOW - 5}));
    let ask = |now: u64| authenticator.authenticate(&token, at(now)).map_err(|error| error.reason());
    let identity = ask(NOW).unwrap();
    assert!(Arc::ptr_eq(&identity, &ask(NOW + 59).unwrap()));
    let almost = at(NOW + 60) - Duration::from_nanos(1);
    assert!(Arc::ptr_eq(&identity, &authenticator.authenticate(&token, almost).unwrap()));
    // The clock goes back, to before the token begins; the token stays cached.
    assert_eq!(ask(NOW - 1), Err("not_yet_valid"));
    assert_eq!(ask(0), Err("not_yet_valid"));
    assert!(Arc::ptr_eq(&identity, &ask(NOW).unwrap()));
    assert_eq!(ask(NOW + 60), Err("expired"));
    assert_eq!(authenticator.cached_tokens(), 1, "the expiry is cached");
    assert!(!Arc::ptr_eq(&identity, &ask(NOW + 59).unwrap()), "the clock goes back: it is verified again");
}

#[test]
fn jwt_05_an_expired_token_is_rejected_again_without_a_verification() {
    let authenticator = caching(64);
    let ended = token(json!({"exp": NOW}));
    for now in [NOW, NOW + 1, NOW + 1000] {
        assert_refused(authenticator.authenticate(&ended, at(now)), "expired", "its end");
        assert_eq!(authenticator.cached_tokens(), 1);
    }
    // The clock goes back: the cached expiry does not count. A forged token is not cached.
    assert!(authenticator.authenticate(&ended, at(NOW - 1)).is_ok());
    let forged = format!("{}x", token(json!({"exp": NOW - 5})));
    assert!(authenticator.authenticate(&forged, at(NOW)).is_err());
    assert_eq!(authenticator.cached_tokens(), 1);
    assert_refused(authenticator.authenticate(&ended, at(NOW)), "expired", "its end");
    assert_eq!(authenticator.forget(StaleTokens::All), 1);
    assert_refused(authenticator.authenticate(&ended, at(NOW)), "expired", "verified again");
}

#[test]
fn the_size_is_never_exceeded_and_the_least_recently_used_token_is_dropped() {
    for entries in [1, 2, WAYS, WAYS + 1, 100, 1000] {
        let cache = TokenCache::new(entries);
        fill(&cache, 0..20 * entries, 10, 0);
        assert!(cache.len() <= entries, "{} of {entries}", cache.len());
        assert!(cache.len() > entries / 2, "{} of {entries}", cache.len());
    }
    let cache = one_set();
    fill(&cache, 0..WAYS, 10, 0);
    assert!(knows(&cache, "0", 0));
    fill(&cache, WAYS..WAYS + 1, 10, 0);
    assert!(knows(&cache, "0", 0) && !knows(&cache, "1", 0) && knows(&cache, "2", 0));
}

#[test]
fn expired_tokens_are_dropped_before_valid_ones() {
    let cache = one_set();
    fill(&cache, 0..1, 100, 0);
    fill(&cache, 1..WAYS, 5, 0);
    fill(&cache, WAYS..WAYS + 1, 100, 6);
    assert_eq!(cache.len(), 2);
    assert!(knows(&cache, "0", 6), "least recently used, but valid");
    assert!(knows(&cache, &WAYS.to_string(), 6));
}

#[test]
fn two_verifications_of_the_same_token_at_once_cache_it_once() {
    let cache = one_set();
    let (digest, removals) = (TokenDigest::of("alice", ""), cache.removal_count());
    for _ in 0..2 {
        cache.insert(digest, verified("alice", 10), seconds(0), removals);
    }
    assert_eq!(cache.len(), 1);
}

#[test]
fn debug_output_hides_cached_tokens() {
    let authenticator = caching(64);
    let token = token(json!({"sub": "sentinel"}));
    assert!(authenticator.authenticate(&token, at(NOW)).is_ok());
    let shown = format!("{authenticator:?}");
    assert!(!shown.contains("sentinel") && !shown.contains(&token), "{shown}");
}

/// Times of a token, in seconds around [`NOW`], some with fractions.
fn time() -> impl Strategy<Value = Option<serde_json::Value>> {
    let whole = (-20_i64..20).prop_map(|offset| json!(NOW.saturating_add_signed(offset)));
    let fraction = (-80_i32..80).prop_map(|offset| json!(NOW as f64 + f64::from(offset) / 4.0));
    prop_oneof![1 => Just(None), 3 => whole.prop_map(Some), 2 => fraction.prop_map(Some)]
}

fn outcome(result: Result<Arc<Identity>, AuthError>) -> Result<Identity, AuthError> {
    result.map(|identity| (*identity).clone())
}

proptest! {
    /// Whatever the clock does, even backwards, results do not show whether tokens are cached.
    #[test]
    fn a_cached_result_equals_that_of_a_verification(
        times in prop::collection::vec((time(), time(), time()), 1..4),
        requested in prop::collection::vec((0_usize..4, -120_i64..120), 1..60),
        leeway in 0_u64..6,
        max_lifetime in prop_oneof![Just(0_u64), 1_u64..40],
    ) {
        let config = |token_cache| {
            let (leeway, max_token_lifetime) = (seconds(leeway), seconds(max_lifetime));
            AuthConfig { leeway, max_token_lifetime, token_cache, ..config() }
        };
        let (remembering, forgetful) = (authenticator(config(2)), authenticator(config(0)));
        let tokens: Vec<_> = times
            .into_iter()
            .map(|(exp, nbf, iat)| token(json!({"exp": exp, "nbf": nbf, "iat": iat})))
            .collect();
        for (number, quarters) in requested {
            let token = &tokens[number % tokens.len()];
            let offset = Duration::from_millis(250 * quarters.unsigned_abs());
            let now: SystemTime = if quarters < 0 { at(NOW) - offset } else { at(NOW) + offset };
            let (is, should) = (remembering.authenticate(token, now), forgetful.authenticate(token, now));
            prop_assert_eq!(outcome(is), outcome(should));
        }
    }
}

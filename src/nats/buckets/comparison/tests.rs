//! Tables of buckets with their plans.

use super::*;
use crate::nats::buckets::BUCKETS;
use crate::nats::buckets::REVOKED;
use crate::nats::buckets::TICKETS;

/// What a server answers about a bucket with this configuration and number of messages.
fn info(config: &Value, messages: u64) -> Value {
    json!({ "config": config, "state": { "messages": messages }, "created": "2026-11-01T00:00:00Z" })
}

/// The plan for a bucket that differs from the wanted one in these settings, of which `null` removes one.
fn plan_with(bucket: KvBucket, settings: &Value, messages: u64) -> BucketPlan {
    let mut config = bucket.stream_config(1);
    for (name, value) in settings.as_object().unwrap() {
        config[name] = value.clone();
    }
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    bucket.plan(Some(&info(&config, messages)), None)
}

#[test]
fn a_bucket_that_does_not_exist_is_created_with_its_replicas() {
    for bucket in BUCKETS {
        for (replicas, expected) in [(None, 1), (Some(3), 3)] {
            let config = bucket.stream_config(expected);
            assert_eq!(bucket.plan(None, replicas), BucketPlan::Create { config });
        }
    }
}

#[test]
fn what_is_not_tidegates_is_left_alone() {
    for bucket in BUCKETS {
        let own = json!({
            "description": "ours", "max_bytes": 1_000_000, "num_replicas": 3, "placement": { "cluster": "eu" },
            "compression": "s2", "metadata": { "team": "edge" }, "no_ack": false
        });
        assert_eq!(plan_with(bucket, &own, 5), BucketPlan::Unchanged);
    }
}

#[test]
fn equal_ways_to_republish_are_unchanged() {
    for republish in [
        json!({ "src": ">", "dest": "_live.>" }),
        json!({ "src": "", "dest": "_live.$KV.tidegate_revoked.>" }),
        json!({ "src": "$KV.tidegate_revoked.>", "dest": "_live.>", "headers_only": false }),
    ] {
        assert_eq!(plan_with(REVOKED, &json!({ "republish": republish }), 1), BucketPlan::Unchanged);
    }
}

#[test]
fn settings_that_lose_nothing_are_updated() {
    let minute = 60_000_000_000_u64;
    let cases = [
        (REVOKED, json!({ "republish": null }), 1, "republish: not set -> {"),
        (
            REVOKED,
            json!({ "republish": { "src": ">", "dest": "_live.>", "headers_only": true } }),
            1,
            "republish: {",
        ),
        (REVOKED, json!({ "allow_msg_ttl": null }), 1, "allow_msg_ttl: not set -> true"),
        (REVOKED, json!({ "allow_msg_ttl": false }), 1, "allow_msg_ttl: false -> true"),
        (
            REVOKED,
            json!({ "subject_delete_marker_ttl": null }),
            1,
            "subject_delete_marker_ttl: not set -> 3600s",
        ),
        (REVOKED, json!({ "allow_direct": false }), 1, "allow_direct: false -> true"),
        (REVOKED, json!({ "discard": "old" }), 1, "discard: \"old\" -> \"new\""),
        (REVOKED, json!({ "no_ack": true }), 1, "no_ack: true -> false"),
        (REVOKED, json!({ "max_age": minute }), 1, "max_age: 60s -> none"),
        (TICKETS, json!({ "max_age": minute / 2 }), 1, "max_age: 30s -> 60s"),
        (TICKETS, json!({ "max_age": 2 * minute }), 0, "max_age: 120s -> 60s"),
        (TICKETS, json!({ "max_msgs_per_subject": 5 }), 0, "max_msgs_per_subject: 5 -> 1"),
    ];
    for (bucket, settings, messages, change) in cases {
        let mine = json!({ "placement": { "cluster": "eu" } });
        let mut all = settings.clone();
        all["placement"] = mine["placement"].clone();
        let BucketPlan::Update { changes, config } = plan_with(bucket, &all, messages) else {
            panic!("no update: {settings}")
        };
        assert!(changes.len() == 1 && changes[0].starts_with(change), "{settings}: {changes:?}");
        assert_eq!(config["placement"], mine["placement"], "{settings}");
        assert_eq!(bucket.plan(Some(&info(&config, messages)), None), BucketPlan::Unchanged, "{settings}");
    }
}

#[test]
fn the_duplicate_window_follows_a_shorter_age() {
    let long = json!({ "max_age": 0, "duplicate_window": 120_000_000_000_u64 });
    let BucketPlan::Update { config, .. } = plan_with(TICKETS, &long, 0) else { panic!("no update") };
    assert_eq!(config["duplicate_window"], config["max_age"]);
}

#[test]
fn what_the_server_cannot_change_or_what_loses_data_is_a_conflict() {
    let minute = 60_000_000_000_u64;
    let cases = [
        (REVOKED, json!({ "storage": "memory" }), "storage is \"memory\" and must be \"file\": back up"),
        (TICKETS, json!({ "storage": "file" }), "storage is \"file\" and must be \"memory\": back up"),
        (REVOKED, json!({ "retention": "workqueue" }), "retention is"),
        (REVOKED, json!({ "subjects": ["revoked.>"] }), "subjects is [\"revoked.>\"]"),
        (REVOKED, json!({ "mirror": { "name": "X" } }), "it has mirror"),
        (REVOKED, json!({ "sources": [{ "name": "X" }] }), "it has sources"),
        (REVOKED, json!({ "sealed": true }), "it is sealed"),
        (REVOKED, json!({ "republish": { "src": ">", "dest": "other.>" } }), "it is republished elsewhere"),
        (
            REVOKED,
            json!({ "max_msgs_per_subject": 5 }),
            "max_msgs_per_subject is 5 and must be 1, which can remove",
        ),
        (REVOKED, json!({ "max_msgs_per_subject": -1 }), "max_msgs_per_subject is -1 and must be 1"),
        (
            TICKETS,
            json!({ "max_age": 2 * minute }),
            "max_age is 120s and must be 60s, which can remove entries",
        ),
        (TICKETS, json!({ "max_age": 0 }), "max_age is none and must be 60s"),
    ];
    for (bucket, settings, problem) in cases {
        let BucketPlan::Conflict { problems } = plan_with(bucket, &settings, 1) else {
            panic!("no conflict: {settings}")
        };
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{settings}: {problems:?}");
        assert!(problems[0].contains('`'), "{problems:?} names no command");
    }
    let BucketPlan::Conflict { problems } = REVOKED.plan(Some(&json!({})), None) else {
        panic!("no conflict")
    };
    assert!(problems[0].contains("unknown way"), "{problems:?}");
}

#[test]
fn replicas_change_only_on_request() {
    let config = REVOKED.stream_config(1);
    assert_eq!(REVOKED.plan(Some(&info(&config, 1)), Some(1)), BucketPlan::Unchanged);
    let BucketPlan::Update { changes, config } = REVOKED.plan(Some(&info(&config, 1)), Some(3)) else {
        panic!("no update")
    };
    assert_eq!((changes, &config["num_replicas"]), (vec!["num_replicas: 1 -> 3".to_owned()], &json!(3)));
}

//! `BucketPlan`: compares a bucket that exists with what Tidegate needs of it. Nothing in a plan deletes data.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::nats::buckets::KvBucket;
use crate::nats::buckets::nanoseconds;

/// What to do about a bucket.
#[derive(Clone, PartialEq, Debug)]
pub enum BucketPlan {
    /// It is as it must be.
    Unchanged,
    /// It does not exist.
    Create { config: Value },
    /// It lacks something that can be added without losing data.
    Update {
        /// One line each: the setting, what it is, what it will be.
        changes: Vec<String>,
        /// The whole configuration, with all that is not Tidegate's as it is.
        config: Value,
    },
    /// It needs a decision of a person: the server cannot change it, or data would be lost.
    Conflict {
        /// One line each: what is wrong, and what to do.
        problems: Vec<String>,
    },
}

impl KvBucket {
    /// The plan for a bucket. `info` is the response to `$JS.API.STREAM.INFO.<stream>`, `None` if there is no such
    /// stream. Without `replicas`, a new bucket has one, and those of an existing one are not changed.
    pub fn plan(&self, info: Option<&Value>, replicas: Option<u64>) -> BucketPlan {
        let Some(info) = info else {
            return BucketPlan::Create { config: self.stream_config(replicas.unwrap_or(1)) };
        };
        let Some(config) = info["config"].as_object() else {
            let problem = "the server describes it in an unknown way: upgrade Tidegate".to_owned();
            return BucketPlan::Conflict { problems: vec![problem] };
        };
        let mut comparison = Comparison {
            bucket: *self,
            is_empty: info["state"]["messages"].as_u64() == Some(0),
            config: config.clone(),
            changes: Vec::new(),
            problems: Vec::new(),
        };
        comparison.check_identity();
        comparison.check_limits();
        comparison.check_features();
        comparison.check_republish();
        if let Some(replicas) = replicas {
            comparison.set("num_replicas", json!(replicas));
        }
        comparison.plan()
    }
}

struct Comparison {
    bucket: KvBucket,
    /// Whether the bucket has no message, so that none can be lost.
    is_empty: bool,
    /// The configuration of the server, with the changes.
    config: Map<String, Value>,
    changes: Vec<String>,
    problems: Vec<String>,
}

impl Comparison {
    /// What the server cannot change, or what would make it another bucket.
    fn check_identity(&mut self) {
        let remove = |bucket: &KvBucket| {
            format!("back up what you need, remove it (`nats kv rm {}`), and apply again", bucket.name)
        };
        let storage = self.bucket.storage.name();
        for (name, wanted) in [
            ("storage", json!(storage)),
            ("retention", json!("limits")),
            ("subjects", json!([self.bucket.subjects()])),
        ] {
            let found = self.value(name);
            if found != wanted {
                self.problems
                    .push(format!("{name} is {found} and must be {wanted}: {}", remove(&self.bucket)));
            }
        }
        for name in ["mirror", "sources", "subject_transform"] {
            if !self.value(name).is_null() {
                self.problems
                    .push(format!("it has {name}, so others write into it: {}", remove(&self.bucket)));
            }
        }
        if self.value("sealed") == json!(true) {
            self.problems.push(format!("it is sealed, so nothing can be written: {}", remove(&self.bucket)));
        }
    }

    /// Limits. To lower one removes messages, unless there are none.
    fn check_limits(&mut self) {
        let history = self.value("max_msgs_per_subject").as_i64().unwrap_or(-1);
        if history != 1 {
            let edit = format!("nats stream edit {} --max-msgs-per-subject 1", self.bucket.stream());
            self.lower("max_msgs_per_subject", json!(1), &edit);
        }
        let (found, wanted) = (self.value("max_age").as_u64().unwrap_or(0), nanoseconds(self.bucket.max_age));
        let is_shorter = found != 0 && (wanted == 0 || found < wanted);
        if is_shorter {
            self.set("max_age", json!(wanted));
        } else if found != wanted {
            let age = self.bucket.max_age.as_secs();
            let edit =
                format!("nats stream edit {} --max-age {age}s --dupe-window {age}s", self.bucket.stream());
            self.lower("max_age", json!(wanted), &edit);
            let window = nanoseconds(self.bucket.duplicate_window());
            if self.value("duplicate_window").as_u64().is_none_or(|found| found > window) {
                self.config.insert("duplicate_window".to_owned(), json!(window));
            }
        }
    }

    fn check_features(&mut self) {
        self.set("discard", json!("new"));
        for name in ["allow_direct", "allow_rollup_hdrs", "deny_delete"] {
            self.set(name, json!(true));
        }
        if self.value("no_ack") == json!(true) {
            self.set("no_ack", json!(false));
        }
        if !self.bucket.marker_ttl.is_zero() {
            self.set("allow_msg_ttl", json!(true));
            // Any time is long enough for nodes that are connected; others read the bucket again.
            if self.value("subject_delete_marker_ttl").as_u64().unwrap_or(0) == 0 {
                self.set("subject_delete_marker_ttl", json!(nanoseconds(self.bucket.marker_ttl)));
            }
        }
    }

    fn check_republish(&mut self) {
        let Some(dest) = self.bucket.live_subjects() else { return };
        let found = self.value("republish");
        let wanted = json!({ "src": self.bucket.subjects(), "dest": dest });
        if found.is_null() {
            self.set("republish", wanted);
            return;
        }
        let text = |name: &str| found[name].as_str().unwrap_or_default();
        let is_all = ["", ">", &self.bucket.subjects()].contains(&text("src"));
        // All subjects are those of the bucket, so these two destinations are the same.
        let is_live = ["_live.>", &dest].contains(&text("dest"));
        if !is_all || !is_live {
            let edit = format!(
                "nats stream edit {} --republish-source '{}' --republish-destination '{dest}'",
                self.bucket.stream(),
                self.bucket.subjects()
            );
            self.problems
                .push(format!("it is republished elsewhere ({found}): if nothing needs that, `{edit}`"));
        } else if found["headers_only"] == json!(true) {
            self.set("republish", wanted);
        }
    }

    fn value(&self, name: &str) -> Value {
        self.config.get(name).cloned().unwrap_or_default()
    }

    /// Changes a setting, if it differs. Absent settings are the ones that are off or 0.
    fn set(&mut self, name: &str, wanted: Value) {
        let found = self.value(name);
        if found == wanted || (found.is_null() && (wanted == json!(0) || wanted == json!(false))) {
            return;
        }
        let found = if found.is_null() { "not set".to_owned() } else { shown(name, &found) };
        self.changes.push(format!("{name}: {found} -> {}", shown(name, &wanted)));
        self.config.insert(name.to_owned(), wanted);
    }

    /// Changes a limit in a way that removes messages; if there are some, `edit` is the command for a person.
    fn lower(&mut self, name: &str, wanted: Value, edit: &str) {
        if self.is_empty {
            self.set(name, wanted);
        } else {
            let (found, wanted) = (shown(name, &self.value(name)), shown(name, &wanted));
            self.problems.push(format!(
                "{name} is {found} and must be {wanted}, which can remove entries: run `{edit}`"
            ));
        }
    }

    fn plan(self) -> BucketPlan {
        if !self.problems.is_empty() {
            BucketPlan::Conflict { problems: self.problems }
        } else if self.changes.is_empty() {
            BucketPlan::Unchanged
        } else {
            BucketPlan::Update { changes: self.changes, config: Value::Object(self.config) }
        }
    }
}

/// A value for people. Times are in nanoseconds in the API.
fn shown(name: &str, value: &Value) -> String {
    let is_time = ["max_age", "subject_delete_marker_ttl"].contains(&name);
    match value.as_u64().filter(|_| is_time) {
        Some(0) => "none".to_owned(),
        Some(nanoseconds) => format!("{:?}", Duration::from_nanos(nanoseconds)),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests;

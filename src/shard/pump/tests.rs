//! What the pump makes of a batch, on a shard whose lane does not work.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::config::limits::Surplus;
use crate::connection::context::ConnectionLimits;
use crate::connection::context::ContextParts;
use crate::connection::users::Users;
use crate::hooks::Hooks;
use crate::hub::outbox::limits::OutboxLimits;
use crate::lane;
use crate::lane::Lanes;
use crate::lane::Question;
use crate::nats::Nats;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::websocket::AssemblerLimits;
use tidegate_vocabulary::transcript::default_settings;

const RATE: Rate = Rate { per_second: 50, burst: 200 };

/// A shard whose only lane has room for this many questions, and the lane's end of it. It never sees a NATS server.
fn shard(questions: usize) -> (Connections, mpsc::Receiver<Question>) {
    let config = Config::default();
    let tasks = TaskTracker::new();
    let (lane, asked) = lane::questions(questions);
    let parts = ContextParts {
        shard: 0,
        lanes: Lanes::new(vec![lane]),
        nats: Nats::new(&config.nats, "tidegate/test").unwrap(),
        authenticator: Arc::new(Authenticator::new(config.auth, Vec::new()).unwrap()),
        users: Arc::new(Users::new(0, Surplus::Reject)),
        settings: default_settings(),
        limits: ConnectionLimits {
            assembler: AssemblerLimits { max_message: 65_536, max_fragments: 256 },
            fragment_timeout: Duration::from_secs(10),
            inbound: RATE,
            control: RATE,
            outbox: OutboxLimits { bytes: 65_536, frames: 64 },
            write_timeout: Duration::from_secs(20),
            reply_max: 65_536,
        },
        tasks,
        session_prefix: String::new(),
        hooks: Hooks::default(),
    };
    (Connections::new(Rc::new(Context::new(parts))), asked)
}

fn batch(pattern: &str, items: usize) -> Batch {
    let pattern = Pattern::parse(pattern).unwrap();
    let mut batch = Batch::default();
    for _ in 0..items {
        batch.push(Item::Publication { pattern: pattern.clone(), key: "k".into(), frames: SmallVec::new() });
    }
    batch
}

#[tokio::test]
async fn publications_that_nobody_wants_do_not_take_the_lane_s_time() {
    let (connections, mut asked) = shard(10);
    deliver(&connections, batch("chat.left", 1000));
    assert!(asked.is_empty(), "the lane has been told when the last one left");
    connections.context.repeat_unsaid();
    assert!(matches!(asked.try_recv(), Ok(Question::Leave { .. })), "once more, in case it was not");
    assert!(asked.try_recv().is_err());
    connections.context.repeat_unsaid();
    assert!(asked.try_recv().is_err(), "and then it is said");
}

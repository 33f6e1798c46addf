//! `Action`: one step of a run, as data. A script is a list of them, one on each line.

use std::fmt;
use std::str::FromStr;

/// Declares the actions, with their names in scripts. Every field is a number, and every number is possible: the code that
/// carries out an action takes indices modulo what exists, and skips what cannot be done at the moment. So a script stays
/// valid whatever is removed from it.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident $word:literal { $($field:ident),* })*) => {
        /// One step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Action {
            $($(#[$doc])* $name { $($field: u16),* },)*
        }

        impl Action {
            /// The names of all actions.
            pub(crate) const NAMES: &[&str] = &[$($word),*];

            /// An action of this name, with numbers from `next`.
            pub(crate) fn with(name: &str, mut next: impl FnMut() -> u16) -> Option<Self> {
                match name {
                    $($word => Some(Self::$name { $($field: next()),* }),)*
                    _ => None,
                }
            }

            /// Its name in scripts.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $word,)*
                }
            }

            fn numbers(&self) -> Vec<u16> {
                match *self {
                    $(Self::$name { $($field),* } => vec![$($field),*],)*
                }
            }
        }
    };
}

actions! {
    /// Producers publish `count` messages on a subject.
    Publish "publish" { subject, key, priority, size, count }
    /// A producer publishes a message that no client can get.
    PublishBad "publish-bad" { subject, kind }
    /// A server processes what a lane has sent it.
    Upload "upload" { lane }
    /// Bytes of a server reach its lane.
    Download "download" { lane, bytes }
    /// A lane handles requests of shards and events of its link.
    Turn "turn" { lane, requests, events }
    /// A shard delivers the next batch of its inbox.
    Pump "pump" { shard }
    /// A shard flushes some of the outboxes that wait for it.
    Flush "flush" { shard }
    /// A shard handles the deadlines that have passed.
    Deadlines "deadlines" { shard }
    /// A shard does what it does every second.
    Tick "tick" { shard }
    /// The tasks that wait for a lane continue.
    Tasks "tasks" {}
    /// A connection handles one event of its socket.
    Step "step" { client }
    /// A client reads.
    Read "read" { client, bytes }
    /// A client connects.
    Connect "connect" { client, shard }
    /// A client closes its connection, with a close frame or without.
    Leave "leave" { client, kind }
    /// A client subscribes to some of the channels of a class.
    Subscribe "subscribe" { client, channel, count, rate }
    /// A client unsubscribes.
    Unsubscribe "unsubscribe" { client, channel, count }
    /// A client sends a message that is wrong.
    Garbage "garbage" { client, kind }
    /// The connection of a lane breaks.
    Cut "cut" { lane }
    /// A lane connects again.
    Restore "restore" { lane }
    /// The servers revoke a channel, or deny it.
    Deny "deny" { channel }
    /// The servers allow all channels.
    Allow "allow" {}
    /// Time passes.
    Advance "advance" { ms }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())?;
        self.numbers().iter().try_for_each(|number| write!(formatter, " {number}"))
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let mut numbers = words.map(str::parse);
        let mut is_whole = true;
        let action = Self::with(name, || match numbers.next() {
            Some(Ok(number)) => number,
            Some(Err(_)) | None => {
                is_whole = false;
                0
            }
        });
        match action {
            Some(action) if is_whole && numbers.next().is_none() => Ok(action),
            Some(_) | None => Err(format!("`{line}` is no action")),
        }
    }
}

#[test]
fn actions_are_written_and_read() {
    for name in Action::NAMES {
        let mut number = 0;
        let mut next = || {
            number += 1;
            number
        };
        let action = Action::with(name, &mut next).unwrap();
        assert_eq!(action.to_string().parse(), Ok(action));
        assert!(format!("{action} 7").parse::<Action>().is_err());
    }
    for wrong in ["", "fly", "cut", "cut x", "cut 70000"] {
        assert!(wrong.parse::<Action>().is_err(), "{wrong}");
    }
}

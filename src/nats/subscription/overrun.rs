//! Overrun: the places where the client has dropped messages of one subscription. It tells only that it has dropped
//! something on this connection, and does so when a subscription's channel is full. So the place is one channel behind
//! what its reader had taken by then, and a reader that finds its channel empty before has lost nothing.

use std::collections::VecDeque;

/// What one reader has to know of it.
#[derive(Debug)]
pub(super) struct Overruns {
    capacity: u64,
    /// Messages taken out of the channel.
    taken: u64,
    /// How many had been taken when the reader waited, the last two times: the client runs only meanwhile, and what it
    /// tells may come one time late.
    waited: [u64; 2],
    /// How often the client had dropped something when the reader looked last.
    dropped: u64,
    /// Behind which messages something is missing, if the channel does not turn out to be empty before.
    due: VecDeque<u64>,
}

impl Overruns {
    /// For a channel of so many messages, on a connection whose client has dropped something so often.
    pub(super) fn new(capacity: usize, dropped: u64) -> Self {
        Self { capacity: capacity as u64, taken: 0, waited: [0; 2], dropped, due: VecDeque::new() }
    }

    /// The reader is about to wait.
    pub(super) fn waits(&mut self) {
        if self.waited[1] != self.taken {
            self.waited = [self.waited[1], self.taken];
        }
    }

    /// The reader goes on, and the client has dropped something so often.
    pub(super) fn goes_on(&mut self, dropped: u64) {
        if dropped == self.dropped {
            return;
        }
        self.dropped = dropped;
        for taken in self.waited {
            let place = taken + self.capacity;
            if place > self.taken && self.due.back().is_none_or(|&last| place > last) {
                self.due.push_back(place);
            }
        }
    }

    /// A message was taken. True if something is missing behind it.
    pub(super) fn took(&mut self) -> bool {
        self.taken += 1;
        let due = self.due.front() == Some(&self.taken);
        if due {
            self.due.pop_front();
        }
        due
    }

    /// The reader is about to wait, because the channel is empty.
    pub(super) fn emptied(&mut self) {
        self.due.clear();
        self.waited = [self.taken; 2];
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A channel, the client that fills it, and the reader: what the reader hears of messages that are numbered.
    struct Channel {
        waiting: VecDeque<u64>,
        capacity: usize,
        sent: u64,
        dropped: u64,
        told: u64,
        overruns: Overruns,
        heard: Vec<Option<u64>>,
    }

    impl Channel {
        fn new(capacity: usize) -> Self {
            let overruns = Overruns::new(capacity, 0);
            let (waiting, heard) = (VecDeque::new(), Vec::new());
            Self { waiting, capacity, sent: 0, dropped: 0, told: 0, overruns, heard }
        }

        fn send(&mut self, count: u64) {
            for _ in 0..count {
                if self.waiting.len() < self.capacity {
                    self.waiting.push_back(self.sent);
                } else {
                    self.dropped += 1;
                }
                self.sent += 1;
            }
        }

        /// One turn of the reader, up to so many messages; the news of the drops comes before it, or one turn late.
        fn turn(&mut self, max: usize, late: bool) {
            if !late {
                self.told = self.dropped;
            }
            self.overruns.goes_on(self.told);
            for _ in 0..max {
                let Some(number) = self.waiting.pop_front() else {
                    self.overruns.emptied();
                    break;
                };
                self.heard.push(Some(number));
                if self.overruns.took() {
                    self.heard.push(None);
                }
            }
            self.told = self.dropped;
            self.overruns.waits();
        }

        /// Whether each loss stands where it happened.
        fn is_honest(&self) -> bool {
            let mut expected = 0;
            let mut gap = false;
            for heard in &self.heard {
                match heard {
                    None => gap = true,
                    Some(number) if *number == expected || gap => {
                        expected = number + 1;
                        gap = false;
                    }
                    Some(_) => return false,
                }
            }
            expected == self.sent || gap
        }
    }

    #[test]
    fn a_flood_while_the_reader_waits_is_missing_behind_what_the_channel_held() {
        let mut channel = Channel::new(4);
        channel.send(1);
        channel.turn(3, false);
        channel.send(10);
        channel.turn(3, false);
        channel.turn(3, false);
        channel.send(1);
        channel.turn(3, false);
        assert_eq!(channel.heard, [Some(0), Some(1), Some(2), Some(3), Some(4), None, Some(11)]);
    }

    #[test]
    fn whoever_finds_the_channel_empty_has_lost_nothing() {
        let mut overruns = Overruns::new(4, 0);
        overruns.waits();
        overruns.goes_on(7);
        assert!(!overruns.took());
        overruns.emptied();
        assert!((0..10).all(|_| !overruns.took()), "another subscription's channel was full");
    }

    proptest! {
        #[test]
        fn nat_02_every_loss_stands_where_it_happened(
            turns in vec((0_u64..12, 1_usize..4, any::<bool>()), 0..60),
        ) {
            let mut channel = Channel::new(8);
            for (sent, max, late) in turns {
                channel.send(sent);
                channel.turn(max, late);
            }
            while !channel.waiting.is_empty() {
                channel.turn(3, false);
            }
            prop_assert!(channel.is_honest(), "{:?} of {}", channel.heard, channel.sent);
        }
    }
}

//! Joins that wait for lanes with too many questions: in order, so that no one is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;

use crate::lane::feeds::Join;
use crate::lane::lane_index::LaneIndex;

/// The joins that wait for each lane that has no room. There is one for each pattern and format that sessions of the shard
/// wait for, and so at most as many as they have subscriptions.
#[derive(Debug, Default)]
pub(super) struct Joins(RefCell<HashMap<LaneIndex, VecDeque<Join>>>);

impl Joins {
    /// Adds a join behind those that wait for a lane. Gives it back if none does.
    pub(super) fn add(&self, lane: LaneIndex, join: Join) -> Option<Join> {
        match self.0.borrow_mut().get_mut(&lane) {
            Some(waiting) => {
                waiting.push_back(join);
                None
            }
            None => Some(join),
        }
    }

    /// Adds the first one that waits for a lane.
    pub(super) fn begin(&self, lane: LaneIndex, join: Join) {
        self.0.borrow_mut().insert(lane, VecDeque::from([join]));
    }

    /// Takes out the one that has waited longest. From `None` on, none waits.
    pub(super) fn next(&self, lane: LaneIndex) -> Option<Join> {
        let mut joins = self.0.borrow_mut();
        let next = joins.get_mut(&lane)?.pop_front();
        if next.is_none() {
            joins.remove(&lane);
        }
        next
    }
}

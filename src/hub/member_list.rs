//! `MemberList`: the subscriptions of a topic in one state. A single one is stored in the list itself: there may be a
//! topic for each user, and then a publication reads no other memory to find its receiver.

use std::ops::Deref;
use std::slice;

use crate::hub::subscriber::MemberState;
use crate::hub::topic_member::TopicMember;

/// The subscriptions of a topic that are all live, or all held. Each knows its position.
#[derive(Debug, Default)]
pub struct MemberList(Members);

#[derive(Debug, Default)]
enum Members {
    #[default]
    None,
    One(TopicMember),
    /// Boxed, so that the list is no larger than one member.
    More(Box<ManyMembers>),
}

type ManyMembers = Vec<TopicMember>;

impl MemberList {
    /// Adds a member and sets its position.
    pub fn add(&mut self, member: TopicMember, state: fn(usize) -> MemberState) {
        set_state(&member, state(self.len()));
        self.0 = match std::mem::take(&mut self.0) {
            Members::None => Members::One(member),
            Members::One(first) => Members::More(Box::new(vec![first, member])),
            Members::More(mut members) => {
                members.push(member);
                Members::More(members)
            }
        };
    }

    /// Removes the member at a position. The last member moves there, and gets its new position.
    pub fn take_out(&mut self, at: usize, state: fn(usize) -> MemberState) -> Option<TopicMember> {
        match std::mem::take(&mut self.0) {
            Members::One(member) if at == 0 => Some(member),
            Members::More(mut members) if at < members.len() => {
                let taken = members.swap_remove(at);
                if let Some(moved) = members.get(at) {
                    set_state(moved, state(at));
                }
                let only = if members.len() == 1 { members.pop() } else { None };
                self.0 = only.map_or(Members::More(members), Members::One);
                Some(taken)
            }
            members @ (Members::None | Members::One(_) | Members::More(_)) => {
                self.0 = members;
                None
            }
        }
    }
}

fn set_state(member: &TopicMember, state: MemberState) {
    member.subscriber.with_member(member.subscription, |member| member.state = state);
}

impl Deref for MemberList {
    type Target = [TopicMember];

    fn deref(&self) -> &[TopicMember] {
        match &self.0 {
            Members::None => &[],
            Members::One(member) => slice::from_ref(member),
            Members::More(members) => members,
        }
    }
}

//! The latest events of a shard, for operators: those of one session, and those that a filter selects.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::subject::Pattern;
use tokio::time::sleep_until;

use crate::connection::context::Context;
use crate::connection::events::Events;
use crate::connection::events::event::EventCause;
use crate::connection::events::event::EventKind;
use crate::connection::events::event::NewEvent;
use crate::connection::events::event::SessionNumber;
use crate::connection::events::event::StoredEvent;
use crate::connection::events::report::EventFilter;
use crate::connection::events::report::EventList;
use crate::connection::events::report::EventReport;
use crate::connection::events::report::SessionHistory;
use crate::connection::report::ConnectionFilter;
use crate::connection::table::Connections;
use crate::node::refused_requests::OmittedRequests;
use crate::node::refused_requests::RefusedRequest;
use crate::node::refused_requests::RefusedRequestReceiver;
use crate::node::refused_requests::RefusedWhat;
use crate::shard::stretch::STEPS;
use crate::shard::stretch::Stretch;

/// The most events of a session that are reported: the newest.
const SESSION_EVENTS: usize = 1000;
/// The most older events that are reported besides, because they say who it is.
const IDENTITY_EVENTS: usize = 2;
/// How long requests that are left out are counted, before that is an event.
const OMITTED_PAUSE: Duration = Duration::from_secs(1);
/// The addresses whose last event of this kind is known.
const MAX_OMITTED: usize = 4096;

/// The sessions that a filter selects, by each of its conditions; `None` where it has none.
struct SelectedSessions {
    by_user: Option<HashSet<SessionNumber>>,
    by_address: Option<HashSet<SessionNumber>>,
}

impl SelectedSessions {
    fn selects(&self, filter: &EventFilter, stored: &StoredEvent<'_>) -> bool {
        let has = |sessions: &Option<HashSet<SessionNumber>>, is_named: bool| {
            sessions.as_ref().is_none_or(|sessions| is_named || sessions.contains(&stored.session))
        };
        filter.name.is_none_or(|name| stored.event.kind.name() == name)
            && has(&self.by_user, filter.has_user(stored))
            && has(&self.by_address, filter.has_address(stored))
    }
}

/// Keeps the refused requests of all shards, and how many were left out.
pub(super) async fn keep_refused(context: Rc<Context>, mut receiver: RefusedRequestReceiver) {
    let requests = &context.node.refused_requests;
    let (mut omitted, mut report_at) = (HashMap::new(), None);
    loop {
        let wait = async {
            match report_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            refused = receiver.next() => match refused {
                Some((address, refused)) => note_refused(&context.refused_requests, address, &refused),
                None => return,
            },
            () = requests.omits() => report_at = Some(tokio::time::Instant::now() + OMITTED_PAUSE),
            () = wait => {
                report_at = None;
                note_omitted(&context.refused_requests, &mut omitted, &requests.take_omitted());
            }
        }
    }
}

fn note_refused(events: &Events, address: Option<IpAddr>, refused: &RefusedRequest) {
    let RefusedRequest { at, operation, code, reason, limit, what } = refused;
    let (operation, code, reason) = (Some(*operation), Some(*code), Some(*reason));
    let (cause, address) = (EventCause { operation, code, reason, limit: *limit }, text_of(address));
    let event = match what {
        RefusedWhat::Request { status, claimed_user, policy } => NewEvent {
            status: *status,
            user: claimed_user.as_deref().unwrap_or_default(),
            channel: &policy.endpoint,
            ..NewEvent::new(EventKind::RequestRefused)
        },
        RefusedWhat::Operation { user, channel } => NewEvent {
            user,
            channel: channel.as_ref().map_or("", Pattern::as_str),
            ..NewEvent::new(EventKind::Refused)
        },
    };
    events.note_request(&NewEvent { cause, address: &address, ..event }, *at);
}

/// Notes what was left out. `known` has the number of the last such event of each address.
fn note_omitted(events: &Events, known: &mut HashMap<Option<IpAddr>, u64>, omitted: &[OmittedRequests]) {
    for OmittedRequests { address, count } in omitted {
        if known.len() >= MAX_OMITTED {
            // Their next events are not merged with earlier ones.
            known.clear();
        }
        let last = known.get(address).copied();
        let number = events.note_omitted(&text_of(*address), *count, last, Instant::now());
        known.insert(*address, number);
    }
}

fn text_of(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// What is known of a session of this shard, which may have ended. No events if it is of another one, or too old.
pub(super) async fn history(context: &Context, session: &str) -> SessionHistory {
    let Some(number) = context.number_of(session) else { return SessionHistory::default() };
    let SessionEvents { numbers, is_complete } = SessionEvents::find(&context.events, number).await;
    SessionHistory { events: reports(context, &context.events, numbers), is_complete }
}

/// The numbers of the events of a session, the oldest first: the newest, and before them those that say who it is.
#[derive(Debug, Default)]
struct SessionEvents {
    numbers: VecDeque<u64>,
    is_complete: bool,
}

impl SessionEvents {
    async fn find(events: &Events, session: SessionNumber) -> Self {
        let (mut found, mut who) = (Self::default(), VecDeque::new());
        scan(events, |at, stored| {
            if stored.session == session {
                let kind = stored.event.kind;
                // The first event of a session.
                found.is_complete |= kind == EventKind::Connected;
                found.is_complete &= kind != EventKind::Omitted;
                found.numbers.push_back(at);
                if found.numbers.len() <= SESSION_EVENTS {
                    return;
                }
                found.is_complete = false;
                let oldest = found.numbers.pop_front();
                // A session may authenticate often, always as the same user.
                if let Some(oldest) = oldest.filter(|_| who.len() < IDENTITY_EVENTS) {
                    events.each(oldest..oldest + 1, |_, stored| {
                        if matches!(stored.event.kind, EventKind::Connected | EventKind::Authenticated) {
                            who.push_back(oldest);
                        }
                    });
                }
            }
        })
        .await;
        who.append(&mut found.numbers);
        Self { numbers: who, ..found }
    }
}

/// The events that a filter selects: all are counted, and the newest are reported.
pub(super) async fn list(connections: &Connections, filter: &EventFilter, most: usize) -> EventList {
    let context = &connections.context;
    let sessions = select_sessions(connections, filter).await;
    let mut list = EventList::default();
    for events in [&context.events, &context.refused_requests] {
        let (mut newest, mut matching) = (VecDeque::new(), 0);
        scan(events, |number, stored| {
            if sessions.selects(filter, &stored) {
                matching += 1;
                newest.push_back(number);
                if newest.len() > most {
                    newest.pop_front();
                }
            }
        })
        .await;
        let mut newest = reports(context, events, newest);
        newest.reverse();
        list.merge(EventList { matching, newest, since: since(context, events) }, most);
    }
    list
}

/// The sessions of the user and the address that a filter names: open ones, and those whose events name them.
async fn select_sessions(connections: &Connections, filter: &EventFilter) -> SelectedSessions {
    let set = |is_wanted: bool| is_wanted.then(HashSet::new);
    let (mut by_user, mut by_address) = (set(filter.user.is_some()), set(filter.address.is_some()));
    if by_user.is_some() || by_address.is_some() {
        let none = ConnectionFilter::default();
        let of_user = ConnectionFilter { user: filter.user.clone(), ..none.clone() };
        let of_address = ConnectionFilter { address: filter.address, ..none };
        let mut stretch = Stretch::default();
        for connection in connections.all() {
            stretch.step().await;
            let number = connection.session_number();
            by_user
                .iter_mut()
                .filter(|_| connection.matches(&of_user))
                .for_each(|set| _ = set.insert(number));
            by_address
                .iter_mut()
                .filter(|_| connection.matches(&of_address))
                .for_each(|set| _ = set.insert(number));
        }
        scan(&connections.context.events, |_, stored| {
            let is_session = stored.session != SessionNumber::NONE;
            if is_session && filter.has_user(&stored) {
                by_user.iter_mut().for_each(|set| _ = set.insert(stored.session));
            }
            if is_session && filter.has_address(&stored) {
                by_address.iter_mut().for_each(|set| _ = set.insert(stored.session));
            }
        })
        .await;
    }
    SelectedSessions { by_user, by_address }
}

/// Calls `see` with the number of each event, and the event, the oldest first. Other tasks run in between.
async fn scan(events: &Events, mut see: impl FnMut(u64, StoredEvent<'_>)) {
    let mut stretch = Stretch::default();
    let kept = events.kept();
    for from in kept.clone().step_by(STEPS) {
        events.each(from..kept.end.min(from + STEPS as u64), &mut see);
        stretch.steps(STEPS).await;
    }
}

/// The events with these numbers, unless they are overwritten by now.
fn reports(context: &Context, events: &Events, numbers: impl IntoIterator<Item = u64>) -> Vec<EventReport> {
    let (now, mut reports) = (context.clock.at(Instant::now()), Vec::new());
    for number in numbers {
        events.each(number..number + 1, |_, stored| {
            let session = (stored.session != SessionNumber::NONE).then(|| context.session_id(stored.session));
            reports.push(EventReport::new(&stored, session, now));
        });
    }
    reports
}

/// Since when no event is overwritten.
fn since(context: &Context, events: &Events) -> Option<SystemTime> {
    let oldest = events.kept().start;
    let numbers = (oldest > 0).then_some(oldest);
    reports(context, events, numbers).first().map(|event| event.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::events::SessionMark;

    #[tokio::test]
    async fn a_long_history_keeps_who_it_is() {
        let (events, mut now) = (Events::of_connections(), Instant::now());
        let mark = SessionMark::new(SessionNumber(7));
        let mut kinds = vec![EventKind::Connected, EventKind::Authenticated];
        let note =
            |kind, channel: &str, now| events.note(&mark, &NewEvent { channel, ..NewEvent::new(kind) }, now);
        kinds.iter().for_each(|kind| note(*kind, "", now));
        let found = SessionEvents::find(&events, SessionNumber(7)).await;
        assert_eq!((found.numbers, found.is_complete), ([0, 1].into(), true));
        for number in 0..SESSION_EVENTS + 50 {
            if number % 200 == 0 {
                now += Duration::from_mins(1);
            }
            note(EventKind::Published, &number.to_string(), now);
        }
        note(EventKind::Disconnected, "", now);
        let found = SessionEvents::find(&events, SessionNumber(7)).await;
        assert!(!found.is_complete && found.numbers.len() == SESSION_EVENTS + 2);
        kinds.push(EventKind::Published);
        for (number, kind) in found.numbers.iter().zip(kinds) {
            events.each(*number..*number + 1, |_, stored| assert_eq!(stored.event.kind, kind));
        }
        assert!(found.numbers.iter().is_sorted());
    }
}

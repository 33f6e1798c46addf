//! Tests of [`LatestConnections`], alone and with several nodes whose messages are late, lost, or out of order.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn alice() -> Identity {
    user(None, "alice")
}

fn user(issuer: Option<&str>, user: &str) -> Identity {
    Identity { user: user.into(), issuer: issuer.map(Arc::from), ..Identity::default() }
}

fn node(name: &str) -> Arc<LatestConnections> {
    Arc::new(LatestConnections::new(name, true))
}

fn at(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn is_replaced(connection: &ReplaceableConnection) -> bool {
    connection.poll_replaced(&Context::from_waker(Waker::noop()))
}

/// The number of users that the node remembers.
fn known(node: &LatestConnections) -> usize {
    let state = node.state();
    assert!(state.unannounced.iter().all(|user| state.by_user.contains_key(user)));
    state.by_user.len()
}

/// Sends what this node has to announce to the other.
fn announce(from: &LatestConnections, to: &LatestConnections) -> usize {
    let announcements = from.take_announcements();
    announcements.iter().for_each(|announcement| to.on_announcement(announcement));
    announcements.len()
}

#[test]
fn a_new_connection_wakes_and_replaces_the_earlier_one() {
    struct Wakes(AtomicUsize);
    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (here, endpoint) = (node("a"), Arc::from("/ws"));
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let first = here.register(&endpoint, &alice(), at(5)).unwrap();
    assert!(!first.poll_replaced(&Context::from_waker(&waker)));
    // The clock has been set back.
    let second = here.register(&endpoint, &alice(), at(1)).unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(first.poll_replaced(&Context::from_waker(&waker)) && !is_replaced(&second));
    drop(first);
    assert_eq!(known(&here), 1, "the end of the replaced connection changes nothing");
    drop(second);
    assert_eq!(known(&here), 0);
    assert!(here.take_announcements().is_empty());
}

#[test]
fn users_issuers_and_endpoints_are_apart_and_anonymous_clients_are_left_alone() {
    let here = node("a");
    let (ws, other) = (Arc::from("/ws"), Arc::from("/other"));
    let all = [
        (&ws, alice()),
        (&ws, user(None, "bob")),
        (&ws, user(Some("https://issuer"), "alice")),
        (&other, alice()),
    ];
    let all = all.map(|(endpoint, identity)| here.register(endpoint, &identity, at(1)).unwrap());
    let guest = Identity { anonymous: true, ..alice() };
    assert!(here.register(&ws, &guest, at(1)).is_none());
    assert!(!all.iter().any(is_replaced));
    assert_eq!(known(&here), 4);
}

#[test]
fn a_connection_replaces_those_of_other_nodes() {
    let (here, there, endpoint) = (node("a"), node("b"), Arc::from("/ws"));
    let bob = there.register(&endpoint, &user(None, "bob"), at(1)).unwrap();
    let old = there.register(&endpoint, &alice(), at(1)).unwrap();
    let new = here.register(&endpoint, &alice(), at(2)).unwrap();
    assert_eq!(announce(&here, &there), 1);
    assert!(is_replaced(&old) && !is_replaced(&new) && !is_replaced(&bob));
    assert_eq!(known(&there), 1, "a replaced connection is forgotten at once");
    assert_eq!(announce(&there, &here), 1, "bob only");
    assert!(!is_replaced(&new));
}

#[test]
fn a_node_that_has_missed_a_newer_connection_is_told_again() {
    let (here, there, endpoint) = (node("a"), node("b"), Arc::from("/ws"));
    let old = there.register(&endpoint, &alice(), at(1)).unwrap();
    let new = here.register(&endpoint, &alice(), at(2)).unwrap();
    assert_eq!(here.take_announcements().len(), 1, "lost");
    assert_eq!(announce(&there, &here), 1);
    assert!(!is_replaced(&old) && !is_replaced(&new));
    assert_eq!(announce(&here, &there), 1);
    assert!(is_replaced(&old) && !is_replaced(&new));
    // A node hears its own announcements too.
    here.announce_all();
    assert_eq!((announce(&here, &here), announce(&here, &there)), (1, 0));
    assert!(!is_replaced(&new));
}

#[test]
fn nodes_whose_users_connect_at_the_same_time_agree() {
    let (here, there, endpoint) = (node("a"), node("b"), Arc::from("/ws"));
    let [one, two] = [&here, &there].map(|node| node.register(&endpoint, &alice(), at(1)).unwrap());
    let announcements = [&here, &there].map(|node| node.take_announcements());
    announcements[0].iter().for_each(|announcement| there.on_announcement(announcement));
    announcements[1].iter().for_each(|announcement| here.on_announcement(announcement));
    assert!(is_replaced(&one) && !is_replaced(&two), "the larger id remains");
}

#[test]
fn announcements_come_in_batches_and_only_of_live_connections() {
    let (here, endpoint) = (node("a"), Arc::from("/ws"));
    let register =
        |number: usize| here.register(&endpoint, &user(None, &format!("{number:0>100}")), at(1)).unwrap();
    let mut live: Vec<_> = (0..1000).map(register).collect();
    live.truncate(900);
    let mut batches =
        std::iter::from_fn(|| Some(here.take_announcements()).filter(|batch| !batch.is_empty()));
    let sizes: Vec<usize> = batches.by_ref().map(|batch| batch.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 900);
    assert!(sizes.iter().all(|size| *size <= BATCH_BYTES / ANNOUNCEMENT_BYTES), "{sizes:?}");
    assert!(sizes.len() > 3, "{sizes:?}");
}

const NODES: usize = 3;
const USERS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A user connects to a node.
    Connect(usize, usize),
    /// A client disconnects.
    End(usize),
    /// The task of a replaced connection runs, and ends it.
    Run(usize),
    /// A node publishes its announcements.
    Publish(usize),
    /// One announcement, not always the oldest, arrives at a node.
    Arrive(usize, usize),
    /// A node loses NATS: it publishes nothing, and what is under way to it is lost.
    Lose(usize),
    /// It is connected again.
    Return(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let of_node = 0..NODES;
    prop_oneof![
        4 => (of_node.clone(), 0..USERS).prop_map(|(node, user)| Event::Connect(node, user)),
        1 => (0_usize..20).prop_map(Event::End),
        2 => (0_usize..20).prop_map(Event::Run),
        4 => of_node.clone().prop_map(Event::Publish),
        6 => (of_node.clone(), 0_usize..10).prop_map(|(node, index)| Event::Arrive(node, index)),
        1 => of_node.clone().prop_map(Event::Lose),
        2 => of_node.prop_map(Event::Return),
    ]
}

/// Nodes whose clocks differ.
struct Cluster {
    nodes: Vec<Arc<LatestConnections>>,
    ahead: Vec<u64>,
    time: u64,
    is_away: [bool; NODES],
    /// What is under way to each node.
    under_way: [Vec<Announcement>; NODES],
    connections: Vec<(usize, ReplaceableConnection)>,
    /// For each user, whether a client has ended a connection by itself.
    has_ended: [bool; USERS],
}

impl Cluster {
    fn new(ahead: Vec<u64>) -> Self {
        let nodes = ["b", "a", "c"].map(node).into();
        let (is_away, has_ended) = ([false; NODES], [false; USERS]);
        let (under_way, connections) = (Default::default(), Vec::new());
        Self { nodes, ahead, time: 0, is_away, under_way, connections, has_ended }
    }

    fn connect(&mut self, node: usize, user_number: usize) {
        let (endpoint, identity) = (Arc::from("/ws"), user(None, &format!("user-{user_number}")));
        let now = at(self.time + self.ahead[node]);
        let connection = self.nodes[node].register(&endpoint, &identity, now).unwrap();
        self.connections.push((user_number, connection));
    }

    fn publish(&mut self, node: usize) -> bool {
        if self.is_away[node] {
            return false;
        }
        let announcements = self.nodes[node].take_announcements();
        for to in (0..NODES).filter(|to| !self.is_away[*to]) {
            self.under_way[to].extend(announcements.iter().cloned());
        }
        !announcements.is_empty()
    }

    fn arrive(&mut self, node: usize, index: usize) -> bool {
        let under_way = &mut self.under_way[node];
        if under_way.is_empty() {
            return false;
        }
        let announcement = under_way.remove(index % under_way.len());
        self.nodes[node].on_announcement(&announcement);
        true
    }

    fn come_back(&mut self, node: usize) {
        if std::mem::take(&mut self.is_away[node]) {
            self.nodes[node].announce_all();
        }
    }

    fn apply(&mut self, event: Event) {
        self.time += 1;
        match event {
            Event::Connect(node, user) => self.connect(node, user),
            Event::End(index) if index < self.connections.len() => {
                let (user, _connection) = self.connections.swap_remove(index);
                self.has_ended[user] = true;
            }
            Event::Run(index) if self.connections.get(index).is_some_and(|(_, it)| is_replaced(it)) => {
                drop(self.connections.swap_remove(index));
            }
            Event::End(_) | Event::Run(_) => {}
            Event::Publish(node) => _ = self.publish(node),
            Event::Arrive(node, index) => _ = self.arrive(node, index),
            Event::Lose(node) => {
                self.is_away[node] = true;
                self.under_way[node].clear();
            }
            Event::Return(node) => self.come_back(node),
        }
    }

    /// Lets everything arrive, and ends all replaced connections.
    fn settle(&mut self) {
        (0..NODES).for_each(|node| self.come_back(node));
        let mut steps = 0;
        loop {
            let mut has_more = false;
            for node in 0..NODES {
                has_more |= self.publish(node);
                has_more |= self.arrive(node, usize::MAX);
            }
            if !has_more {
                break;
            }
            steps += 1;
            assert!(steps < 10_000, "nodes answer each other without end");
        }
        self.connections.retain(|(_, connection)| !is_replaced(connection));
    }
}

proptest! {
    #[test]
    fn exactly_one_connection_of_a_user_remains(
        ahead in vec(0_u64..10_000, NODES),
        events in vec(event(), 1..80),
    ) {
        let mut cluster = Cluster::new(ahead);
        let connected = |user: usize| events.iter().any(|event| matches!(event, Event::Connect(_, of) if *of == user));
        events.iter().for_each(|event| cluster.apply(*event));
        cluster.settle();
        for user in 0..USERS {
            let remaining = cluster.connections.iter().filter(|(of, _)| *of == user).count();
            prop_assert!(remaining <= 1, "{remaining} connections of user {user} remain");
            if connected(user) && !cluster.has_ended[user] {
                prop_assert_eq!(remaining, 1);
            }
        }
        let remembered: usize = cluster.nodes.iter().map(|node| known(node)).sum();
        prop_assert_eq!(remembered, cluster.connections.len(), "nodes forget what has ended");
        cluster.connections.clear();
        prop_assert!(cluster.nodes.iter().all(|node| known(node) == 0));
    }

    /// Whatever the clocks say: the order is that of what nodes know about each other.
    #[test]
    fn the_newest_connection_remains(
        ahead in vec(0_u64..10_000, NODES),
        connects in vec(0..NODES, 1..20),
    ) {
        let mut cluster = Cluster::new(ahead);
        for node in connects {
            cluster.time += 1;
            cluster.connect(node, 0);
            let newest = Arc::clone(&cluster.connections.last().unwrap().1.0);
            cluster.settle();
            prop_assert_eq!(cluster.connections.len(), 1);
            prop_assert!(Arc::ptr_eq(&cluster.connections[0].1.0, &newest));
        }
    }
}

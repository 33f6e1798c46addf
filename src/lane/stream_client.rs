//! `StreamClient`: what a lane remembers of its streams, and of the reads that are going on.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::lane::feeds::FeedId;
use crate::lane::newest_reads::NewestOfMany;
use crate::lane::newest_reads::NewestReads;
use crate::lane::read_id::ReadId;
use crate::lane::source_stream::ReadPurpose;
use crate::lane::stored::Replicas;
use crate::lane::stored::reads::Read;
use crate::lane::stream_reads::StreamReads;
use crate::nats::direct_get::ReadMessage;

/// What a lane remembers of its streams and of the reads that are going on.
pub(super) struct StreamClient {
    pub(super) reads: StreamReads<ReadContext>,
    /// The newest read of each feed for each purpose: answers to earlier ones are not passed on.
    pub(super) newest_reads: HashMap<(FeedId, ReadPurpose), u64>,
    pub(super) started: u64,
    /// Reads and comparisons that begin later.
    pub(super) later: Vec<(Instant, FeedId, Later)>,
    pub(super) streams: HashMap<Arc<str>, StreamStatus>,
    /// Reads that begin when others have their answers, with their ids.
    pub(super) queue: VecDeque<(ReadId, Read)>,
    /// Those that are read together.
    pub(super) newest: NewestReads,
}

/// What a lane knows of a stream.
#[derive(Default)]
pub(super) struct StreamStatus {
    /// Whether its state has been read since the connection was made.
    pub(super) is_known: bool,
    pub(super) replicas: Option<Replicas>,
    /// When its state was last asked for; `None` on a new connection.
    pub(super) asked: Option<Instant>,
    pub(super) is_asking: bool,
    /// The feeds that wait for its state, to be read.
    pub(super) opening: Vec<FeedId>,
    /// The reads of feeds that wait for its state.
    pub(super) doubting: Vec<ReadId>,
    /// Those that began to wait after it had been asked for: they need a later one.
    pub(super) doubting_later: Vec<ReadId>,
    /// The highest sequence that had arrived when its state was asked for.
    pub(super) seen: u64,
    /// The newest sequence when its state was read.
    pub(super) newest: u64,
    /// How often its state could not be read since it could.
    pub(super) failures: u32,
}

impl StreamStatus {
    /// Whether feeds wait for its state.
    pub(super) fn is_awaited(&self) -> bool {
        !self.opening.is_empty() || !self.doubting.is_empty()
    }
}

pub(super) enum Later {
    Read(ReadId, Read),
    Recheck,
}

/// What an answer is for.
pub(super) enum ReadContext {
    Stream(Arc<str>),
    Feed(ReadId),
    /// The newest messages, in several answers if they do not fit into one.
    Newest {
        id: ReadId,
        found: Vec<ReadMessage>,
        bytes: usize,
    },
    /// The newest messages of many subjects, for a feed each.
    NewestOfMany(NewestOfMany),
    /// Messages that are read from the leader of a stream, one after the other.
    Leader {
        id: ReadId,
        subject: Arc<str>,
        found: Vec<ReadMessage>,
    },
}

impl StreamClient {
    /// `inbox_prefix` is what the subjects of all replies to this node begin with.
    pub(super) fn new(inbox_prefix: &str) -> Self {
        Self {
            reads: StreamReads::new(inbox_prefix),
            newest_reads: HashMap::new(),
            started: 0,
            later: Vec::new(),
            streams: HashMap::new(),
            queue: VecDeque::new(),
            newest: NewestReads::default(),
        }
    }
}

//! The core of Tidegate: plain data and state machines, without sockets, clocks, tasks or `async`. The caller passes
//! in each event with its time, and the core returns what to do.

pub mod session;

pub mod dialect;
pub mod message;
pub mod moment;
pub mod native;
pub mod renderers;
pub mod subscription_context;

pub mod class;
pub mod client_message;
pub mod deflate;
pub mod delivery_counts;
pub mod elements;
pub mod frame;
pub mod gap_cause;
pub mod headers;
pub mod json;
pub mod list_element;
pub mod members;
pub mod payload;
pub mod position;
pub mod publication;
pub mod scratch;
pub mod slots;
pub mod timestamp;
pub mod topic_id;
pub mod trace_context;
pub mod websocket;
pub mod writer;

pub mod identity;
pub mod permissions;
pub mod subject;
pub mod template;
pub mod url;
pub mod user_token;

pub mod disconnect;
pub mod echo;
pub mod error;

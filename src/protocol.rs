//! The core: plain data and state machines. No sockets, no clock, no tasks, no `async`: what happens is told to it
//! with the time at which it happened, and it answers what is to be done.

pub mod session;

pub mod message;
pub mod vocabulary;

pub mod class;
pub mod deflate;
pub mod frame;
pub mod payload;
pub mod publication;
pub mod websocket;

pub mod identity;
pub mod permissions;
pub mod place;
pub mod subject;
pub mod template;

pub mod disconnect;
pub mod echo;
pub mod error;
pub mod suggest;

//! The shipped vocabularies in hostile hands: the rows `id-01`, `sub-01` to `sub-10`, `voc-01` of the list of attacks, each
//! against all seven, over real sockets, real calls and a real nats-server. `voc-02` needs neither: it is a property test
//! next to the vocabularies.

mod calls;
mod names;
mod nodes;
mod permissions;
pub(crate) mod stage;
mod startup;
pub(crate) mod table;

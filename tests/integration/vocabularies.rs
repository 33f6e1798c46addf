//! Attacks on all seven shipped vocabularies, over real sockets and HTTP calls with a real nats-server: `id-01`,
//! `sub-01` to `sub-10` and `voc-01` of docs/THREATS.md. `voc-02` is a property test in the crate
//! `tidegate-vocabulary`.

mod calls;
mod collect;
mod dotted;
mod kept;
mod names;
mod nodes;
mod own_paths;
mod permissions;
pub(crate) mod stage;
mod startup;
pub(crate) mod table;

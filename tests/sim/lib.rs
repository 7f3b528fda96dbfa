//! What the simulation is made of that other tests use as well: a disk that loses what was not flushed, and the history of
//! what happened to messages, with the judge of it.

pub mod disk;
pub mod history;

//! The six kinds of send adapter: the exact sequence of calls, who ends the delivery, and a crash before every step.

mod asynchronous;
mod batches;
mod request;
mod single;
mod transacted;
mod two_phase;
mod world;

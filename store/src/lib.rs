//! What Pillarbox keeps, and the only ways to change it.
//!
//! A box holds messages and, for each of a message's destinations, a delivery with a state. It changes only by
//! [`Batch`]es, each applied in one atomic and durable step; [`Store`] is the trait through which everybody uses it
//! and [`MessageBox`] the box itself, over one of the engines of [`engine`].

pub mod engine;

mod answer;
mod batch;
mod clock;
mod codec;
mod decision;
mod delivery;
mod doubt;
mod error;
mod id;
mod lease;
mod ledger;
mod message;
#[path = "box/mod.rs"]
mod message_box;
#[doc(hidden)]
pub mod mutant;
mod port;
mod store;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

pub use answer::{Answer, Answered};
pub use batch::{Batch, Committed, Durability, Op, OpResult};
pub use clock::{Clock, SystemClock, Timestamp};
pub use decision::{Decision, Decisions};
pub use delivery::{
    ATTEMPTS_KEPT, Attempt, AttemptNote, AttemptOutcome, DeliveryDetail, DeliveryInfo, DeliveryState,
    Failure, MessageInfo, Route,
};
pub use doubt::{Doubt, DoubtVerdict};
pub use error::{Error, ErrorKind, Refusal};
pub use id::{BatchId, BoxId, DeliveryId, IdSource, MessageId};
pub use lease::{Lease, Leased, Want};
pub use message::{Body, FRAGMENT_BYTES, Fragments, HeaderValue, Headers, Message, Staged};
pub use message_box::inspect;
pub use message_box::{
    AnswerRetention, BodyWriter, BoxConfig, Committing, EngineKind, MessageBox, Retention,
};
pub use port::{Counts, PortInfo, PortName, PortSpec};
pub use store::{BoxStats, Filter, Store, Watch};

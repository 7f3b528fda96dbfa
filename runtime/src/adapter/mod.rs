//! The contracts between the engine and its adapters.
//!
//! The full protocol is the foundation and the only thing that the dispatcher speaks. It re-implements, role by
//! role, the send side of BizTalk Server's adapter framework:
//!
//! | here | there | duty |
//! |---|---|---|
//! | [`Transport`] | `IBTTransport`, `IBaseComponent` | kind, name, version, description, capabilities, URI prefixes |
//! | [`TransportControl`] | `IBTTransportControl` | `initialize(proxy)`; `terminate()` drains |
//! | [`HandlerSettings`] | `IPersistPropertyBag` | load handler settings, save them back |
//! | [`BatchTransmitter`] | `IBTBatchTransmitter` | gives the engine an empty [`TransmitBatch`] |
//! | [`TransmitBatch`] | `IBTTransmitterBatch` | `begin`, `transmit`, `done`, `clear` |
//! | [`Transmitter`] | `IBTTransmitter` | one message at a time |
//! | [`Proxy`](crate::Proxy), [`CompletionBatch`](crate::CompletionBatch) | `IBTTransportProxy`, `IBTTransportBatch`, `IBTBatchCallBack` | delete, resubmit, move to backup, suspend; `done().await` gives every item's status |
//! | [`CommitConfirm`] | `IBTDTCCommitConfirm` | how a transacted send ended |
//!
//! Most adapters need none of that: [`Sender`], [`BlockingSender`] and [`BatchSender`] are wrapped into the
//! protocol by the runtime, and the failure ladder is applied for them.

mod batch;
mod error;
mod kind;
mod outgoing;
mod sender;
mod settings;
mod transport;

pub use batch::{BatchTransmitter, Begun, CommitConfirm, Done, TransmitBatch, Transmitted, Transmitter};
pub use error::{ErrorClass, SendError};
pub use kind::{Adapter, AdapterKind, CheckedSettings, OpenContext};
pub use outgoing::Outgoing;
pub use sender::{BatchSender, BlockingSender, Sender};
pub use settings::{HandlerSettings, SettingProblem, Settings, SettingsError};
pub use transport::{Capabilities, DoubleSafety, Transport, TransportControl, TransportInfo};

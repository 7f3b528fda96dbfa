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
//! | [`Proxy`](crate::Proxy), [`CompletionBatch`](crate::CompletionBatch) | `IBTTransportProxy`, `IBTTransportBatch`, `IBTBatchCallBack` | delete, respond, resubmit, move to backup, suspend; `done().await` gives every item's status |
//! | [`Transaction`], [`CommitConfirm`] | the distributed transaction, `IBTDTCCommitConfirm` | a transacted send, and how it ended |
//! | [`PreparedTransactions`] | the recovery of the distributed transaction's coordinator | what a crash left prepared |
//!
//! Most adapters need none of that: [`Sender`], [`BlockingSender`], [`BatchSender`], [`Requester`] and
//! [`TransactionalSender`] are wrapped into the protocol by the runtime, and the failure ladder is applied for them.
//!
//! # The six kinds
//!
//! An adapter says which it is in its record ([`Capabilities`], [`Shape`]).
//!
//! | kind | by | `transmit` answers | who ends the delivery | a crash may repeat |
//! |---|---|---|---|---|
//! | synchronous | [`Transmitter`] | `Sent` | the engine | the messages in flight |
//! | asynchronous | [`Transmitter`] | `Pending` | the adapter, one or many in a completion batch | what was sent and not completed |
//! | synchronous batch | [`BatchTransmitter`] | `Sent` | the engine, all of the batch in one step after `done` | a batch |
//! | asynchronous batch | [`BatchTransmitter`] | `Pending` | the adapter | what was sent and not completed |
//! | transactional asynchronous batch | [`BatchTransmitter`] with a [`Transaction`] | `Pending` | the adapter, in the transaction | nothing, where the destination lists what it holds ([`PreparedTransactions`]) |
//! | solicit-response | either | `Pending` | the adapter, with the answer in the same step | requests whose answer was not recorded |

mod batch;
mod error;
mod kind;
mod outgoing;
mod reconcile;
mod sender;
mod settings;
mod transaction;
mod transport;

pub use batch::{BatchTransmitter, Begun, CommitConfirm, Done, TransmitBatch, Transmitted, Transmitter};
pub use error::{ErrorClass, SendError};
pub use kind::{Adapter, AdapterKind, CheckedSettings, OpenContext};
pub use outgoing::Outgoing;
pub use reconcile::Reconciled;
pub use sender::{BatchSender, BlockingSender, Requester, Sender, TransactionalSender};
pub use settings::{HandlerSettings, SettingProblem, Settings, SettingsError};
pub use transaction::{PreparedTransactions, Transaction, TransactionId};
pub use transport::{Capabilities, DoubleSafety, Order, Shape, Transport, TransportControl, TransportInfo};

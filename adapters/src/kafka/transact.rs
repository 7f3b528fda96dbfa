//! Adds a batch of messages to a topic in one of Kafka's transactions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pillarbox_runtime::adapter::{BatchSender, OpenContext, Outgoing, SendError, Transport, TransportInfo};
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryFuture, Producer as _};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::producer::{self, Producer, Purpose, is_about_the_message};
use super::record::Record;
use super::settings::KafkaSettings;
use super::{info, transactional_info};
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

/// The most messages of a transaction: a tenth of what the library has room for.
const MESSAGES_MAX: usize = 10_000;

/// Adds the messages of a batch in one transaction.
pub(super) struct TransactionalSender {
    settings: Arc<KafkaSettings>,
    purpose: Purpose,
    /// Held by whoever is in a transaction: a producer is in one at a time.
    producer: Arc<Mutex<Option<Producer>>>,
}

/// The name under which a route's transactions are known to the brokers: whoever takes it last is its owner. A dynamic port
/// may send to several topics at once.
pub(super) fn name(context: &OpenContext, topic: &str) -> String {
    format!("pillarbox-{}-{}-{}-{topic}", context.box_id, context.port, context.route.as_str())
}

impl TransactionalSender {
    /// A sender that is the only one of its name.
    ///
    /// # Errors
    /// Temporary: no broker answers, or there is no such topic.
    pub(super) async fn open(settings: KafkaSettings, name: String) -> Result<Self, SendError> {
        let (settings, purpose) = (Arc::new(settings), Purpose::Transactions(name));
        let (of, with) = (Arc::clone(&settings), purpose.clone());
        let producer = on_thread(move || producer::open(&of, &with)).await?;
        Ok(Self { settings, purpose, producer: Arc::new(Mutex::new(Some(producer))) })
    }

    /// Adds the messages, all or none of those that the brokers take.
    pub(super) async fn deliver(&self, parcels: &[Parcel<'_>]) -> Vec<Result<(), SendError>> {
        let mut outcomes: Vec<Result<(), SendError>> = Vec::new();
        let mut records = Vec::new();
        for (index, parcel) in parcels.iter().enumerate() {
            let record = Record::new(&self.settings, parcel);
            // Overwritten once it is known.
            outcomes.push(record.map(|record| records.push((index, record))));
        }
        let work = Work {
            settings: Arc::clone(&self.settings),
            purpose: self.purpose.clone(),
            turn: Arc::clone(&self.producer).lock_owned().await,
            given_up: Arc::default(),
            runtime: Handle::current(),
        };
        // Where this is dropped, the transaction is not committed any more unless that has begun.
        let _given_up = SetOnDrop(Arc::clone(&work.given_up));
        let indexes: Vec<usize> = records.iter().map(|(index, _record)| *index).collect();
        match on_thread(move || Ok(work.all(records))).await {
            Ok(known) => known.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome),
            Err(cut_off) => {
                let text = cut_off.to_failure().text();
                indexes.into_iter().for_each(|index| outcomes[index] = Err(SendError::temporary(&text)));
            }
        }
        outcomes
    }
}

/// A batch under way, on a thread that may block.
struct Work {
    settings: Arc<KafkaSettings>,
    purpose: Purpose,
    turn: OwnedMutexGuard<Option<Producer>>,
    given_up: Arc<AtomicBool>,
    runtime: Handle,
}

/// Why a transaction was not committed.
enum Undone {
    /// One of several that went out together will never be taken.
    OneOfSeveral,
    /// This one will never be taken.
    This { index: usize, error: SendError, by_brokers: bool },
    /// Nothing is wrong with the messages.
    All(KafkaError),
}

type Known = Vec<(usize, Result<(), SendError>)>;

impl Work {
    /// What became of each.
    fn all(mut self, mut records: Vec<(usize, Record)>) -> Known {
        let mut known = Vec::new();
        // Sent one by one, each by itself, the brokers tell which one they refuse.
        let mut one_by_one = false;
        while !records.is_empty() {
            let producer = match self.producer() {
                Ok(producer) => producer,
                Err(error) => {
                    let text = error.to_failure().text();
                    let failed = |(index, _record)| (index, Err(SendError::temporary(&text)));
                    known.extend(records.drain(..).map(failed));
                    break;
                }
            };
            match self.one(&producer, &records, one_by_one) {
                Ok(()) => known.extend(records.drain(..).map(|(index, _record)| (index, Ok(())))),
                Err(Undone::OneOfSeveral) => one_by_one = true,
                Err(Undone::This { index: refused, error, by_brokers: _ }) => {
                    records.retain(|(index, _record)| *index != refused);
                    known.push((refused, Err(error)));
                }
                Err(Undone::All(error)) => {
                    let failed =
                        |(index, _record)| (index, Err(producer.refused(&self.settings, error.clone())));
                    known.extend(records.drain(..).map(failed));
                }
            }
        }
        known
    }

    fn producer(&mut self) -> Result<Producer, SendError> {
        if let Some(producer) = self.turn.as_ref() {
            return Ok(producer.clone());
        }
        let producer = producer::open(&self.settings, &self.purpose)?;
        *self.turn = Some(producer.clone());
        Ok(producer)
    }

    /// One transaction with all of these.
    fn one(
        &mut self,
        producer: &Producer,
        records: &[(usize, Record)],
        one_by_one: bool,
    ) -> Result<(), Undone> {
        let begun = producer.inner.begin_transaction().map_err(Undone::All);
        let added = begun.and_then(|()| self.add(producer, records, one_by_one));
        let given_up = || {
            if self.given_up.load(Ordering::Relaxed) {
                Err(Undone::All(KafkaError::Canceled))
            } else {
                Ok(())
            }
        };
        let Err(undone) = added.and_then(|()| given_up()) else {
            let committed = producer.inner.commit_transaction(self.settings.timeout);
            return committed.map_err(|error| {
                // Whether it is committed is unknown, or another one is the owner.
                *self.turn = None;
                Undone::All(error)
            });
        };
        let over = matches!(&undone, Undone::All(error) if producer.is_over(error));
        let aborted = !over && producer.inner.abort_transaction(self.settings.timeout).is_ok();
        // The library counts on from what the brokers did not take, and they would refuse the next transaction for the gap.
        // Another producer counts anew, and has them take back what is open.
        let may_go_on =
            matches!(&undone, Undone::This { by_brokers: false, .. } | Undone::All(KafkaError::Canceled));
        if !(aborted && may_go_on) {
            *self.turn = None;
        }
        Err(undone)
    }

    /// Adds the records to the transaction that was begun, and waits until every replica in sync has them.
    fn add(&self, producer: &Producer, records: &[(usize, Record)], one_by_one: bool) -> Result<(), Undone> {
        let alone = one_by_one || records.len() == 1;
        let mut waiting = Vec::new();
        let mut undone = Ok(());
        for (index, record) in records {
            match producer.inner.send_result(record.to(&self.settings.topic)) {
                Ok(delivery) if alone => self.wait(producer, *index, delivery, true)?,
                Ok(delivery) => waiting.push((*index, delivery)),
                // Said by the library, of this one.
                Err((error, _record)) if is_about_the_message(&error) => {
                    let error = producer.refused(&self.settings, error);
                    undone = Err(Undone::This { index: *index, error, by_brokers: false });
                    break;
                }
                Err((error, _record)) => {
                    undone = Err(Undone::All(error));
                    break;
                }
            }
        }
        for (index, delivery) in waiting {
            undone = worse(undone, self.wait(producer, index, delivery, false));
        }
        undone
    }

    fn wait(
        &self,
        producer: &Producer,
        index: usize,
        delivery: DeliveryFuture,
        alone: bool,
    ) -> Result<(), Undone> {
        match self.runtime.block_on(delivery) {
            Ok(Ok(_place)) => Ok(()),
            Ok(Err((error, _message))) => Err(self.undone(producer, index, error, alone)),
            Err(_cancelled) => Err(Undone::All(KafkaError::Canceled)),
        }
    }

    fn undone(&self, producer: &Producer, index: usize, error: KafkaError, alone: bool) -> Undone {
        match is_about_the_message(&error) {
            true if alone => {
                Undone::This { index, error: producer.refused(&self.settings, error), by_brokers: true }
            }
            true => Undone::OneOfSeveral,
            false => Undone::All(error),
        }
    }
}

/// What is said of a message counts for more than what followed for the others.
fn worse(one: Result<(), Undone>, other: Result<(), Undone>) -> Result<(), Undone> {
    match (one, other) {
        (Ok(()) | Err(Undone::All(_)), Err(other @ (Undone::OneOfSeveral | Undone::This { .. }))) => {
            Err(other)
        }
        (one, other) => one.and(other),
    }
}

/// Says so when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for TransactionalSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for TransactionalSender {
    fn describe(&self) -> TransportInfo {
        transactional_info(info(self.settings.message_bytes_max))
    }
}

#[async_trait]
impl BatchSender for TransactionalSender {
    fn messages_max(&self) -> usize {
        MESSAGES_MAX
    }

    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        let parcels: Vec<Parcel<'_>> = messages.iter().map(Parcel::from).collect();
        self.deliver(&parcels).await
    }

    async fn close(&self) {
        let mut turn = Arc::clone(&self.producer).lock_owned().await;
        // Its end waits for its threads.
        let _ended = on_thread(move || {
            *turn = None;
            Ok(())
        })
        .await;
    }
}

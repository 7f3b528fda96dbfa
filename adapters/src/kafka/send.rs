//! Adds messages to a topic.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pillarbox_runtime::adapter::{Outgoing, SendError, Sender, Transport, TransportInfo};
use rdkafka::error::KafkaError;

use super::info;
use super::producer::{self, Producer, Purpose, is_about_the_message};
use super::record::Record;
use super::settings::KafkaSettings;
use crate::on_thread::on_thread;
use crate::parcel::Parcel;

/// Adds each message as one record.
pub(super) struct KafkaSender {
    settings: KafkaSettings,
    together: Slot,
    /// For those that were refused, maybe for what others beside them were.
    alone: Slot,
}

/// A producer, made anew where there is none.
struct Slot {
    purpose: Purpose,
    producer: Mutex<Option<Producer>>,
    /// Held by whoever makes another one.
    opening: tokio::sync::Mutex<()>,
}

impl KafkaSender {
    /// A sender that knows the topic's brokers.
    ///
    /// # Errors
    /// Temporary: no broker answers, or there is no such topic.
    pub(super) async fn open(settings: KafkaSettings) -> Result<Self, SendError> {
        let [together, alone] = [Purpose::Together, Purpose::Alone].map(Slot::new);
        together.producer(&settings).await?;
        Ok(Self { settings, together, alone })
    }

    /// Adds the message and waits until every replica in sync has it.
    ///
    /// # Errors
    /// The brokers refuse it, or do not answer: it may be there all the same.
    pub(super) async fn deliver(&self, parcel: &Parcel<'_>) -> Result<(), SendError> {
        let record = Record::new(&self.settings, parcel)?;
        match self.add(&self.together, &record).await? {
            Added::Yes => Ok(()),
            Added::Refused(_of_several) => match self.add(&self.alone, &record).await? {
                Added::Yes => Ok(()),
                Added::Refused(error) => Err(error),
            },
        }
    }

    /// Adds the record.
    ///
    /// # Errors
    /// Where another try now is of no use.
    async fn add(&self, slot: &Slot, record: &Record) -> Result<Added, SendError> {
        let producer = slot.producer(&self.settings).await?;
        let sent = match producer.inner.send_result(record.to(&self.settings.topic)) {
            Ok(delivery) => delivery.await,
            // Said by the library, of this one.
            Err((error, _record)) => return Err(self.refused(slot, &producer, error)),
        };
        match sent {
            Ok(Ok(_place)) => Ok(Added::Yes),
            Ok(Err((error, _message))) if is_about_the_message(&error) => {
                Ok(Added::Refused(self.refused(slot, &producer, error)))
            }
            Ok(Err((error, _message))) => Err(self.refused(slot, &producer, error)),
            Err(_cancelled) => Err(self.refused(slot, &producer, KafkaError::Canceled)),
        }
    }

    fn refused(&self, slot: &Slot, producer: &Producer, error: KafkaError) -> SendError {
        if producer.is_over(&error) {
            slot.current().take_if(|current| current.is(producer));
        }
        producer.refused(&self.settings, error)
    }
}

/// What became of a record.
enum Added {
    Yes,
    /// It, or one that went out with it, will never be taken.
    Refused(SendError),
}

impl Slot {
    fn new(purpose: Purpose) -> Self {
        Self { purpose, producer: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    async fn producer(&self, settings: &KafkaSettings) -> Result<Producer, SendError> {
        let _turn = self.opening.lock().await;
        if let Some(producer) = self.current().as_ref() {
            return Ok(producer.clone());
        }
        let (settings, purpose) = (settings.clone(), self.purpose.clone());
        let producer = on_thread(move || producer::open(&settings, &purpose)).await?;
        *self.current() = Some(producer.clone());
        Ok(producer)
    }

    fn current(&self) -> MutexGuard<'_, Option<Producer>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KafkaSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSender").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Transport for KafkaSender {
    fn describe(&self) -> TransportInfo {
        info(self.settings.message_bytes_max)
    }
}

#[async_trait]
impl Sender for KafkaSender {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        self.deliver(&Parcel::from(message)).await
    }

    async fn close(&self) {
        let producers = [&self.together, &self.alone].map(|slot| slot.current().take());
        // Their end waits for their threads.
        let _ended = on_thread(move || {
            drop(producers);
            Ok(())
        })
        .await;
    }
}

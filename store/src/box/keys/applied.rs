//! Family 7: a batch that was applied, so that the same batch committed again is applied once.
//!
//! Under a rising sequence number. Head: batch id (16 bytes), next free number after it (8), first number it used
//! (8), operations (4), bincode of the refusals (absent where there are none). The latest ones are kept, so the
//! next free number never falls back.

use super::Fields;
use crate::engine::{Key, WriteSet};
use crate::{BatchId, DeliveryId, DeliveryState, Error, Refusal, codec};
use serde::{Deserialize, Serialize};

pub(crate) const FAMILY: u8 = 7;

/// How many applied batches are remembered.
pub(crate) const KEPT: u64 = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppliedRecord {
    pub(crate) id: BatchId,
    pub(crate) next_number: u64,
    pub(crate) first: u64,
    pub(crate) ops: u32,
    pub(crate) refusals: Vec<(u32, Refusal)>,
}

/// A refusal as it is kept. Tags are persisted by their order: only append.
#[derive(Serialize, Deserialize)]
enum Kept {
    NotOwned,
    Duplicate(DeliveryId),
    NoBackup,
    OnBackup,
    NoSuchPort,
    NoSuchDelivery,
    WrongState(DeliveryState),
    BadPorts,
    Voided,
    NoSuchBody,
}

impl From<&Refusal> for Kept {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotOwned => Self::NotOwned,
            Refusal::Duplicate { first } => Self::Duplicate(*first),
            Refusal::NoBackup => Self::NoBackup,
            Refusal::OnBackup => Self::OnBackup,
            Refusal::NoSuchPort => Self::NoSuchPort,
            Refusal::NoSuchDelivery => Self::NoSuchDelivery,
            Refusal::WrongState { state } => Self::WrongState(*state),
            Refusal::BadPorts => Self::BadPorts,
            Refusal::Voided => Self::Voided,
            Refusal::NoSuchBody => Self::NoSuchBody,
        }
    }
}

impl From<Kept> for Refusal {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::NotOwned => Self::NotOwned,
            Kept::Duplicate(first) => Self::Duplicate { first },
            Kept::NoBackup => Self::NoBackup,
            Kept::OnBackup => Self::OnBackup,
            Kept::NoSuchPort => Self::NoSuchPort,
            Kept::NoSuchDelivery => Self::NoSuchDelivery,
            Kept::WrongState(state) => Self::WrongState { state },
            Kept::BadPorts => Self::BadPorts,
            Kept::Voided => Self::Voided,
            Kept::NoSuchBody => Self::NoSuchBody,
        }
    }
}

pub(crate) fn write(writes: &mut WriteSet, sequence: u64, record: &AppliedRecord) {
    writes.put(Key::new(FAMILY, sequence, 0), bytes::Bytes::new(), |head| {
        head.extend_from_slice(&record.id.to_bytes());
        head.extend_from_slice(&record.next_number.to_le_bytes());
        head.extend_from_slice(&record.first.to_le_bytes());
        head.extend_from_slice(&record.ops.to_le_bytes());
        if !record.refusals.is_empty() {
            let kept: Vec<(u32, Kept)> =
                record.refusals.iter().map(|(index, refusal)| (*index, refusal.into())).collect();
            codec::encode(&kept, head);
        }
    });
}

pub(crate) fn read(head: &[u8]) -> Result<AppliedRecord, Error> {
    let mut fields = Fields(head);
    let (id, next_number, first, ops) = (fields.take()?, fields.u64()?, fields.u64()?, fields.u32()?);
    let refusals = if fields.0.is_empty() {
        Vec::new()
    } else {
        let kept: Vec<(u32, Kept)> = codec::decode(fields.0)?;
        kept.into_iter().map(|(index, kept)| (index, kept.into())).collect()
    };
    Ok(AppliedRecord { id: BatchId::from_bytes(id), next_number, first, ops, refusals })
}

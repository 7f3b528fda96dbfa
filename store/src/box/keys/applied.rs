//! Family 7: batches that were applied, so that the same batch committed again is applied once. Many to a page, each
//! page under the sequence number of its first batch; the next page goes on where one ends.
//!
//! Head: rows one after another, each: batch id (16 bytes); then numbers of variable length: the first number it used,
//! less the next free one of the row before; how many numbers it used; operations; bytes of the bincode of its refusals,
//! which follows (0 where there are none). The latest ones are kept, so the next free number never falls back.

use super::{Fields, put_number};
use crate::engine::{Key, WriteSet};
use crate::{BatchId, DeliveryId, DeliveryState, Error, Refusal, codec};
use serde::{Deserialize, Serialize};

pub(crate) const FAMILY: u8 = 7;

/// How many applied batches are remembered.
pub(crate) const KEPT: u64 = 65_536;

/// Rows start a new page once a page has so many bytes.
pub(crate) const PAGE_BYTES: usize = 128 * 1024;

/// So many pages in a row are gathered into one, unless it would have more than [`GATHERED_BYTES`].
pub(crate) const SMALL_PAGES: usize = 256;
const GATHERED_BYTES: usize = 16 * 1024;

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
    NotInDoubt,
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
            Refusal::NotInDoubt => Self::NotInDoubt,
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
            Kept::NotInDoubt => Self::NotInDoubt,
        }
    }
}

/// A page that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Page {
    rows: Vec<u8>,
    count: u64,
    next_number: u64,
}

impl Page {
    pub(crate) fn push(&mut self, record: &AppliedRecord) {
        self.rows.extend_from_slice(&record.id.to_bytes());
        put_number(&mut self.rows, record.first.wrapping_sub(self.next_number));
        put_number(&mut self.rows, record.next_number.wrapping_sub(record.first));
        put_number(&mut self.rows, u64::from(record.ops));
        if record.refusals.is_empty() {
            put_number(&mut self.rows, 0);
        } else {
            let kept: Vec<(u32, Kept)> =
                record.refusals.iter().map(|(index, refusal)| (*index, refusal.into())).collect();
            let mut encoded = Vec::new();
            codec::encode(&kept, &mut encoded);
            put_number(&mut self.rows, encoded.len() as u64);
            self.rows.extend_from_slice(&encoded);
        }
        self.next_number = record.next_number;
        self.count += 1;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= PAGE_BYTES
    }

    /// Whether it is too long to be one of gathered rows.
    pub(crate) fn is_large(&self) -> bool {
        self.rows.len() > GATHERED_BYTES
    }

    /// How many rows it has.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Writes the page, whose first row has the number `sequence`, and begins anew.
    pub(crate) fn write(&mut self, writes: &mut WriteSet, sequence: u64) {
        writes.put(key(sequence), bytes::Bytes::new(), |head| head.extend_from_slice(&self.rows));
        self.clear();
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        (self.count, self.next_number) = (0, 0);
    }
}

pub(crate) const fn key(sequence: u64) -> Key {
    Key::new(FAMILY, sequence, 0)
}

/// The rows of a page, in order.
pub(crate) fn rows(head: &[u8]) -> Result<Vec<AppliedRecord>, Error> {
    let mut fields = Fields(head);
    let mut rows = Vec::new();
    let mut next_number = 0_u64;
    while !fields.0.is_empty() {
        let id = BatchId::from_bytes(fields.take()?);
        let first = next_number.wrapping_add(fields.number()?);
        next_number = first.wrapping_add(fields.number()?);
        let ops = fields.small("operations")?;
        let refusals = match fields.small("bytes of refusals")? {
            0 => Vec::new(),
            len => {
                let kept: Vec<(u32, Kept)> = codec::decode(fields.bytes(len)?)?;
                kept.into_iter().map(|(index, kept)| (index, kept.into())).collect()
            }
        };
        rows.push(AppliedRecord { id, next_number, first, ops, refusals });
    }
    Ok(rows)
}

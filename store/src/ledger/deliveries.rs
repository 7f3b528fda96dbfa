//! The deliveries that are still known. Most wait for their first attempt: what only the others need is kept apart.

use super::DeliveryRow;
use super::table::Table;
use crate::DeliveryState;

/// What every delivery needs.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    port: u32,
    ordinal: u16,
    state: DeliveryState,
    bits: u8,
}

/// What those need that were tried, wait for a time or have ended.
#[derive(Debug, Clone, Copy)]
struct Tried {
    due: i64,
    attempts: u32,
    attempts_on_route: u32,
}

/// Number -> delivery.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    rows: Table<Waiting>,
    tried: Table<Tried>,
}

impl Deliveries {
    /// There is a row for it in `tried`.
    const TRIED: u8 = 128;

    pub(super) fn get(&self, number: u64) -> Option<DeliveryRow> {
        self.rows.get(number).map(|row| self.whole(number, *row))
    }

    pub(super) fn insert(&mut self, number: u64, row: DeliveryRow) {
        let had = self.rows.get(number).is_some_and(|have| have.bits & Self::TRIED != 0);
        let has = row.due != 0 || row.attempts != 0 || row.attempts_on_route != 0;
        if has {
            let DeliveryRow { due, attempts, attempts_on_route, .. } = row;
            self.tried.insert(number, Tried { due, attempts, attempts_on_route });
        } else if had {
            self.tried.remove(number);
        }
        let bits = if has { row.bits | Self::TRIED } else { row.bits };
        self.rows.insert(number, Waiting { port: row.port, ordinal: row.ordinal, state: row.state, bits });
    }

    /// Changes a delivery. Gives it as it was and as it is; `None` where it is not known.
    pub(super) fn update(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut DeliveryRow),
    ) -> Option<(DeliveryRow, DeliveryRow)> {
        let before = self.get(number)?;
        let mut row = before;
        change(&mut row);
        self.insert(number, row);
        Some((before, row))
    }

    /// Changes a delivery's state alone.
    pub(super) fn set_state(&mut self, number: u64, state: DeliveryState) {
        if let Some(row) = self.rows.get_mut(number) {
            row.state = state;
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<DeliveryRow> {
        let row = self.rows.remove(number)?;
        let whole = self.whole(number, row);
        if row.bits & Self::TRIED != 0 {
            self.tried.remove(number);
        }
        Some(whole)
    }

    /// Every delivery with a number of at least `from`, in order.
    pub(super) fn range(&self, from: u64) -> impl Iterator<Item = (u64, DeliveryRow)> {
        self.rows.range(from).map(|(number, row)| (number, self.whole(number, *row)))
    }

    fn whole(&self, number: u64, row: Waiting) -> DeliveryRow {
        let Waiting { port, ordinal, state, bits } = row;
        let tried = if bits & Self::TRIED == 0 { None } else { self.tried.get(number) };
        let Tried { due, attempts, attempts_on_route } =
            tried.copied().unwrap_or(Tried { due: 0, attempts: 0, attempts_on_route: 0 });
        DeliveryRow { due, attempts, attempts_on_route, port, ordinal, state, bits: bits & !Self::TRIED }
    }
}

#[cfg(test)]
mod tests;

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

/// There is a row for it in `tried`.
const TRIED: u8 = 128;

impl Deliveries {
    pub(super) fn get(&self, number: u64) -> Option<DeliveryRow> {
        self.rows.get(number).map(|row| self.whole(number, *row))
    }

    pub(super) fn insert(&mut self, number: u64, row: DeliveryRow) {
        if self.update(number, |have| *have = row).is_some() {
            return;
        }
        let (waiting, tried) = parts(&row);
        self.rows.insert(number, waiting);
        if let Some(tried) = tried {
            self.tried.insert(number, tried);
        }
    }

    /// Changes a delivery. Gives it as it was and as it is; `None` where it is not known.
    pub(super) fn update(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut DeliveryRow),
    ) -> Option<(DeliveryRow, DeliveryRow)> {
        let slot = self.rows.get_mut(number)?;
        let mut tried = if slot.bits & TRIED == 0 { None } else { self.tried.get_mut(number) };
        let before = whole(*slot, tried.as_deref());
        let mut row = before;
        change(&mut row);
        let (waiting, rest) = parts(&row);
        *slot = waiting;
        match (&mut tried, rest) {
            (Some(have), Some(rest)) => **have = rest,
            (None, Some(rest)) => self.tried.insert(number, rest),
            (Some(_), None) => drop(self.tried.remove(number)),
            (None, None) => {}
        }
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
        let tried = if row.bits & TRIED == 0 { None } else { self.tried.remove(number) };
        Some(whole(row, tried.as_ref()))
    }

    /// Every delivery with a number of at least `from`, in order.
    pub(super) fn range(&self, from: u64) -> impl Iterator<Item = (u64, DeliveryRow)> {
        self.rows.range(from).map(|(number, row)| (number, self.whole(number, *row)))
    }

    fn whole(&self, number: u64, row: Waiting) -> DeliveryRow {
        whole(row, if row.bits & TRIED == 0 { None } else { self.tried.get(number) })
    }
}

fn whole(row: Waiting, tried: Option<&Tried>) -> DeliveryRow {
    let Waiting { port, ordinal, state, bits } = row;
    let Tried { due, attempts, attempts_on_route } =
        tried.copied().unwrap_or(Tried { due: 0, attempts: 0, attempts_on_route: 0 });
    DeliveryRow { due, attempts, attempts_on_route, port, ordinal, state, bits: bits & !TRIED }
}

fn parts(row: &DeliveryRow) -> (Waiting, Option<Tried>) {
    let DeliveryRow { due, attempts, attempts_on_route, port, ordinal, state, bits } = *row;
    let has = due != 0 || attempts != 0 || attempts_on_route != 0;
    let bits = if has { bits | TRIED } else { bits };
    (Waiting { port, ordinal, state, bits }, has.then_some(Tried { due, attempts, attempts_on_route }))
}

#[cfg(test)]
mod tests;

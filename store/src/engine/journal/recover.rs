//! Giving every live record's head to who builds something from them: one thread reads ahead of the other.

#![warn(clippy::indexing_slicing)]

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::format::{TableEntry, segment_seed};
use super::move_rest::lives_at;
use super::read::{Window, is_head_sound};
use super::scan::{Scanner, Step, entry_at};
use super::segment::FileName;
use super::{Journal, read_error};
use crate::engine::{Key, Visit};
use crate::{Error, ErrorKind};

/// Heads handed over at once have about so many bytes.
const PORTION_BYTES: usize = 256 * 1024;
/// Portions read ahead.
const AHEAD: usize = 4;

/// Some records, in the order in which they stand in the files.
#[derive(Debug, Default)]
struct Portion {
    /// Each with where its head ends.
    records: Vec<(Key, usize)>,
    heads: Vec<u8>,
}

/// Whoever takes the portions has enough.
#[derive(Debug)]
struct Enough;

/// Puts portions together and hands them over.
struct Giver {
    portion: Portion,
    sender: SyncSender<Result<Portion, Error>>,
}

impl Giver {
    fn give(&mut self, key: Key, head: &[u8]) -> Result<(), Enough> {
        self.portion.heads.extend_from_slice(head);
        self.portion.records.push((key, self.portion.heads.len()));
        if self.portion.heads.len() < PORTION_BYTES {
            return Ok(());
        }
        let next = Portion {
            records: Vec::with_capacity(self.portion.records.len()),
            heads: Vec::with_capacity(self.portion.heads.len()),
        };
        self.hand_over(next)
    }

    fn hand_over(&mut self, next: Portion) -> Result<(), Enough> {
        self.sender.send(Ok(std::mem::replace(&mut self.portion, next))).map_err(|_gone| Enough)
    }
}

impl Portion {
    fn visit(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut from = 0;
        for (key, end) in &self.records {
            visit(*key, self.heads.get(from..*end).unwrap_or_default())?;
            from = *end;
        }
        Ok(())
    }
}

impl Journal {
    /// Calls `visit` with every live record, segment by segment.
    pub(super) fn visit_all(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        let (sender, portions) = sync_channel(AHEAD);
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().name("pillarbox-read".to_owned());
            let started = reader.spawn_scoped(scope, || self.give_all(sender));
            started.map_err(|cause| {
                Error::new(ErrorKind::Unavailable, "start a thread that reads the journal").caused_by(cause)
            })?;
            // Dropped at its end, also where that comes early: the reader then ends as well.
            let portions = portions;
            portions.iter().try_for_each(|portion| portion?.visit(visit))
        })
    }

    fn give_all(&self, sender: SyncSender<Result<Portion, Error>>) {
        let mut giver = Giver { portion: Portion::default(), sender };
        let numbers: Vec<u32> = self.live().segments().map(|(number, _)| number).collect();
        for number in numbers {
            match self.give_segment(number, &mut giver) {
                Ok(Ok(())) => {}
                Ok(Err(Enough)) => return,
                Err(error) => {
                    let error = read_error(error, FileName::Segment(number));
                    let _enough = giver.sender.send(Err(error));
                    return;
                }
            }
        }
        let _enough = giver.hand_over(Portion::default());
    }

    /// Gives the live records of one segment.
    fn give_segment(&self, number: u32, giver: &mut Giver) -> io::Result<Result<(), Enough>> {
        let (file, mut scanner) = {
            let live = self.live();
            let Some(segment) = live.segment(number).filter(|segment| segment.records > 0) else {
                return Ok(Ok(()));
            };
            let scanner = Scanner::new(self.salt, number, 0, Some(segment.end), segment.file_bytes);
            (segment.file.clone(), scanner)
        };
        let mut window = Window::new(&*file);
        let mut entries = Vec::new();
        let seed = segment_seed(self.salt, u64::from(number));
        while let Some(step) = scanner.next(&mut window)? {
            self.live_entries(number, step, &mut window, &mut entries)?;
            for entry in &entries {
                let head = window.read(u64::from(entry.head_at), entry.head_bytes as usize)?;
                if is_head_sound(seed, entry, head)
                    && let Err(enough) = giver.give(entry.key, head)
                {
                    return Ok(Err(enough));
                }
            }
        }
        Ok(Ok(()))
    }

    /// The entries that store live records.
    fn live_entries(
        &self,
        number: u32,
        step: Step,
        window: &mut Window<'_>,
        entries: &mut Vec<TableEntry>,
    ) -> io::Result<()> {
        let seed = segment_seed(self.salt, u64::from(number));
        entries.clear();
        let (offsets, is_table) = step.entries();
        let live = self.live();
        for at in offsets {
            let entry = entry_at(window, seed, at, is_table)?;
            entries.extend(entry.filter(|entry| lives_at(&live, number, at, entry)));
        }
        Ok(())
    }
}

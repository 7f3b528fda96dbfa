//! A box over records that are sound as far as checksums tell, and that no box would have written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pillarbox_store::engine::memory::Memory;
use pillarbox_store::engine::{Engine, Key, WriteSet};
use pillarbox_store::{
    Batch, BoxConfig, Committing, DeliveryId, Durability, Filter, MessageBox, PortSpec, Store, Want,
};

use crate::input::Input;

const RECORDS_MAX: usize = 64;
const LONG_BODY_BYTES: u64 = 1 << 30;
const PORTS_MAX: usize = 8;
/// The flag of a record's family byte after which its number has eight bytes instead of one.
pub const LONG_NUMBER: u8 = 0x80;

/// The records that an input describes: each its family, its number, its part, and the length of its head, of its
/// body, and these.
fn records(mut input: Input<'_>) -> WriteSet {
    let mut writes = WriteSet::default();
    for _ in 0..RECORDS_MAX {
        if !input.has_more() {
            break;
        }
        let family = input.u8();
        let number = if family & LONG_NUMBER == 0 { u64::from(input.u8()) } else { input.u64() };
        let part = u32::from(input.u8());
        let (head_bytes, body_bytes) = (usize::from(input.u8()), usize::from(input.u8()));
        let (head, body) = (input.bytes(head_bytes), input.bytes(body_bytes));
        let key = Key::new(family & !LONG_NUMBER, number, part);
        writes.put(key, Bytes::copy_from_slice(body), |into| into.extend_from_slice(head));
    }
    writes
}

/// Opens the box and does everything with it once. It may refuse, and does not panic.
pub fn run(data: &[u8]) {
    let engine = Memory::default();
    engine.apply(&records(Input(data)), Durability::Flushed).expect("there is memory");
    let config = BoxConfig { committing: Committing::Inline, ..BoxConfig::in_memory() };
    let Ok(mailbox) = MessageBox::with_engine(Arc::new(engine), config.clone()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime on this thread");
    runtime.block_on(use_everything(&mailbox, &config));
}

/// What fails is the record's affair; that it can be asked is ours.
async fn use_everything(mailbox: &MessageBox, config: &BoxConfig) {
    let ids = &config.ids;
    let known = mailbox.deliveries(&Filter::default()).await.unwrap_or_default();
    // Ending a long body costs a delete for each of its fragments, and these say that they have any number of them.
    if known.iter().any(|info| info.body_len > LONG_BODY_BYTES) {
        return;
    }
    for info in known.iter().take(16) {
        let _ = mailbox.delivery(info.id).await;
        let _ = mailbox.message(info.message).await;
        let _ = mailbox.body(info.message, 0).await;
        let _ = mailbox.answer(info.id).await;
    }
    let _ = mailbox.decisions().await;
    for port in mailbox.ports().into_iter().take(PORTS_MAX) {
        assert_eq!(port.counts.leased, 0, "a lease outlived its process");
        let define = Batch::new(ids.batch()).define_port(&port.name, PortSpec { backup: true });
        let _ = mailbox.commit(&define.unpause_port(&port.name)).await;
        for route in [pillarbox_store::Route::Primary, pillarbox_store::Route::Backup] {
            let name = port.name.clone();
            let lease_for = Duration::from_secs(60);
            let want = Want { port: name, route, limit: 4, bytes_max: u64::MAX, lease_for };
            let mut settle = Batch::new(ids.batch());
            for leased in mailbox.lease(&want).await.unwrap_or_default() {
                settle = settle.delete(leased.lease, None);
            }
            let _ = mailbox.commit(&settle).await;
        }
        let message = pillarbox_store::Message::new(ids.message(), Bytes::from_static(b"more"));
        let _ = mailbox.commit(&Batch::new(ids.batch()).submit(&port.name, message)).await;
    }
    for number in known.iter().map(|info| info.id).chain([DeliveryId::new(1)]).take(16) {
        let settle = Batch::new(ids.batch()).hold(number, "held").resume(number).terminate(number, "ended");
        let _ = mailbox.commit(&settle).await;
    }
    let _ = mailbox.close().await;
}

//! Whether a long body is sent in bounded memory.

use std::fs;
use std::sync::Arc;

use pillarbox_store::{Batch, Body, IdSource, Message, PortName, PortSpec, Store};

use super::ensure;
use crate::bench::{Bench, Drive, Fail, Outcome, Sent, open_box};
use crate::proxy::{Fault, Way};

/// The body that is sent. The first part of it is enough to see what is in memory.
const LONG: usize = 24 * 1024 * 1024;
/// How much more memory may be used meanwhile.
const MEMORY_MAX: u64 = 10 * 1024 * 1024;
/// How much of it has gone out when the memory is looked at.
const BEGUN: u32 = 512 * 1024;

/// A body that is much longer than what may be in memory passes.
pub(super) async fn streams(bench: &mut Bench<'_>) -> Outcome {
    if !bench.record().streams {
        return Err(Fail::NotChecked("streaming is not claimed"));
    }
    if bench.record().body_bytes_max.is_some_and(|most| most < LONG as u64) {
        return Err(Fail::NotChecked("the largest body is too short to tell"));
    }
    // What is used for the first time is read into memory, programs too.
    let life = bench.open(&Drive::default()).await?;
    let warm = bench.body(usize::try_from(BEGUN)?);
    bench.send(&life, warm).await?;
    life.finish().await?;
    let folder = tempfile::tempdir()?;
    let store = open_box(Some(folder.path())).await?;
    let body = bench.body(LONG);
    bench.expect(&body);
    let delivery = put_in(&store, &body).await?;
    // It is held up at its beginning: whoever reads it whole has done so by then.
    if let Some(proxy) = &bench.proxy {
        proxy.set(Fault::Hold { way: Way::Request, after: BEGUN.into() });
    }
    let memory = Memory::from_now()?;
    let life = bench.run(Arc::clone(&store), &Drive::default()).await?;
    if let Some(proxy) = &bench.proxy {
        tokio::select! {
            () = proxy.struck() => {}
            detail = life.end(delivery) => {
                let reason = detail?.info.reason;
                return Err(Fail::Broken(format!("a long body did not go out: {reason:?}")));
            }
        }
        judge(memory.more()?)?;
        proxy.set(Fault::Pass);
    }
    let detail = life.end(delivery).await?;
    if bench.proxy.is_none() {
        judge(memory.more()?)?;
    }
    bench.learn(&life);
    let one = Sent { body, detail };
    ensure(one.is_done(), || format!("a long body is refused: {:?}", one.detail.info.reason))?;
    bench.judge(&[one]).await
}

fn judge(used: u64) -> Outcome {
    ensure(used < MEMORY_MAX, || {
        format!("sending {LONG} bytes takes {used} bytes of memory, more than {MEMORY_MAX}")
    })
}

/// Puts the body into the box ahead of its message, fragment by fragment.
async fn put_in(store: &Arc<dyn Store>, body: &bytes::Bytes) -> Outcome<pillarbox_store::DeliveryId> {
    let mut writer = store.stage()?;
    for piece in body.chunks(256 * 1024) {
        writer.write(body.slice_ref(piece)).await?;
    }
    let staged: Body = writer.finish().await?;
    let (ids, port) = (IdSource::system(), PortName::new("kit")?);
    let batch = Batch::new(ids.batch()).define_port(&port, PortSpec { backup: false });
    let committed = store.commit(&batch.submit(&port, Message::new(ids.message(), staged))).await?;
    match committed.results().last() {
        Some(pillarbox_store::OpResult::Submitted { first }) => Ok(*first),
        other => Err(Fail::Broken(format!("the box did not take a long body: {other:?}"))),
    }
}

/// What this process had in memory at most, from a moment on.
struct Memory(u64);

impl Memory {
    fn from_now() -> Outcome<Self> {
        // Forgets the most that there was.
        if fs::write("/proc/self/clear_refs", "5").is_err() {
            return Err(Fail::NotChecked("this system does not tell how much memory is used"));
        }
        Ok(Self(most()?))
    }

    fn more(&self) -> Outcome<u64> {
        Ok(most()?.saturating_sub(self.0))
    }
}

fn most() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("there is no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

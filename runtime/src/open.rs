//! Opens a lane's adapter: from its settings to one that is initialised.

use std::sync::Arc;

use tokio::time::Instant;

use crate::adapter::{Adapter, BatchTransmitter, OpenContext, SendError};
use crate::lane::{CallFailed, Lane};
use crate::port::AdapterSource;
use crate::prepared::{Holder, settle};
use crate::proxy::Proxy;
use crate::wrap;

/// Opens the adapter, unless it is open, and settles what its destination holds prepared. Where either fails the lane
/// backs off, and its trouble says why.
pub(crate) async fn open(lane: &Arc<Lane>) {
    if lane.adapter().is_none() {
        open_adapter(lane).await;
    }
    if lane.adapter().is_some() && lane.is_unsettled() {
        settle(lane).await;
    }
}

async fn open_adapter(lane: &Arc<Lane>) {
    let deadline = Instant::now() + lane.timeout();
    let why = match lane.call(deadline, opened(Arc::clone(lane))).await {
        Ok(Ok((adapter, holder))) => {
            tracing::debug!(lane = %lane.name(), kind = lane.info().kind, "the adapter is open");
            lane.opened(adapter, holder);
            return;
        }
        Ok(Err(error)) => error.to_failure().text(),
        Err(CallFailed::Panicked(text)) => text,
        Err(CallFailed::TimedOut) => format!("not open within {:?}", lane.timeout()),
        Err(CallFailed::Cut) => return,
    };
    lane.backs_off("open the adapter", &why);
}

async fn opened(lane: Arc<Lane>) -> Result<(Arc<dyn BatchTransmitter>, Option<Holder>), SendError> {
    let adapter = match lane.source() {
        AdapterSource::Open(adapter) => adapter.clone(),
        AdapterSource::Checked(settings, _) => {
            let core = lane.core();
            let context = OpenContext {
                box_id: core.box_id,
                port: lane.name().port.clone(),
                route: lane.name().route,
                clock: Arc::clone(&core.clock),
                ids: core.ids.clone(),
            };
            settings.open(&context).await?
        }
        AdapterSource::Dynamic(_) => {
            return Err(SendError::temporary("a dynamic port has an adapter for each address only"));
        }
    };
    let adapter = match adapter {
        Adapter::Batch(adapter) => adapter,
        Adapter::Each(adapter) => wrap::each(adapter),
    };
    adapter.initialize(Proxy::new(&lane)).await?;
    let holder = adapter.prepared_transactions().map(Holder::new).transpose()?;
    Ok((adapter, holder))
}

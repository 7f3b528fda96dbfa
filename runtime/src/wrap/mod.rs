//! The small sender traits as adapters that speak the whole protocol: every message is answered with `Pending`,
//! sent after `done`, and completed through the proxy.

mod batch;
mod blocking;
mod each;
mod finish;
mod request;
mod sender;
mod transact;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use crate::Proxy;
use crate::adapter::{
    BatchSender, BatchTransmitter, Begun, BlockingSender, CommitConfirm, Done, Outgoing,
    PreparedTransactions, Reconciled, Requester, SendError, Sender, TransactionalSender, TransmitBatch,
    Transmitted, Transmitter, Transport, TransportControl, TransportInfo,
};
use crate::tasks::Gate;
use finish::Finisher;

pub(crate) fn sender(sender: impl Sender) -> Arc<dyn BatchTransmitter> {
    Arc::new(Wrapped::new(sender::Concurrent(Arc::new(sender))))
}

pub(crate) fn blocking(sender: impl BlockingSender) -> Arc<dyn BatchTransmitter> {
    Arc::new(Wrapped::new(blocking::Threads(Arc::new(sender))))
}

pub(crate) fn batch(sender: impl BatchSender) -> Arc<dyn BatchTransmitter> {
    Arc::new(Wrapped::new(batch::Together(Arc::new(sender))))
}

pub(crate) fn requester(requester: impl Requester) -> Arc<dyn BatchTransmitter> {
    Arc::new(Wrapped::new(request::Asking(Arc::new(requester))))
}

pub(crate) fn transactional(sender: impl TransactionalSender) -> Arc<dyn BatchTransmitter> {
    Arc::new(Wrapped::new(transact::InTransaction(Arc::new(sender))))
}

pub(crate) fn each(transmitter: Arc<dyn Transmitter>) -> Arc<dyn BatchTransmitter> {
    Arc::new(Wrapped::new(each::OneByOne(transmitter)))
}

/// What a wrapped adapter works with.
#[derive(Debug)]
struct Line {
    proxy: Proxy,
    finisher: Arc<Finisher>,
    /// Calls into the adapter and completions under way.
    busy: Arc<Gate>,
}

/// How one of the small traits sends.
#[async_trait]
trait Work: fmt::Debug + Send + Sync + 'static {
    fn describe(&self) -> TransportInfo;

    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        let _unused = proxy;
        Ok(())
    }

    /// How many messages may be started now.
    fn room(&self, line: &Line) -> Result<usize, SendError>;

    /// Starts the sending and returns at once.
    fn start(&self, line: &Line, messages: Vec<Outgoing>);

    /// What the destination holds prepared.
    fn prepared_transactions(&self) -> Option<Arc<dyn PreparedTransactions>> {
        None
    }

    /// What the destination says of a message in doubt.
    async fn reconcile(&self, line: &Line, message: &Outgoing) -> Result<Reconciled, SendError> {
        let _unused = (line, message);
        Ok(Reconciled::Unknown)
    }

    /// Called when nothing is under way any more.
    async fn close(&self, line: &Line);
}

#[derive(Debug)]
struct Wrapped<W> {
    shared: Arc<Shared<W>>,
}

#[derive(Debug)]
struct Shared<W> {
    work: W,
    line: OnceLock<Line>,
}

impl<W: Work> Wrapped<W> {
    fn new(work: W) -> Self {
        Self { shared: Arc::new(Shared { work, line: OnceLock::new() }) }
    }
}

impl<W: Work> Shared<W> {
    fn line(&self) -> Result<&Line, SendError> {
        self.line.get().ok_or_else(|| SendError::temporary("the adapter is not initialised"))
    }
}

impl<W: Work> Transport for Wrapped<W> {
    fn describe(&self) -> TransportInfo {
        self.shared.work.describe()
    }
}

#[async_trait]
impl<W: Work> TransportControl for Wrapped<W> {
    async fn initialize(&self, proxy: Proxy) -> Result<(), SendError> {
        let busy = Arc::new(Gate::default());
        let finisher = Arc::new(Finisher::new(proxy.clone(), Arc::clone(&busy)));
        // A second call has the same runtime's proxy.
        let _first_stays = self.shared.line.set(Line { proxy: proxy.clone(), finisher, busy });
        self.shared.work.initialize(proxy).await
    }

    async fn terminate(&self) {
        if let Some(line) = self.shared.line.get() {
            line.busy.empty().await;
            self.shared.work.close(line).await;
        }
    }
}

#[async_trait]
impl<W: Work> BatchTransmitter for Wrapped<W> {
    async fn get_batch(&self) -> Result<Box<dyn TransmitBatch>, SendError> {
        Ok(Box::new(Collecting { shared: Arc::clone(&self.shared), messages: Vec::new() }))
    }

    fn prepared_transactions(&self) -> Option<Arc<dyn PreparedTransactions>> {
        self.shared.work.prepared_transactions()
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        self.shared.work.reconcile(self.shared.line()?, message).await
    }
}

/// Messages of a wrapped adapter before `done`.
#[derive(Debug)]
struct Collecting<W> {
    shared: Arc<Shared<W>>,
    messages: Vec<Outgoing>,
}

#[async_trait]
impl<W: Work> TransmitBatch for Collecting<W> {
    async fn begin(&mut self) -> Result<Begun, SendError> {
        let room = self.shared.work.room(self.shared.line()?)?;
        Ok(Begun::at_most(room))
    }

    fn transmit(&mut self, message: Outgoing) -> Result<Transmitted, SendError> {
        self.messages.push(message);
        Ok(Transmitted::Pending)
    }

    async fn done(self: Box<Self>, confirm: Option<Box<dyn CommitConfirm>>) -> Result<Done, SendError> {
        drop(confirm);
        let line = self.shared.line()?;
        self.shared.work.start(line, self.messages);
        Ok(Done::default())
    }

    fn clear(&mut self) {
        self.messages.clear();
    }
}

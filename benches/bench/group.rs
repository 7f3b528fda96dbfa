//! Group commit for the floors and for peers within this process: clients hand what they have to one writer thread,
//! which takes all that waits and answers after one flush. The same front as the box's own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::client::Fault;

/// Writes groups.
pub(crate) trait Writer: Send + 'static {
    /// What a client hands over.
    type Item: Send + 'static;
    /// What it gets back.
    type Answer: Send + 'static;

    /// Makes a group durable; one answer each, in order.
    fn write(&mut self, group: Vec<Self::Item>) -> Result<Vec<Self::Answer>, Fault>;
}

type Waiter<A> = oneshot::Sender<Result<A, String>>;

struct Waiting<W: Writer> {
    items: Vec<W::Item>,
    waiters: Vec<Waiter<W::Answer>>,
    closed: bool,
}

struct Queue<W: Writer> {
    waiting: Mutex<Waiting<W>>,
    changed: Condvar,
}

impl<W: Writer> Queue<W> {
    fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> (Vec<W::Item>, Vec<Waiter<W::Answer>>) {
        let mut waiting = self.lock();
        while waiting.items.is_empty() && !waiting.closed {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        (std::mem::take(&mut waiting.items), std::mem::take(&mut waiting.waiters))
    }
}

/// A writer on a thread of its own.
pub(crate) struct Group<W: Writer> {
    queue: Arc<Queue<W>>,
    thread: Mutex<Option<JoinHandle<W>>>,
}

impl<W: Writer> Group<W> {
    pub(crate) fn start(mut writer: W) -> Self {
        let waiting = Waiting { items: Vec::new(), waiters: Vec::new(), closed: false };
        let queue = Arc::new(Queue { waiting: Mutex::new(waiting), changed: Condvar::new() });
        let work = queue.clone();
        let thread = std::thread::spawn(move || {
            loop {
                let (items, waiters) = work.next();
                if items.is_empty() {
                    return writer;
                }
                answer(writer.write(items), waiters);
            }
        });
        Self { queue, thread: Mutex::new(Some(thread)) }
    }

    /// Hands `item` over and waits until its group is durable.
    pub(crate) async fn commit(&self, item: W::Item) -> Result<W::Answer, Fault> {
        let (waiter, answer) = oneshot::channel();
        {
            let mut waiting = self.queue.lock();
            waiting.items.push(item);
            waiting.waiters.push(waiter);
        }
        self.queue.changed.notify_one();
        Ok(answer.await??)
    }

    /// Writes what waits and gives the writer back; `None` the second time.
    pub(crate) fn close(&self) -> Result<Option<W>, Fault> {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(|thread| thread.join().map_err(|_panic| Fault::from("the writer panicked"))).transpose()
    }
}

fn answer<A>(written: Result<Vec<A>, Fault>, waiters: Vec<Waiter<A>>) {
    match written {
        Ok(answers) => {
            for (waiter, answer) in waiters.into_iter().zip(answers) {
                let _given_up = waiter.send(Ok(answer));
            }
        }
        Err(fault) => {
            for waiter in waiters {
                let _given_up = waiter.send(Err(fault.to_string()));
            }
        }
    }
}

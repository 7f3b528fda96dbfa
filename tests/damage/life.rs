//! A box with messages in every state, over several segments, and what it has acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pillarbox_sim::disk::SimDisk;
use pillarbox_store::engine::journal::{Journal, JournalConfig};
use pillarbox_store::{
    AttemptNote, Batch, BoxConfig, BoxId, Clock, Committing, DeliveryId, DeliveryState, Failure, Filter,
    Headers, IdSource, Leased, Message, MessageBox, MessageId, Op, OpResult, PortName, PortSpec, Route,
    Store, Timestamp, Want,
};
use pillarbox_tests::clock::ManualClock;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// Files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The smallest there are, so that a small box has several.
const SEGMENT_BYTES: u64 = 64 * 1024;
/// Later than any test lives.
const FAR: Timestamp = Timestamp::from_micros(i64::MAX / 2);

/// What a box is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Messages of each of the kinds.
    pub(crate) rounds: usize,
    /// Bytes of a body, at most.
    pub(crate) body: usize,
    /// Bytes of a long body; 0 for none.
    pub(crate) long: usize,
    /// How often it is closed and opened.
    pub(crate) lives: usize,
}

/// A healthy box, and what it holds.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) files: Files,
    pub(crate) id: BoxId,
    pub(crate) messages: BTreeMap<MessageId, Message>,
    pub(crate) deliveries: BTreeMap<u64, Expected>,
    pub(crate) batches: Vec<Batch>,
}

/// A delivery as it was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) message: MessageId,
    pub(crate) state: DeliveryState,
}

/// Opens the journal that is on `disk`.
pub(crate) fn open_journal(disk: &SimDisk) -> Result<Journal, pillarbox_store::Error> {
    let settings = JournalConfig { segment_bytes: SEGMENT_BYTES, spare_segments_max: 1, salt: 77 };
    Journal::open(Arc::new(disk.clone()), settings)
}

/// Opens the box that is on `disk`.
pub(crate) fn open(disk: &SimDisk) -> Result<MessageBox, pillarbox_store::Error> {
    let clock = Arc::new(ManualClock::default());
    let engine = open_journal(disk)?;
    let config = BoxConfig {
        committing: Committing::Inline,
        ids: IdSource::seeded(clock.clone(), 5),
        clock,
        ..BoxConfig::in_memory()
    };
    MessageBox::with_engine(Arc::new(engine), config)
}

pub(crate) fn port(name: &str) -> PortName {
    PortName::new(name).expect("a port's name")
}

pub(crate) fn want(port: &PortName, route: Route) -> Want {
    Want { port: port.clone(), route, limit: 64, bytes_max: 1 << 23, lease_for: Duration::from_secs(60) }
}

fn failed() -> Option<AttemptNote> {
    let failure = Some(Failure::new(false, vec!["refused".to_owned(), "no route".to_owned()]));
    Some(AttemptNote { started: Timestamp::from_micros(7), took: Duration::from_millis(3), failure })
}

pub(crate) fn sent() -> Option<AttemptNote> {
    Some(AttemptNote { started: Timestamp::from_micros(9), took: Duration::from_millis(1), failure: None })
}

/// Makes a box, one message after the other.
struct Maker {
    disk: SimDisk,
    mailbox: MessageBox,
    ids: IdSource,
    random: StdRng,
    messages: BTreeMap<MessageId, Message>,
    batches: Vec<Batch>,
}

impl Maker {
    fn batch(&self) -> Batch {
        Batch::new(self.ids.batch())
    }

    async fn reopen(&mut self) {
        self.mailbox.close().await.expect("a clean end");
        self.mailbox = open(&self.disk).expect("the same box");
    }

    async fn commit(&self, batch: &Batch) -> Vec<OpResult> {
        let committed = self.mailbox.commit(batch).await.expect("a healthy box commits");
        assert!(committed.all_applied(), "{committed:?}");
        committed.results().to_vec()
    }

    async fn submit(&mut self, bytes: usize, ports: &[&str], not_before: Option<Timestamp>) -> DeliveryId {
        let mut body = vec![0; bytes];
        self.random.fill_bytes(&mut body);
        let message = Message::new(self.ids.message(), body);
        let message = message.header("kind", format!("of {bytes}")).expect("a header");
        self.messages.insert(message.id, message.clone());
        let mut batch = self.batch();
        batch.push(Op::Submit { message, ports: ports.iter().map(|name| port(name)).collect(), not_before });
        let results = self.commit(&batch).await;
        self.batches.push(batch);
        match results.as_slice() {
            [OpResult::Submitted { first }] => *first,
            other => panic!("{other:?}"),
        }
    }

    async fn lease(&self) -> Leased {
        let mut leased = self.mailbox.lease(&want(&port("work"), Route::Primary)).await.expect("a lease");
        assert_eq!(leased.len(), 1, "only one is ready there");
        leased.pop().expect("one")
    }

    /// A message of each kind. A box of a single round is opened again in its middle, so that it has two segments.
    async fn round(&mut self, size: Size) {
        let mut bytes = || self.random.random_range(0..=size.body);
        let bodies: [usize; 9] = std::array::from_fn(|_| bytes());
        self.submit(bodies[0], &["wait"], None).await;
        self.submit(bodies[1], &["wait", "other"], None).await;
        self.submit(bodies[2], &["work"], None).await;
        self.commit(&self.batch().delete(self.lease().await.lease, sent())).await;
        self.submit(bodies[3], &["work", "wait"], None).await;
        self.commit(&self.batch().delete(self.lease().await.lease, sent())).await;
        self.submit(bodies[4], &["work"], None).await;
        self.commit(&self.batch().suspend(self.lease().await.lease, "no such place", failed())).await;
        if size.rounds == 1 {
            self.reopen().await;
        }
        let retried = self.submit(bodies[5], &["work"], None).await;
        let mut carried = Headers::default();
        carried.set("seen", "once").expect("a header");
        self.commit(&self.batch().resubmit(self.lease().await.lease, FAR, failed(), carried.clone())).await;
        self.commit(&self.batch().resume(retried)).await;
        self.commit(&self.batch().resubmit(self.lease().await.lease, FAR, failed(), carried)).await;
        self.submit(bodies[6], &["wait"], Some(FAR)).await;
        let ended = self.submit(bodies[7], &["wait"], None).await;
        self.commit(&self.batch().terminate(ended, "not wanted")).await;
        self.submit(bodies[8], &["work"], None).await;
        self.commit(&self.batch().move_to_backup(self.lease().await.lease, failed())).await;
        if size.long > 0 {
            self.submit(size.long, &["wait"], None).await;
        }
    }
}

/// Lives a life of this size.
pub(crate) async fn live(size: Size, seed: u64) -> World {
    let disk = SimDisk::new(seed);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let mut maker = Maker {
        disk: disk.clone(),
        mailbox: open(&disk).expect("a new box"),
        ids: IdSource::seeded(clock, seed),
        random: StdRng::seed_from_u64(seed),
        messages: BTreeMap::new(),
        batches: Vec::new(),
    };
    for (name, backup) in [("work", true), ("wait", false), ("other", false)] {
        maker.commit(&maker.batch().define_port(&port(name), PortSpec { backup })).await;
    }
    for round in 0..size.rounds {
        maker.round(size).await;
        if (round + 1) * size.lives / size.rounds > round * size.lives / size.rounds {
            maker.reopen().await;
        }
    }
    let (id, deliveries) = (maker.mailbox.id(), expected(&maker.mailbox).await);
    maker.mailbox.close().await.expect("a clean end");
    // What is kept for a full disk holds nothing.
    let files = disk.files().into_iter().filter(|(name, _)| name.ends_with(".seg")).collect();
    World { files, id, messages: maker.messages, deliveries, batches: maker.batches }
}

async fn expected(mailbox: &MessageBox) -> BTreeMap<u64, Expected> {
    let mut all = BTreeMap::new();
    let mut filter = Filter { limit: 1_000, ..Filter::default() };
    loop {
        let page = mailbox.deliveries(&filter).await.expect("a list");
        let Some(last) = page.last() else { return all };
        filter.after = Some(last.id);
        all.extend(
            page.iter().map(|info| (info.id.number(), Expected { message: info.message, state: info.state })),
        );
    }
}

//! One client of a worker: submits, settles, parks and resumes, and tells each batch before and after.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pillarbox_store::{
    AttemptNote, Batch, Body, Clock, Committed, DeliveryId, DeliveryState, Error, ErrorKind, FRAGMENT_BYTES,
    Failure, Filter, Headers, Leased, Message, MessageBox, Op, OpResult, PortName, Route, Store, SystemClock,
    Want,
};
use rand::Rng;
use rand::rngs::StdRng;

use super::numbers;
use super::record::{Deed, Doing, Line, NOWHERE};

/// More live deliveries than this, and more is settled than submitted.
const LIVE_MAX: u64 = 400;
const LEASE_FOR: Duration = Duration::from_secs(600);
const LATER: Duration = Duration::from_secs(24 * 3600);

/// Where lines go. A line is out before `tell` returns.
#[derive(Debug, Default)]
pub(super) struct Teller(Mutex<()>);

impl Teller {
    pub(super) fn tell(&self, line: &Line) -> Result<(), Error> {
        let _one_at_a_time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stdout().lock();
        out.write_all(format!("{line}\n").as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Error::io("tell the harness", error))
    }
}

/// A delivery that waits for this client and nobody else.
#[derive(Debug, Clone, Copy)]
struct Parked {
    delivery: DeliveryId,
    message: u64,
    port: u8,
    is_scheduled: bool,
}

/// A batch, and what is told of it.
#[derive(Debug)]
struct Planned {
    number: u64,
    batch: Batch,
    deeds: Vec<Deed>,
    /// What each operation parks for this client, the message's number where the box gives the delivery's.
    parks: Vec<(usize, Parked)>,
}

impl Planned {
    fn push(&mut self, message: u64, doing: Doing, op: Op) {
        self.deeds.push(Deed { message, doing });
        self.batch.push(op);
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) store: MessageBox,
    pub(super) teller: &'a Teller,
    pub(super) ports: Vec<PortName>,
    pub(super) random: StdRng,
    pub(super) round: u32,
    pub(super) client: u32,
    pub(super) clients: u32,
    pub(super) count: u32,
    pub(super) messages_max: usize,
    parked: Vec<Parked>,
}

impl<'a> Client<'a> {
    pub(super) fn new(store: MessageBox, teller: &'a Teller, ports: Vec<PortName>, random: StdRng) -> Self {
        let parked = Vec::new();
        let (round, client, clients, count, messages_max) = (0, 0, 1, 0, 8);
        Self { store, teller, ports, random, round, client, clients, count, messages_max, parked }
    }

    /// Works until something fails.
    pub(super) async fn run(mut self) -> Error {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    /// What earlier rounds left parked is shared out among the clients, before any of them parks more.
    pub(super) async fn take_over(&mut self) -> Result<(), Error> {
        for state in [DeliveryState::Suspended, DeliveryState::Scheduled] {
            let filter = Filter { state: Some(state), limit: 1_000, ..Filter::default() };
            for info in self.store.deliveries(&filter).await? {
                let port = self.ports.iter().zip(0..).find(|(port, _)| **port == info.port);
                let message = numbers::message_number(info.message);
                let is_ours = info.id.number() % u64::from(self.clients) + 1 == u64::from(self.client);
                if let (Some((_, port)), Some(message), true) = (port, message, is_ours) {
                    let is_scheduled = state == DeliveryState::Scheduled;
                    self.parked.push(Parked { delivery: info.id, message, port, is_scheduled });
                }
            }
        }
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        self.count += 1;
        numbers::number(self.round, self.client, self.count)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn plan(&mut self) -> Planned {
        let number = self.next_number();
        let batch = Batch::new(numbers::batch_id(number));
        Planned { number, batch, deeds: Vec::new(), parks: Vec::new() }
    }

    async fn step(&mut self) -> Result<(), Error> {
        if self.chance(2) {
            return self.voided().await;
        }
        let mut planned = self.plan();
        let live: u64 = self.store.ports().iter().map(|port| port.counts.live()).sum();
        if self.chance(if live < LIVE_MAX { 70 } else { 20 }) {
            for _ in 0..self.random.random_range(1..=self.messages_max) {
                self.submit(&mut planned).await?;
            }
        }
        if self.chance(65) {
            self.settle(&mut planned).await?;
        }
        if self.chance(25) {
            self.administer(&mut planned);
        }
        if self.chance(3) {
            let number = self.next_number();
            let port = PortName::new(NOWHERE)?;
            let message = Message::new(numbers::message_id(number), "refused");
            planned.push(number, Doing::Refused, Op::Submit { message, ports: vec![port], not_before: None });
        } else if self.chance(30) {
            planned.batch = planned.batch.all_or_none();
        }
        if planned.deeds.is_empty() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        self.commit(planned).await
    }

    /// An all-or-none batch with an operation that is refused: the message in it is never seen.
    async fn voided(&mut self) -> Result<(), Error> {
        let mut planned = self.plan();
        let (fine, refused) = (self.next_number(), self.next_number());
        let message = Message::new(numbers::message_id(fine), "never seen");
        let ports = self.ports.clone();
        planned.batch = planned.batch.all_or_none();
        planned.push(fine, Doing::Refused, Op::Submit { message, ports, not_before: None });
        let message = Message::new(numbers::message_id(refused), "refused");
        let ports = vec![PortName::new(NOWHERE)?];
        planned.push(refused, Doing::Refused, Op::Submit { message, ports, not_before: None });
        self.commit(planned).await
    }

    async fn submit(&mut self, planned: &mut Planned) -> Result<(), Error> {
        let number = self.next_number();
        let bytes = self.body_bytes();
        let first = self.random.random_range(0..self.ports.len() as u8);
        let other = (first + 1) % self.ports.len() as u8;
        let mask = 1 << first | u8::from(self.chance(15)) << other;
        let later = self.chance(5);
        let doing = Doing::Submit { ports: mask, bytes, later };
        let body = self.body(number, bytes as usize).await?;
        let message = Message { id: numbers::message_id(number), headers: Headers::default(), body };
        let message = message.header("number", number as i64)?;
        let not_before = later.then(|| SystemClock.now().plus(LATER));
        let ports: Vec<u8> = doing.ports().collect();
        if later {
            let place = planned.deeds.len();
            let parked =
                |port| Parked { delivery: DeliveryId::new(0), message: number, port, is_scheduled: true };
            planned.parks.extend(ports.iter().map(|port| (place, parked(*port))));
        }
        let ports = ports.iter().filter_map(|port| self.ports.get(usize::from(*port)).cloned()).collect();
        planned.push(number, doing, Op::Submit { message, ports, not_before });
        Ok(())
    }

    /// From 1 byte to 1 MiB, mostly short.
    fn body_bytes(&mut self) -> u32 {
        match self.random.random_range(0..100) {
            0..70 => self.random.random_range(1..=1_024),
            70..90 => self.random.random_range(1_024..=20_000),
            90..98 => self.random.random_range(20_000..=256 * 1_024),
            _ => self.random.random_range(256 * 1_024..=1_024 * 1_024),
        }
    }

    /// A long body goes ahead of its message half of the time; now and then one is begun and given up.
    async fn body(&mut self, number: u64, bytes: usize) -> Result<Body, Error> {
        let whole = numbers::body(number, bytes);
        if bytes <= FRAGMENT_BYTES || self.chance(50) {
            return Ok(Body::from(whole));
        }
        if self.chance(20) {
            let mut given_up = self.store.stage()?;
            given_up.write(whole.clone()).await?;
        }
        let mut writer = self.store.stage()?;
        let mut rest = whole;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(100_000));
            writer.write(piece).await?;
        }
        writer.finish().await
    }

    async fn settle(&mut self, planned: &mut Planned) -> Result<(), Error> {
        let port = self.random.random_range(0..self.ports.len() as u8);
        let Some(name) = self.ports.get(usize::from(port)).cloned() else { return Ok(()) };
        let route = if port != 1 && self.chance(35) { Route::Backup } else { Route::Primary };
        let limit = self.random.random_range(1..=12);
        let want = Want { port: name, route, limit, bytes_max: 2 * 1024 * 1024, lease_for: LEASE_FOR };
        for leased in self.store.lease(&want).await? {
            self.settle_one(port, &leased, planned)?;
        }
        Ok(())
    }

    fn settle_one(&mut self, port: u8, leased: &Leased, planned: &mut Planned) -> Result<(), Error> {
        let Some(message) = numbers::message_number(leased.message.id) else {
            return Err(Error::new(ErrorKind::Corrupt, "know the message that was leased"));
        };
        self.check(message, leased)?;
        let now = SystemClock.now();
        let lease = leased.lease;
        let failure = Some(Failure::new(false, vec!["refused by the destination".to_owned()]));
        let failed = Some(AttemptNote { started: now, took: Duration::from_millis(1), failure });
        let sent = Some(AttemptNote { started: now, took: Duration::from_millis(1), failure: None });
        let may_move = port != 1 && leased.route == Route::Primary;
        let (doing, op) = match self.random.random_range(0..100) {
            0..60 => (Doing::Delete(port), Op::Delete { lease, attempt: sent }),
            60..85 => {
                let carried = Headers::default();
                (Doing::Resubmit(port), Op::Resubmit { lease, at: now, attempt: failed, carried })
            }
            85..94 if may_move => (Doing::MoveToBackup(port), Op::MoveToBackup { lease, attempt: failed }),
            _ => {
                let parked = Parked { delivery: lease.delivery(), message, port, is_scheduled: false };
                planned.parks.push((planned.deeds.len(), parked));
                let reason = format!("b{}", planned.number);
                (Doing::Suspend(port), Op::Suspend { lease, reason, attempt: failed })
            }
        };
        planned.push(message, doing, op);
        Ok(())
    }

    /// Looks at a leased body, always at a short one and sometimes at a long one.
    fn check(&mut self, message: u64, leased: &Leased) -> Result<(), Error> {
        let body = &leased.message.body;
        let len = usize::try_from(body.len()).unwrap_or(usize::MAX);
        if len > FRAGMENT_BYTES && !self.chance(25) {
            return Ok(());
        }
        let found: Bytes = body.to_bytes()?;
        if found != numbers::body(message, len) {
            self.teller.tell(&Line::WrongBody { message })?;
        }
        Ok(())
    }

    /// Resumes, holds or ends some of what is parked for this client.
    fn administer(&mut self, planned: &mut Planned) {
        for _ in 0..self.random.random_range(1..=3) {
            if self.parked.is_empty() {
                return;
            }
            let place = self.random.random_range(0..self.parked.len());
            let parked = self.parked.swap_remove(place);
            let Parked { delivery, message, port, is_scheduled } = parked;
            let reason = format!("b{}", planned.number);
            match self.random.random_range(0..10) {
                0..2 => planned.push(message, Doing::Terminate(port), Op::Terminate { delivery, reason }),
                2..6 if is_scheduled => {
                    planned.parks.push((planned.deeds.len(), Parked { is_scheduled: false, ..parked }));
                    planned.push(message, Doing::Hold(port), Op::Hold { delivery, reason });
                }
                _ => planned.push(message, Doing::Resume(port), Op::Resume { delivery }),
            }
        }
    }

    async fn commit(&mut self, planned: Planned) -> Result<(), Error> {
        let Planned { number, batch, deeds, parks } = planned;
        self.teller.tell(&Line::Intent { batch: number, deeds: deeds.clone() })?;
        let committed = self.store.commit(&batch).await?;
        self.teller.tell(&Line::Acknowledged { batch: number })?;
        for (deed, result) in deeds.iter().zip(committed.results()) {
            if result.is_applied() == (deed.doing == Doing::Refused) {
                self.teller.tell(&Line::Failed(format!("batch {number}: {deed} became {result:?}")))?;
            }
        }
        if self.chance(3) {
            self.repeat(number, &batch, &committed).await?;
        }
        let mut before = None;
        for (place, mut parked) in parks {
            // A scheduled message's deliveries are numbered on from the first, in the order of its ports.
            let ordinal = before.filter(|(p, _)| *p == place).map_or(0, |(_, ordinal)| ordinal + 1);
            before = Some((place, ordinal));
            if let Some(OpResult::Submitted { first }) = committed.results().get(place) {
                parked.delivery = DeliveryId::new(first.number() + ordinal);
            }
            self.parked.push(parked);
        }
        Ok(())
    }

    /// The same batch again: it was applied once. One of which nothing was applied is not remembered.
    async fn repeat(&mut self, number: u64, batch: &Batch, committed: &Committed) -> Result<(), Error> {
        if !committed.results().iter().any(OpResult::is_applied) {
            return Ok(());
        }
        let again = self.store.commit(batch).await?;
        if !again.was_repeated() || again.results() != committed.results() {
            self.teller.tell(&Line::Failed(format!("batch {number} was applied twice: {again:?}")))?;
        }
        Ok(())
    }
}

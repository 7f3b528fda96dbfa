//! What clients, operators and the world do to a life, step by step; then calm, and the end.

use std::time::Duration;

use pillarbox_sim::disk::Fault;
use pillarbox_sim::history::{To, Told, What, body_hash};
use pillarbox_store::engine::Engine;
use pillarbox_store::{Batch, DeliveryId, Message, MessageId, Op, PortName, Route, Store, Timestamp, Want};
use rand::{Rng, RngCore};

use crate::life::{Life, deliveries};
use crate::plan::pick;

/// Within this everything has to have ended once faults are over: well above the longest wait of any plan.
const CALM_BOUND: Duration = Duration::from_secs(15 * 60);

/// Record families of messages, of deliveries on their way, and of fragments: their numbers never change.
const LEFT_BY_NONE: [u8; 3] = [3, 4, 8];

impl Life {
    /// Lives, calms down, ends.
    pub(crate) async fn live(&mut self) {
        self.start().await;
        for _ in 0..self.plan.steps {
            if self.is_over {
                return;
            }
            if self.has_failed() {
                self.world.mark(if self.disk.has_stopped() {
                    "crash: in an operation"
                } else {
                    "box: stopped"
                });
                self.crash("it failed").await;
                continue;
            }
            let step = self.world.draw(|random| random.random_range(0..100));
            if step < self.plan.breaks { self.break_something().await } else { self.use_it().await }
        }
        if !self.is_over {
            self.calm_down().await;
        }
    }

    async fn break_something(&mut self) {
        let kind = self.world.draw(|random| random.random_range(0..9));
        let after = self.world.draw(|random| random.random_range(0..25));
        match kind {
            0 | 1 => self.crash("by chance").await,
            2 | 3 => self.disk.plan(after, Fault::Stop),
            4 => {
                self.world.mark("disk: an I/O error");
                self.disk.plan(after, Fault::Error);
            }
            5 => {
                self.world.mark("disk: full at one operation");
                self.disk.plan(after, Fault::Full);
            }
            6 => {
                self.world.mark("disk: full");
                let room = self.world.draw(|random| *pick(random, &[0, 3_000, 100_000, 600_000]));
                self.disk.leave_room(room);
            }
            7 => {
                self.world.mark("disk: room again");
                self.disk.calm();
            }
            _ => {
                self.world.mark("disk: slow");
                let slow = self.world.percent(60);
                self.world.set_slow(slow);
            }
        }
    }

    async fn use_it(&mut self) {
        match self.world.draw(|random| random.random_range(0..100)) {
            0..25 => self.submit_one().await,
            25..47 => self.commit_mixed().await,
            47..50 => self.submit_long().await,
            50..54 => self.repeat_batch().await,
            54..60 => self.pause_or_go_on().await,
            60..62 => {
                let deadline = self.world.draw(|random| *pick(random, &[0, 1, 5, 90]));
                self.shut_down(Duration::from_secs(deadline)).await;
            }
            62..66 => self.audit().await,
            66..70 => self.work_by_hand().await,
            _ => {
                let most = self.world.draw(|random| *pick(random, &[1, 30, 1_000, 10_000, 120_000]));
                let nap = Duration::from_millis(most);
                self.world.nap(nap).await;
            }
        }
    }

    fn body(&self) -> Vec<u8> {
        let most = self.plan.body_max;
        self.world.draw(|random| {
            let length = match random.random_range(0..20) {
                0 => 0,
                1 => random.random_range(0..=3 * most),
                _ => random.random_range(0..=most),
            };
            let mut body = vec![0; length];
            random.fill_bytes(&mut body);
            body
        })
    }

    /// A message; sometimes one that was submitted before.
    fn message(&mut self) -> Message {
        if !self.messages.is_empty() && self.world.percent(8) {
            let (id, body) = self.world.draw(|random| pick(random, &self.messages).clone());
            return Message::new(id, body);
        }
        let (id, body) = (self.ids.message(), self.body());
        self.world.expect_body(id, body_hash(&body));
        self.messages.push((id, body.clone()));
        Message::new(id, body)
    }

    fn port(&self) -> PortName {
        self.world.draw(|random| pick(random, &self.plan.ports).name.clone())
    }

    async fn submit_one(&mut self) {
        let message = self.message();
        let ports = self.ports_of(message.id);
        let [port] = ports.as_slice() else {
            let mut batch = Batch::new(self.ids.batch());
            batch.push(Op::Submit { message, ports, not_before: None });
            return self.commit(&batch).await;
        };
        let Some(process) = &self.process else { return };
        let receipt = self.alive(process.runtime.submit(port, message)).await;
        if let Some(Ok(receipt)) = receipt {
            self.highest = self.highest.max(receipt.delivery.number());
        }
    }

    async fn commit_mixed(&mut self) {
        let mut batch = Batch::new(self.ids.batch());
        if self.world.percent(30) {
            batch = batch.all_or_none();
            self.world.mark("batch: all or none");
        }
        let ops = self.world.draw(|random| *pick(random, &[1, 2, 4, 8, 20]));
        for _ in 0..ops {
            let op = self.operation();
            batch.push(op);
        }
        self.batches.push(batch.clone());
        self.commit(&batch).await;
    }

    fn operation(&mut self) -> Op {
        let kind = self.world.draw(|random| random.random_range(0..20));
        let delivery = DeliveryId::new(self.world.draw(|random| random.random_range(0..=self.highest)));
        let reason = "by an operator".to_owned();
        match kind {
            0 => Op::Hold { delivery, reason },
            1..=3 => Op::Resume { delivery },
            4 => Op::Terminate { delivery, reason },
            _ => {
                let message = self.message();
                let ports = self.ports_of(message.id);
                let now = self.world.clock.now();
                let not_before = self.world.draw(|random| match random.random_range(0..10) {
                    0 => Some(now.plus(Duration::from_millis(random.random_range(0..300_000)))),
                    1 => Some(Timestamp::from_micros(1)),
                    _ => None,
                });
                Op::Submit { message, ports, not_before }
            }
        }
    }

    /// Where a message goes. The same answer for the same message.
    fn ports_of(&self, message: MessageId) -> Vec<PortName> {
        let bytes = message.to_bytes();
        let (choice, mask) = (bytes.last().copied().unwrap_or(0), bytes.get(12).copied().unwrap_or(0));
        let names = || self.plan.ports.iter().map(|port| port.name.clone());
        let mut ports: Vec<PortName> = match choice {
            0..200 => names().nth(usize::from(mask) % self.plan.ports.len()).into_iter().collect(),
            _ => names()
                .enumerate()
                .filter(|(place, _)| mask >> place & 1 == 1)
                .map(|(_, name)| name)
                .collect(),
        };
        if mask == 7 {
            ports.extend(PortName::new("nowhere"));
        }
        if mask == 9 {
            ports.extend(names().next().into_iter().chain(names().next()));
        }
        ports
    }

    async fn submit_long(&mut self) {
        let Some(process) = &self.process else { return };
        let length = self.world.draw(|random| random.random_range(1..700_000));
        let mut body = vec![0; length];
        self.world.draw(|random| random.fill_bytes(&mut body));
        let id = self.ids.message();
        let body = bytes::Bytes::from(body);
        self.world.expect_body(id, body_hash(&body));
        let staged = async {
            let mut writer = process.store.inner.stage().ok()?;
            let (first, second) = (body.slice(..length / 2), body.slice(length / 2..));
            writer.write(first).await.ok()?;
            self.world.lag().await;
            writer.write(second).await.ok()?;
            writer.finish().await.ok()
        };
        let Some(Some(body)) = self.alive(staged).await else { return };
        if self.world.percent(20) {
            self.world.mark("long body: given up");
            return;
        }
        self.world.mark("long body");
        let batch = Batch::new(self.ids.batch()).submit(&self.port(), Message::new(id, body));
        self.commit(&batch).await;
    }

    async fn repeat_batch(&mut self) {
        if self.batches.is_empty() {
            return;
        }
        let batch = self.world.draw(|random| pick(random, &self.batches).clone());
        self.world.mark("batch: committed again");
        self.commit(&batch).await;
    }

    async fn pause_or_go_on(&mut self) {
        let (port, pause) = (self.port(), self.world.percent(40));
        let batch = Batch::new(self.ids.batch());
        let batch = if pause { batch.pause_port(&port) } else { batch.unpause_port(&port) };
        self.commit(&batch).await;
    }

    /// A worker beside the runtime takes something and is slow: mostly its lease has ended before it decides, and
    /// somebody else has it.
    async fn work_by_hand(&mut self) {
        let Some(process) = &self.process else { return };
        let lease_for = Duration::from_millis(self.world.draw(|random| *pick(random, &[1, 50, 1_000])));
        let (port, route) = (self.port(), Route::Primary);
        let want = Want { port, route, limit: 3, bytes_max: 1 << 20, lease_for };
        let Some(Ok(leased)) = self.alive(process.store.lease(&want)).await else { return };
        for one in &leased {
            self.world.mark("lease: by hand");
            self.world.record(What::Abandon(self.world.lease_number(one.lease)));
        }
        let pause = self.world.draw(|random| *pick(random, &[0.5, 1.0, 2.0, 10.0]));
        if self.alive(tokio::time::sleep(lease_for.mul_f64(pause))).await.is_none() {
            return;
        }
        for one in leased {
            let to = To { message: one.message.id, port: one.port.clone() };
            self.world.record(What::Told { to, attempt: one.attempts + 1, told: Told::Asked });
            let batch = Batch::new(self.ids.batch()).suspend(one.lease, "by hand", None);
            self.commit(&batch).await;
        }
    }

    async fn commit(&mut self, batch: &Batch) {
        let Some(process) = &self.process else { return };
        let Some(Ok(committed)) = self.alive(process.store.commit(batch)).await else { return };
        for result in committed.results() {
            if let pillarbox_store::OpResult::Submitted { first } = result {
                self.highest = self.highest.max(first.number());
            }
        }
    }

    /// Faults are over: everything has to end, and the files to shrink.
    async fn calm_down(&mut self) {
        self.disk.calm();
        self.world.set_calm();
        self.world.record(What::Calm(CALM_BOUND));
        if self.plan.changes {
            // From here on every route is what it is in most processes.
            self.shut_down(Duration::from_secs(5)).await;
        }
        let start = self.world.clock.now();
        loop {
            // What broke last may show only now.
            if self.has_failed() {
                self.crash("it failed").await;
            }
            let mut batch = Batch::new(self.ids.batch());
            for port in &self.plan.ports {
                batch = batch.unpause_port(&port.name);
            }
            let parked = self.suspended().await;
            self.commit(&parked.into_iter().fold(batch, Batch::resume)).await;
            let is_late = self.world.clock.now().since(start) >= CALM_BOUND;
            if self.is_over || is_late || !(self.has_failed() || self.is_something_left().await) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        self.audit().await;
        self.world.record(What::Finished);
        self.shut_down(Duration::from_secs(30)).await;
        self.shrink().await;
    }

    async fn is_something_left(&self) -> bool {
        let Some(process) = &self.process else { return false };
        self.world.holds_something() || process.store.ports().iter().any(|port| port.counts.live() > 0)
    }

    /// A few idle commits let the journal move what it still has to move.
    async fn shrink(&mut self) {
        let port = self.port();
        for round in 0..60 {
            let batch = Batch::new(self.ids.batch());
            let batch = if round % 2 == 0 { batch.pause_port(&port) } else { batch.unpause_port(&port) };
            self.commit(&batch).await;
        }
        self.audit().await;
        let Some(process) = &self.process else { return };
        let disk = process.store.stats().disk;
        let infos = deliveries(&process.store.inner).await.unwrap_or_default();
        let answers: u64 = infos.iter().filter_map(|info| info.answer_len).sum();
        // Twice what lives, the slack of four segments, two spare ones of up to twice the size, the one being written
        // and the one being emptied.
        let most = 2 * (400 * disk.records + answers) + (4 + 4 + 2) * 64 * 1024;
        self.world.record(What::Size(disk.disk_bytes, most));
        // Messages, deliveries, attempts without a trace, fragments: nothing of what has ended may stay.
        let mut left_over = 0;
        let counted = process.journal.recover(&mut |key, _head| {
            left_over += u64::from(LEFT_BY_NONE.contains(&key.family));
            Ok(())
        });
        self.world.record(What::Size(left_over, if counted.is_ok() { 0 } else { u64::MAX }));
        let _closed = process.store.inner.close().await;
        let cut = self.draw_cut();
        self.end_process("the end", cut).await;
    }
}

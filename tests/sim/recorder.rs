//! A store that writes down what goes in and out of the box behind it, and that may be slow.

use async_trait::async_trait;
use bytes::Bytes;
use pillarbox_sim::history::{Answer, How, Said, To, What, body_hash};
use pillarbox_store::{
    Answered, Batch, BodyWriter, BoxId, BoxStats, Committed, Decisions, DeliveryDetail, DeliveryId,
    DeliveryInfo, Error, ErrorKind, Filter, Lease, Leased, MessageBox, MessageId, MessageInfo, Op, OpResult,
    PortInfo, PortName, Refusal, Route, Store, Timestamp, Want, Watch,
};

use crate::world::World;

/// See the module.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) inner: MessageBox,
    pub(crate) world: World,
}

impl Recorder {
    fn said(&self, op: &Op) -> Said {
        let settle = |lease: &Lease, how, charged| Said::Settle {
            lease: self.world.lease_number(*lease),
            how,
            charged,
        };
        match op {
            Op::Submit { message, ports, not_before } => Said::Submit {
                message: message.id,
                ports: ports.clone(),
                body: self.world.body(message.id),
                not_before: *not_before,
            },
            Op::Delete { lease, attempt } => settle(lease, How::Delete, attempt.is_some()),
            Op::Respond { lease, answer, attempt } => {
                settle(lease, How::Respond(body_hash(answer.body())), attempt.is_some())
            }
            Op::Resubmit { lease, at, attempt, .. } => settle(lease, How::Resubmit(*at), attempt.is_some()),
            Op::MoveToBackup { lease, attempt } => settle(lease, How::Backup, attempt.is_some()),
            Op::Suspend { lease, attempt, .. } => settle(lease, How::Suspend, attempt.is_some()),
            Op::Hold { delivery, .. } => Said::Hold(*delivery),
            Op::Resume { delivery } => Said::Resume(*delivery),
            Op::Terminate { delivery, .. } => Said::Terminate(*delivery),
            Op::PausePort { port } => Said::Pause(port.clone(), true),
            Op::UnpausePort { port } => Said::Pause(port.clone(), false),
            _ => Said::Other,
        }
    }

    /// What the answer tells. A box that had stopped before was asked for nothing.
    fn answer(&self, answer: &Result<Committed, Error>, had_stopped: bool) -> Answer {
        match answer {
            Ok(committed) => {
                let result = |result: &OpResult| match result {
                    OpResult::Applied => Ok(None),
                    OpResult::Submitted { first } => Ok(Some(*first)),
                    OpResult::Refused(refusal) => {
                        self.world.mark(refusal_mark(refusal));
                        Err(refusal.clone())
                    }
                };
                let results = committed.results().iter().map(result).collect();
                Answer::Applied { results, repeated: committed.was_repeated() }
            }
            Err(error) if error.kind() == ErrorKind::Unavailable && !had_stopped => {
                self.world.mark("commit: outcome unknown");
                Answer::Unknown
            }
            Err(error) => {
                if error.kind() == ErrorKind::Full {
                    self.world.mark("commit: full");
                }
                Answer::Nothing
            }
        }
    }
}

fn refusal_mark(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotOwned => "refusal: not owned",
        Refusal::Duplicate { .. } => "refusal: duplicate",
        Refusal::NoBackup => "refusal: no backup",
        Refusal::OnBackup => "refusal: on backup",
        Refusal::NoSuchPort => "refusal: no such port",
        Refusal::NoSuchDelivery => "refusal: no such delivery",
        Refusal::WrongState { .. } => "refusal: wrong state",
        Refusal::BadPorts => "refusal: bad ports",
        Refusal::Voided => "refusal: voided",
        _ => "refusal: other",
    }
}

#[async_trait]
impl Store for Recorder {
    fn id(&self) -> BoxId {
        self.inner.id()
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, Error> {
        self.world.lag().await;
        self.world.end_if_dead().await;
        let ops = batch.ops().iter().map(|op| self.said(op)).collect();
        self.world.record(What::Commit { batch: batch.id(), strict: batch.is_all_or_none(), ops });
        let had_stopped = self.inner.failed().is_some();
        let answer = self.inner.commit(batch).await;
        self.world.record(What::Answered(batch.id(), self.answer(&answer, had_stopped)));
        self.world.lag().await;
        answer
    }

    async fn lease(&self, want: &Want) -> Result<Vec<Leased>, Error> {
        self.world.end_if_dead().await;
        let leased = self.inner.lease(want).await?;
        for one in &leased {
            self.world.record(What::Lease {
                lease: self.world.new_lease(one.lease),
                delivery: one.lease.delivery(),
                to: To { message: one.message.id, port: one.port.clone() },
                route: one.route,
                attempts: (one.attempts, one.attempts_on_route),
                ends: one.ends,
            });
        }
        Ok(leased)
    }

    fn release(&self, leases: &[Lease]) {
        for lease in leases {
            self.world.mark("lease: given back");
            self.world.record(What::Release(self.world.lease_number(*lease)));
        }
        self.inner.release(leases);
    }

    fn watch(&self, port: &PortName) -> Option<Watch> {
        self.inner.watch(port)
    }

    fn next_due(&self, port: &PortName, route: Route) -> Option<Timestamp> {
        self.inner.next_due(port, route)
    }

    fn stage(&self) -> Result<BodyWriter, Error> {
        self.inner.stage()
    }

    async fn message(&self, id: MessageId) -> Result<Option<MessageInfo>, Error> {
        self.inner.message(id).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryDetail>, Error> {
        self.inner.delivery(id).await
    }

    async fn body(&self, id: MessageId, fragment: u32) -> Result<Option<Bytes>, Error> {
        self.inner.body(id, fragment).await
    }

    async fn answer(&self, id: DeliveryId) -> Result<Option<Answered>, Error> {
        self.inner.answer(id).await
    }

    async fn decisions(&self) -> Result<Decisions, Error> {
        self.inner.decisions().await
    }

    async fn deliveries(&self, filter: &Filter) -> Result<Vec<DeliveryInfo>, Error> {
        self.inner.deliveries(filter).await
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.inner.ports()
    }

    fn stats(&self) -> BoxStats {
        self.inner.stats()
    }

    fn failed(&self) -> Option<Error> {
        self.inner.failed()
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

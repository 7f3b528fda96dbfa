//! What is claimed of sends to which nothing happens on their way.

use bytes::Bytes;
use pillarbox_runtime::adapter::Order;
use pillarbox_store::FRAGMENT_BYTES;

use super::ensure;
use crate::Fault;
use crate::bench::{Bench, Drive, Fail, Life, Outcome, Sent};
use crate::proxy::Way;

/// The longest body that is tried in one piece.
const WHOLE_MAX: u64 = 32 * 1024 * 1024;
/// A body without anything special.
const SHORT: usize = 300;

/// It is of the kind that it says, and says the same once it is open.
pub(super) async fn kind(bench: &mut Bench<'_>) -> Outcome {
    let first = bench.bodies(3, SHORT);
    let life = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
    let sent = life.all(&first).await?;
    bench.learn(&life);
    bench.judge(&sent).await?;
    let mut answers = false;
    for delivery in &life.first {
        answers |= life.store.answer(*delivery).await?.is_some();
    }
    let (claimed, seen) = (bench.record().shape, life.spy.shape(answers));
    ensure(claimed == seen, || {
        format!("it says that its kind is {}, and it is {}", claimed.as_str(), seen.as_str())
    })?;
    let known = bench.subject.kind().describe();
    ensure(known.kind == bench.info.kind && known.uri_prefixes == bench.info.uri_prefixes, || {
        format!("the kind describes itself as {known:?}, the open adapter as {:?}", bench.info)
    })
}

/// Bodies arrive as they are.
pub(super) async fn bodies(bench: &mut Bench<'_>) -> Outcome {
    let life = bench.open(&Drive::default()).await?;
    let most = bench.record().body_bytes_max.unwrap_or(u64::MAX);
    let mut sent = vec![send(bench, &life, Bytes::new()).await?];
    let lines = Bytes::from_static(b"\r\n.\r\n\n\0\xff\xfe kit \r");
    sent.push(send(bench, &life, lines).await?);
    for len in [1, 256, FRAGMENT_BYTES - 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 1024 * 1024] {
        if len as u64 <= most {
            let body = bench.body(len);
            sent.push(send(bench, &life, body).await?);
        }
    }
    bench.judge(&sent).await
}

async fn send(bench: &mut Bench<'_>, life: &Life, body: Bytes) -> Outcome<Sent> {
    let len = body.len();
    let sent = bench.send(life, body).await?;
    bench.learn(life);
    ensure(sent.is_done(), || format!("a body of {len} bytes is refused: {:?}", sent.detail.info.reason))?;
    Ok(sent)
}

/// The longest body passes, and one that is longer by a byte is refused for good.
pub(super) async fn largest_body(bench: &mut Bench<'_>) -> Outcome {
    let life = bench.open(&Drive::default()).await?;
    let body = bench.body(SHORT);
    let mut all = vec![send(bench, &life, body).await?];
    match bench.record().body_bytes_max {
        Some(most) if most > WHOLE_MAX => {
            return Err(Fail::NotChecked("the largest body is too large to try; set a smaller one"));
        }
        Some(most) => {
            let body = bench.body(usize::try_from(most)?);
            all.push(send(bench, &life, body).await?);
            let body = bench.body(usize::try_from(most)? + 1);
            let refused = bench.send(&life, body).await?;
            ensure(!refused.is_done(), || format!("a body of more than {most} bytes is done"))?;
            is_refused_at_once(&refused)?;
            all.push(refused);
        }
        None => {
            let body = bench.body(8 * 1024 * 1024 + 1);
            all.push(send(bench, &life, body).await?);
        }
    }
    let body = bench.body(SHORT);
    all.push(send(bench, &life, body).await?);
    bench.judge(&all).await
}

fn is_refused_at_once(refused: &Sent) -> Outcome {
    let attempts = &refused.detail.attempts;
    let last = attempts.last().and_then(|attempt| attempt.failure.as_ref());
    let for_good = last.is_some_and(|failure| failure.permanent);
    ensure(attempts.len() == 1 && for_good, || {
        format!("what can never work is tried again: {} attempts, the last one {last:?}", attempts.len())
    })
}

/// What is done, the destination has, and it has said so.
pub(super) async fn acknowledged(bench: &mut Bench<'_>) -> Outcome {
    let life = bench.open(&Drive::default()).await?;
    for _ in 0..5 {
        let body = bench.body(SHORT);
        let sent = bench.send(&life, body).await?;
        bench.learn(&life);
        bench.judge(&[sent]).await?;
    }
    if bench.proxy.is_some() {
        for way in [Way::Request, Way::Answer] {
            // It has a connection. From now on nothing comes back on it.
            bench.proxy()?.set(Fault::Hold { way, after: 0 });
            let body = bench.body(SHORT);
            let delivery = bench.submit(&life, body.clone()).await?;
            let seen = life.attempted(delivery).await?;
            bench.calm();
            ensure(!seen.info.state.is_settled(), || {
                format!("a message is {} without the destination having answered", seen.info.state.as_str())
            })?;
            let detail = life.end(delivery).await?;
            bench.judge(&[Sent { body, detail }]).await?;
        }
    }
    if bench.destination.restarts() {
        let first = bench.bodies(10, SHORT);
        let again = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
        let sent = again.all(&first).await?;
        bench.destination.kill().await;
        bench.destination.start_again().await;
        bench.judge(&sent).await?;
    }
    Ok(())
}

/// Messages that are handed over together arrive in the order that is claimed.
pub(super) async fn order(bench: &mut Bench<'_>) -> Outcome {
    if bench.record().order == Order::Any {
        return Err(Fail::NotChecked("no order is claimed"));
    }
    let mut first = bench.bodies(40, SHORT);
    let mut life = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
    let mut sent = life.all(&first).await?;
    // Only where nothing is sent again there is an order to look at.
    for _ in 0..10 {
        if sent.iter().all(|one| one.detail.info.attempts == 1) {
            break;
        }
        first = bench.bodies(40, SHORT);
        life = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
        sent = life.all(&first).await?;
    }
    bench.judge(&sent).await?;
    let batch = life.spy.notes().batches.iter().copied().max().unwrap_or(1);
    ensure(batch > 1, || "order in a batch is claimed, and no batch has more than one message".to_owned())?;
    let held = bench.destination.held().await;
    for together in first.chunks(batch) {
        let arrived: Vec<&Bytes> =
            held.iter().map(|one| &one.body).filter(|body| together.contains(body)).collect();
        ensure(arrived.into_iter().eq(together), || {
            format!("{batch} messages of one batch arrived in another order than theirs")
        })?;
    }
    Ok(())
}

/// A message that is refused costs those beside it nothing.
pub(super) async fn outcome_per_message(bench: &mut Bench<'_>) -> Outcome {
    if !bench.record().outcome_per_message {
        return Err(Fail::NotChecked("one outcome for all of a batch is claimed"));
    }
    let too_long = bench.record().body_bytes_max.filter(|most| *most < WHOLE_MAX);
    let bad = match (bench.destination.refused(), too_long) {
        (Some(bad), _) => bad.to_bytes()?,
        (None, Some(most)) => bench.body(usize::try_from(most)? + 1),
        (None, None) => return Err(Fail::NotChecked("the destination refuses nothing")),
    };
    let mut first = bench.bodies(5, SHORT);
    first.insert(2, bad.clone());
    let life = bench.open(&Drive { first: first.clone(), ..Drive::default() }).await?;
    let sent = life.all(&first).await?;
    for one in &sent {
        if one.body == bad {
            ensure(!one.is_done(), || "a message that the destination refuses is done".to_owned())?;
            is_refused_at_once(one)?;
        } else {
            let attempts = one.detail.info.attempts;
            ensure(one.is_done() && attempts == 1, || {
                let state = one.detail.info.state.as_str();
                format!("beside one that is refused, another is {state} after {attempts} attempts")
            })?;
        }
    }
    bench.judge(&sent).await
}

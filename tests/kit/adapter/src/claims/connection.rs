//! What is claimed of sends on whose connection something goes wrong.

use std::time::Duration;

use tokio::time::Instant;

use super::{ensure, spread};
use crate::bench::{Bench, Drive, Life, Outcome, Sent};
use crate::proxy::{Fault, Way};

/// Long enough for a request to come in several pieces.
const BODY: usize = 3_000;

/// Nothing is lost by a connection that is reset while a request goes out.
pub(super) async fn reset(bench: &mut Bench<'_>) -> Outcome {
    cut(bench, Way::Request).await
}

/// Nothing is lost by a connection that is reset while an answer comes in.
pub(super) async fn lost_answer(bench: &mut Bench<'_>) -> Outcome {
    cut(bench, Way::Answer).await?;
    // The same for many at once.
    for after in [0, 1, 40] {
        let first = bench.bodies(8, BODY);
        bench.proxy()?.set(Fault::Pass);
        let life = bench.open(&Drive::default()).await?;
        let warm = bench.body(BODY);
        let mut sent = vec![bench.send(&life, warm).await?];
        bench.proxy()?.set(Fault::Reset { way: Way::Answer, after });
        let mut deliveries = Vec::new();
        for body in &first {
            deliveries.push(bench.submit(&life, body.clone()).await?);
        }
        for (delivery, body) in deliveries.into_iter().zip(first) {
            sent.push(Sent { body, detail: life.end(delivery).await? });
        }
        bench.judge(&sent).await?;
    }
    lost_refusals(bench).await
}

/// A refusal of which only a part comes in is not taken for anything else.
async fn lost_refusals(bench: &mut Bench<'_>) -> Outcome {
    let Some(refused) = bench.destination.refused() else { return Ok(()) };
    let refused = refused.to_bytes()?;
    let life = bench.open(&Drive::default()).await?;
    let warm = bench.body(BODY);
    bench.send(&life, warm).await?;
    let passed = bench.measure(&life, refused.clone()).await?;
    for after in spread(passed.answer, bench.effort.rounds) {
        bench.proxy()?.set(Fault::Reset { way: Way::Answer, after });
        let one = bench.send(&life, refused.clone()).await?;
        ensure(!one.is_done(), || format!("{after} bytes of a refusal are taken for success"))?;
    }
    Ok(())
}

/// Nothing is lost where connections are reset at many places of an exchange: of one over a connection that is there, and of one with a new
/// connection.
async fn cut(bench: &mut Bench<'_>, way: Way) -> Outcome {
    bench.proxy()?;
    let life = bench.open(&Drive::default()).await?;
    let warm = bench.body(BODY);
    let mut sent = vec![bench.send(&life, warm).await?];
    let body = bench.body(BODY);
    let warm = bench.measure(&life, body).await?;
    bench.calm();
    let body = bench.body(BODY);
    let cold = bench.measure(&life, body).await?;
    for (anew, passed) in [(false, warm), (true, cold)] {
        let len = if way == Way::Request { passed.request } else { passed.answer };
        for after in spread(len, bench.effort.rounds) {
            let body = bench.body(BODY);
            let proxy = bench.proxy()?;
            proxy.set(Fault::Reset { way, after });
            if anew {
                proxy.throw_out();
            }
            sent.push(done(bench, &life, body).await?);
        }
    }
    bench.judge(&sent).await
}

async fn done(bench: &mut Bench<'_>, life: &Life, body: bytes::Bytes) -> Outcome<Sent> {
    let sent = bench.send(life, body).await?;
    let last = sent.detail.attempts.iter().rev().find_map(|attempt| attempt.failure.clone());
    ensure(sent.is_done(), || {
        format!("a failure of the connection is taken for the message's own: {last:?}")
    })?;
    Ok(sent)
}

/// An answer that comes twice is not taken for that to another request.
pub(super) async fn duplicate_answer(bench: &mut Bench<'_>) -> Outcome {
    bench.proxy()?;
    let life = bench.open(&Drive::default()).await?;
    let warm = bench.body(BODY);
    let mut sent = vec![bench.send(&life, warm).await?];
    for after in 0..6 {
        let body = bench.body(BODY);
        bench.proxy()?.set(Fault::Duplicate { after });
        sent.push(done(bench, &life, body).await?);
        // The next request goes nowhere: whoever believes the spare answer calls it done.
        let body = bench.body(BODY);
        let nowhere = match after {
            0 | 1 => Fault::Hold { way: Way::Request, after: 0 },
            _ => Fault::Reset { way: Way::Request, after: 0 },
        };
        bench.proxy()?.set(nowhere);
        let delivery = bench.submit(&life, body.clone()).await?;
        life.attempted(delivery).await?;
        bench.calm();
        sent.push(Sent { body, detail: life.end(delivery).await? });
    }
    bench.judge(&sent).await
}

/// What comes in pieces and late is whole.
pub(super) async fn delay(bench: &mut Bench<'_>) -> Outcome {
    bench.proxy()?.set(Fault::Delay { pause: Duration::from_millis(2), piece: 7 });
    bench.proxy()?.throw_out();
    let life = bench.open(&Drive::default()).await?;
    let mut sent = Vec::new();
    for len in [0, 20, BODY] {
        let body = bench.body(len.max(10));
        let one = done(bench, &life, body).await?;
        let attempts = one.detail.info.attempts;
        ensure(attempts == 1, || {
            let said = one.detail.attempts.first().and_then(|attempt| attempt.failure.clone());
            format!("a slow connection costs {attempts} attempts: {said:?}")
        })?;
        sent.push(one);
    }
    bench.calm();
    bench.judge(&sent).await
}

/// Where nobody listens it is tried again until somebody does.
pub(super) async fn refused_connection(bench: &mut Bench<'_>) -> Outcome {
    bench.proxy()?.set(Fault::Pass);
    let life = bench.open(&Drive::default()).await?;
    let warm = bench.body(BODY);
    let mut sent = vec![bench.send(&life, warm).await?];
    bench.proxy()?.set(Fault::Refuse);
    let body = bench.body(BODY);
    let delivery = bench.submit(&life, body.clone()).await?;
    life.in_trouble(delivery).await?;
    // And for one that is opened while nobody listens.
    let late = bench.open(&Drive::default()).await?;
    let other = bench.body(BODY);
    let refused = bench.submit(&late, other.clone()).await?;
    late.in_trouble(refused).await?;
    bench.proxy()?.set(Fault::Pass);
    for (life, delivery, body) in [(&life, delivery, body), (&late, refused, other)] {
        let detail = life.end(delivery).await?;
        let one = Sent { body, detail };
        ensure(one.is_done(), || {
            format!("a refused connection is taken for the message's fault: {:?}", one.detail.info.reason)
        })?;
        sent.push(one);
    }
    bench.judge(&sent).await
}

/// What is not answered is given up in the adapter's own time, and tried again.
pub(super) async fn hang(bench: &mut Bench<'_>) -> Outcome {
    bench.proxy()?.set(Fault::Pass);
    let life = bench.open(&Drive::default()).await?;
    let warm = bench.body(BODY);
    let mut sent = vec![bench.send(&life, warm).await?];
    for anew in [false, true] {
        bench.proxy()?.set(Fault::Hold { way: Way::Answer, after: 0 });
        if anew {
            bench.proxy()?.throw_out();
        }
        let body = bench.body(BODY);
        let delivery = bench.submit(&life, body.clone()).await?;
        let begun = Instant::now();
        // Where something prepared was left behind, that is to be settled before anything is sent: then the route says so.
        life.in_trouble(delivery).await?;
        let took = begun.elapsed();
        bench.calm();
        // The engine would have ended it after twice that.
        ensure(took < bench.effort.patience / 6, || {
            format!("an answer that does not come is waited for: {took:?}")
        })?;
        let detail = life.end(delivery).await?;
        let one = Sent { body, detail };
        ensure(one.is_done(), || "silence is taken for the message's own fault".to_owned())?;
        sent.push(one);
    }
    bench.judge(&sent).await
}

/// A send that is dropped in the middle leaves nothing that hinders the next one.
pub(super) async fn cancel(bench: &mut Bench<'_>) -> Outcome {
    bench.proxy()?.set(Fault::Pass);
    let hasty = Drive { timeout: Some(Duration::from_millis(250)), ..Drive::default() };
    let life = bench.open(&hasty).await?;
    let warm = bench.body(BODY);
    let mut sent = vec![bench.send(&life, warm).await?];
    let places =
        [(Way::Request, 0), (Way::Request, 1), (Way::Request, 1_000), (Way::Answer, 0), (Way::Answer, 1)];
    for (way, after) in places.into_iter().cycle().take(10) {
        bench.proxy()?.set(Fault::Hold { way, after });
        let body = bench.body(BODY);
        let delivery = bench.submit(&life, body.clone()).await?;
        life.attempted(delivery).await?;
        // What was held comes late, after it was given up.
        bench.proxy()?.set(Fault::Pass);
        let one = Sent { body, detail: life.end(delivery).await? };
        ensure(one.is_done(), || "a send that was cut off is taken for refused".to_owned())?;
        sent.push(one);
    }
    bench.judge(&sent).await
}

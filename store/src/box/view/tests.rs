//! Who waits for whom.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::*;

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn a_reader_waits_until_every_group_is_settled() {
    let view = View::default();
    assert!(view.try_begin() && view.try_begin());
    let mut read = pin!(view.read());
    assert!(poll(read.as_mut()).is_none());
    view.end();
    assert!(poll(read.as_mut()).is_none(), "one group is still under way");
    view.end();
    assert!(poll(read.as_mut()).is_some());
}

#[test]
fn nothing_begins_ahead_of_a_reader_that_waits() {
    let view = View::default();
    assert!(view.try_begin());
    let mut read = pin!(view.read());
    assert!(poll(read.as_mut()).is_none());
    assert!(!view.try_begin());
    view.end();
    let reading = poll(read.as_mut()).unwrap();
    assert!(!view.try_begin(), "it reads");
    drop(reading);
    assert!(view.try_begin());
}

#[test]
fn those_who_wait_read_together_and_only_once() {
    let view = View::default();
    view.begin();
    let (mut first, mut second) = (pin!(view.read()), pin!(view.read()));
    assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
    view.end();
    let one = poll(first.as_mut()).unwrap();
    let two = poll(second.as_mut()).unwrap();
    drop(one);
    assert!(!view.try_begin());
    drop(two);
    assert!(view.try_begin());
}

#[test]
fn a_reader_that_gives_up_holds_nobody_up() {
    let view = View::default();
    view.begin();
    {
        let mut waits = pin!(view.read());
        assert!(poll(waits.as_mut()).is_none());
    }
    assert!(view.try_begin(), "nobody waits any more");
    view.end();
    {
        let mut waits = pin!(view.read());
        assert!(poll(waits.as_mut()).is_none());
        // It is let in, and does not come.
        view.end();
    }
    assert!(view.try_begin(), "nobody reads any more");
}

#[test]
fn a_group_that_wants_to_begin_waits_for_readers_and_goes_before_later_ones() {
    let view = View::default();
    let reading = poll(pin!(view.read())).unwrap();
    std::thread::scope(|scope| {
        let begun = scope.spawn(|| view.begin());
        while !view.lock().is_wanted {
            std::thread::yield_now();
        }
        let mut later = pin!(view.read());
        assert!(poll(later.as_mut()).is_none(), "a group is about to begin");
        drop(reading);
        begun.join().unwrap();
        assert!(poll(later.as_mut()).is_none());
        view.end();
        assert!(poll(later.as_mut()).is_some());
    });
}

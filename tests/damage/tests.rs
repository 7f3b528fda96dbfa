//! What CI runs: every byte of a small box, and a share of what `cargo xtask damage` draws.

use pillarbox_store::DeliveryState;

use crate::harm::Harm;
use crate::judge::judge;
use crate::life::{Size, World, live};
use crate::run::{LARGE, Total, block_on, random};

/// Messages in every state over several segments, small enough to damage every byte of it.
const SMALL: Size = Size { rounds: 1, body: 40, long: 0, lives: 1 };

fn report(total: &Total) {
    println!("{}", total.line());
    assert!(total.problems.is_empty(), "{:#?}", total.problems);
}

/// Turns every `step`-th byte of a file of the box.
fn flip(world: &World, file: usize, step: usize, by: u8) -> Total {
    let mut total = Total::default();
    let (name, bytes) = world.files.iter().nth(file).expect("a file");
    for at in (0..bytes.len()).step_by(step) {
        total.round(world, &[Harm::Flip { file: name.clone(), at, by }], "every byte");
        if total.problems.len() > 10 {
            break;
        }
    }
    total
}

#[test]
fn a_whole_box_is_whole() {
    for size in [SMALL, LARGE] {
        let world = block_on(live(size, 3));
        let verdict = block_on(judge(&world, &world.files));
        assert!(verdict.problems.is_empty(), "{:#?}", verdict.problems);
        assert!(!verdict.noticed && !verdict.torn && verdict.lost == 0 && verdict.again == 0, "{verdict:?}");
        println!("{} files, {} bytes", world.files.len(), world.files.values().map(Vec::len).sum::<usize>());
    }
}

/// Every byte of both segments, each changed in the same way.
fn flip_every_byte(by: u8) {
    let world = block_on(live(SMALL, 3));
    assert_eq!(world.files.len(), 2, "{:?}", world.files.keys());
    for file in 0..2 {
        let total = flip(&world, file, 1, by);
        report(&total);
        assert_eq!(total.torn, 0, "damage was taken for a torn tail");
        assert!(total.lost > 100 && total.harmless > 50, "{}", total.line());
    }
}

#[test]
fn every_byte_with_its_lowest_bit_flipped_is_survived_and_told() {
    flip_every_byte(0x01);
}

#[test]
fn every_byte_with_its_highest_bit_flipped_is_survived_and_told() {
    flip_every_byte(0x80);
}

#[test]
fn every_byte_turned_over_is_survived_and_told() {
    flip_every_byte(0xff);
}

#[test]
fn flipped_bytes_of_a_long_body_are_survived_and_told() {
    let world = block_on(live(Size { long: 300_000, ..SMALL }, 3));
    let lengths: Vec<usize> = world.files.values().map(Vec::len).collect();
    let longest = lengths.iter().position(|length| *length > 300_000).expect("the file with the body");
    let total = flip(&world, longest, 2_999, 0x10);
    report(&total);
    assert!(total.lost > 80, "{}", total.line());
}

#[test]
fn random_damage_is_survived_and_told() {
    let mut total = Total::default();
    random(0, 200, &mut total, |_| {});
    report(&total);
    assert!(total.noticed > 150, "{}", total.line());
}

/// The judge itself: what the box never had, or had otherwise, is not taken for whole.
#[test]
fn a_loss_that_nobody_tells_is_caught() {
    let mut world = block_on(live(SMALL, 3));
    let (number, mut known) = world.deliveries.pop_last().expect("a delivery");
    known.state = DeliveryState::Ready;
    world.deliveries.insert(number + 100, known);
    let lost = block_on(judge(&world, &world.files)).problems.join("; ");
    assert!(lost.contains(&format!("delivery {} (ready) is lost in silence", number + 100)), "{lost}");
    let message = world.messages.values_mut().next().expect("a message");
    message.body = "something else".into();
    let changed = block_on(judge(&world, &world.files)).problems.join("; ");
    assert!(changed.contains("brought something else"), "{changed}");
}

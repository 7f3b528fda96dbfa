//! A few kills of the server and of real destinations: `cargo xtask kills` does more of them.

use std::process::Command;

/// Kills a server so often with these arguments, shows what that came to, and gives the table's sums by the names of
/// their columns; false where something was wrong.
fn kills(count: u32, args: &[&str]) -> (bool, impl Fn(&str) -> u64) {
    let output = Command::new(env!("CARGO_BIN_EXE_kills"))
        .args(["--server", env!("CARGO_BIN_EXE_pillarbox-under-test"), "--seed", "7"])
        .args(["--kills", &count.to_string()])
        .args(args)
        .output()
        .expect("the program is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = |first: &str| text.lines().map(cells).find(|row| row.get(1).is_some_and(|cell| cell == first));
    let (head, sums) = (row("subject").expect("a table"), row("all").expect("its sums"));
    let sum = move |name: &str| {
        let found = head.iter().zip(&sums).find(|(column, _)| *column == name);
        found.and_then(|(_, cell)| cell.parse().ok()).expect(name)
    };
    (output.status.success(), sum)
}

#[test]
fn what_a_destination_can_keep_single_is_there_once_after_kills() {
    let (is_fine, sum) = kills(8, &["file-two-phase", "postgres"]);
    assert!(is_fine);
    assert_eq!(sum("kills"), 16);
    assert!(sum("of the destination") > 0);
    assert!(sum("accepted") > 100, "too little was done to prove anything");
    assert_eq!(["lost", "twice", "in doubt at the end"].map(sum), [0, 0, 0]);
}

#[test]
fn what_comes_again_after_kills_says_so() {
    let (is_fine, sum) = kills(8, &["http"]);
    assert!(is_fine);
    assert!(sum("doubles with a label") > 0, "no kill came in the middle of an attempt");
    assert_eq!(["lost", "twice", "in doubt at the end"].map(sum), [0, 0, 0]);
}

#[test]
fn doubles_are_found_where_there_may_be_none() {
    let (is_fine, sum) = kills(8, &["http", "--once", "--forget"]);
    assert!(!is_fine);
    assert!(sum("twice") > 0, "no kill came in the middle of an attempt");
}

#[test]
fn an_engine_that_keeps_nothing_is_found_out_by_kills() {
    let (is_fine, sum) = kills(4, &["postgres", "--engine", "memory", "--forget"]);
    assert!(!is_fine);
    assert!(sum("lost") > 0, "the kills cost nothing");
}

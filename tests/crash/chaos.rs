//! A few rounds of chaos: `cargo xtask chaos` runs more of them.

use std::process::Command;

/// Runs rounds of a plan that was found to have everything in it, and shows what they came to.
fn rounds(engine: &str, rounds: u32, lives: u32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["--server", env!("CARGO_BIN_EXE_pillarbox-under-test"), "--engine", engine, "--seed", "7"])
        .args(["--minutes", "4", "--rounds", &rounds.to_string(), "--lives", &lives.to_string()])
        .output()
        .expect("the program is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// The figure of a row of the table.
fn figure(table: &str, row: &str) -> u64 {
    let of_row = |line: &str| line.trim().split_once("  ").filter(|(_, what)| *what == row)?.0.parse().ok();
    table.lines().find_map(of_row).expect(row)
}

#[test]
fn nothing_is_lost_in_chaos() {
    let table = rounds("journal", 3, 14);
    assert!(figure(&table, "SIGKILL") >= 25);
    for row in ["SIGSTOP for longer than every timeout", "full disks", "clock jumps"] {
        assert!(figure(&table, row) > 0, "{row}");
    }
    assert!(figure(&table, "messages accepted") > 500, "too little was done to prove anything");
    assert_eq!(figure(&table, "LOST"), 0);
}

#[test]
fn nothing_is_lost_in_chaos_on_sled() {
    let table = rounds("sled", 1, 10);
    assert!(figure(&table, "SIGKILL") >= 5);
    assert_eq!(figure(&table, "LOST"), 0);
}

//! A few rounds of chaos: `cargo xtask chaos` runs more of them.

use std::process::Command;

/// Runs rounds of a plan, shows what they came to, and gives their table; false where a round failed.
fn rounds(engine: &str, rounds: u32, lives: u32) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["--server", env!("CARGO_BIN_EXE_pillarbox-under-test"), "--engine", engine, "--seed", "7"])
        .args(["--minutes", "4", "--rounds", &rounds.to_string(), "--lives", &lives.to_string()])
        .args((engine == "memory").then_some("--forget"))
        .output()
        .expect("the program is there");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{table}\n{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), table)
}

/// The figure of a row of the table.
fn figure(table: &str, row: &str) -> u64 {
    let of_row = |line: &str| line.trim().split_once("  ").filter(|(_, what)| *what == row)?.0.parse().ok();
    table.lines().find_map(of_row).expect(row)
}

#[test]
fn nothing_is_lost_in_chaos() {
    let (is_fine, table) = rounds("journal", 3, 22);
    assert!(is_fine);
    assert!(figure(&table, "SIGKILL") >= 25);
    for row in ["SIGSTOP for longer than every timeout", "full disks", "clock jumps"] {
        assert!(figure(&table, row) > 0, "{row}");
    }
    assert!(figure(&table, "messages accepted") > 500, "too little was done to prove anything");
    assert_eq!(figure(&table, "LOST"), 0);
}

#[test]
fn nothing_is_lost_in_chaos_on_sled() {
    let (is_fine, table) = rounds("sled", 1, 16);
    assert!(is_fine);
    assert!(figure(&table, "SIGKILL") >= 5);
    assert_eq!(figure(&table, "LOST"), 0);
}

#[test]
fn an_engine_that_keeps_nothing_is_found_out_in_chaos() {
    let (is_fine, table) = rounds("memory", 1, 4);
    assert!(!is_fine);
    assert!(figure(&table, "LOST") > 0, "the kills cost nothing");
}

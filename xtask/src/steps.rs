//! Named steps in order: a line for each with its time, a table at the end, a stop at the first that fails.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::error::Error;

/// One step of a command.
pub(crate) trait Step {
    /// Its name, which is also that of the command that runs it alone.
    fn name(&self) -> &'static str;

    /// Does it.
    fn run(&self) -> Result<(), Error>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

/// Runs `steps` up to the first that fails.
pub(crate) fn run_all(steps: &[impl Step]) -> Result<(), Error> {
    let total = steps.len();
    let mut rows: Vec<_> = steps.iter().map(|step| (step.name(), Status::NotRun)).collect();
    let mut outcome = Ok(());
    for (index, step) in steps.iter().enumerate() {
        let name = step.name();
        println!("\n[{}/{total}] {name}", index + 1);
        let (result, took) = timed(|| step.run());
        let seconds = took.as_secs_f64();
        rows[index].1 = if result.is_ok() { Status::Passed(took) } else { Status::Failed(took) };
        if let Err(error) = result {
            println!("[{}/{total}] {name} FAILED after {seconds:.1} s", index + 1);
            outcome = Err(error.hint(format!("this step alone: cargo xtask {name}")));
            break;
        }
        println!("[{}/{total}] {name} ok in {seconds:.1} s", index + 1);
    }
    println!("\n{}", table(&rows));
    outcome
}

#[expect(clippy::disallowed_methods, reason = "a build has no simulated time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

fn table(rows: &[(&str, Status)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).chain(["total".len()]).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:7}  {:>7}\n", "step", "status", "seconds");
    let mut sum = Duration::ZERO;
    for (name, status) in rows {
        let (word, took) = match status {
            Status::Passed(took) => ("ok", Some(*took)),
            Status::Failed(took) => ("FAILED", Some(*took)),
            Status::NotRun => ("not run", None),
        };
        sum += took.unwrap_or_default();
        let seconds = took.map_or_else(|| "-".to_owned(), |took| format!("{:.1}", took.as_secs_f64()));
        let _ = writeln!(text, "{name:width$}  {word:7}  {seconds:>7}");
    }
    let _ = write!(text, "{:width$}  {:7}  {:>7.1}", "total", "", sum.as_secs_f64());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Noted<'a> {
        name: &'static str,
        passes: bool,
        log: &'a RefCell<Vec<&'static str>>,
    }

    impl Step for Noted<'_> {
        fn name(&self) -> &'static str {
            self.name
        }

        fn run(&self) -> Result<(), Error> {
            self.log.borrow_mut().push(self.name);
            if self.passes { Ok(()) } else { Err(Error::new("broken")) }
        }
    }

    #[test]
    fn the_first_failure_stops_the_rest_and_names_its_command() {
        let log = RefCell::new(Vec::new());
        let steps = [("first", true), ("second", false), ("third", true)].map(|(name, passes)| Noted {
            name,
            passes,
            log: &log,
        });
        let error = run_all(&steps).unwrap_err().to_string();
        assert_eq!(*log.borrow(), ["first", "second"]);
        assert_eq!(error, "error: broken\n  this step alone: cargo xtask second");
    }

    #[test]
    fn the_table_lines_up_and_adds_up() {
        let rows = [
            ("fmt", Status::Passed(Duration::from_millis(1200))),
            ("clippy", Status::Failed(Duration::from_secs(14))),
            ("doc", Status::NotRun),
        ];
        let expected = "\
step    status   seconds
fmt     ok           1.2
clippy  FAILED      14.0
doc     not run        -
total               15.2";
        assert_eq!(table(&rows), expected);
    }
}

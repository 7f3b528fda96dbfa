//! What is told in the terminal when a group is done.

use crate::report::{Row, tables};
use crate::run::Name;

/// Prints the group's tables as they go into the page.
pub(crate) fn table(name: Name, rows: &[Row]) {
    let rows: Vec<&Row> = rows.iter().collect();
    println!("\n{}", tables::of(name, &rows));
}

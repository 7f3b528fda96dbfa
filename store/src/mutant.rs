//! Seeded mutants: faults put in on purpose, which the simulation has to notice.
//!
//! Only a build with `--cfg pillarbox_mutants` has them; in any other [`is`] is `false` for the compiler already.
//! `cargo xtask sim --mutants` builds one program with all of them and selects one a life.

/// Whether this mutant is at work on this thread.
#[cfg(not(pillarbox_mutants))]
#[inline(always)]
#[must_use]
pub const fn is(_name: &str) -> bool {
    false
}

#[cfg(pillarbox_mutants)]
mod selected {
    use std::cell::Cell;

    thread_local! {
        static SELECTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Whether this mutant is at work on this thread.
    #[must_use]
    pub fn is(name: &str) -> bool {
        SELECTED.with(|selected| selected.get() == Some(name))
    }

    /// Puts a mutant to work on this thread, or none.
    pub fn select(name: Option<&'static str>) {
        SELECTED.with(|selected| selected.set(name));
    }
}

#[cfg(pillarbox_mutants)]
pub use selected::{is, select};

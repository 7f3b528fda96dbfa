//! Each invariant is broken by a small history.

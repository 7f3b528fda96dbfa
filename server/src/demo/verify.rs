//! Compares what was submitted with what came out, from the outside: the destination's ledger and the backup's
//! folder against the demo's own record. Nothing of the box's is believed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Arrival, Content, Ledger};

/// What was submitted and acknowledged: bodies by message id.
pub(super) type Record = BTreeMap<String, Content>;

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Messages that are at the destination, byte for byte.
    pub(super) delivered: usize,
    /// Messages that came to the destination more than once, for whatever reason.
    pub(super) retried: usize,
    /// Messages that are in the backup's folder, byte for byte.
    pub(super) backup: usize,
    /// Messages that are in both places.
    pub(super) both: usize,
    /// Messages that the destination took more than once.
    pub(super) twice: usize,
    /// Messages that are in neither place as they were submitted.
    pub(super) lost: Vec<String>,
    /// Messages of which something else arrived than was submitted.
    pub(super) torn: Vec<String>,
    /// What arrived and was never submitted.
    pub(super) strays: Vec<String>,
    /// Messages that did not carry the same key at each arrival.
    pub(super) other_key: Vec<String>,
    /// Keys that more than one message carried.
    pub(super) shared_key: Vec<String>,
}

/// Compares.
pub(super) fn verify(record: &Record, ledger: &Ledger, undelivered: &BTreeMap<String, Content>) -> Findings {
    let mut findings = Findings::default();
    let mut delivered = BTreeSet::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut shared_key = BTreeSet::new();
    for (message, arrivals) in ledger.messages() {
        for key in arrivals.iter().filter_map(|arrival| arrival.key.as_deref()) {
            if *owners.entry(key).or_insert(message) != message {
                shared_key.insert(key.to_owned());
            }
        }
        let Some(submitted) = record.get(message) else {
            findings.strays.push(message.to_owned());
            continue;
        };
        findings.retried += usize::from(arrivals.len() > 1);
        findings.twice += usize::from(taken(arrivals).count() > 1);
        if !same_key(arrivals) {
            findings.other_key.push(message.to_owned());
        }
        if arrivals.iter().any(|arrival| arrival.content != *submitted) {
            findings.torn.push(message.to_owned());
        }
        if taken(arrivals).any(|arrival| arrival.content == *submitted) {
            delivered.insert(message);
        }
    }
    findings.shared_key = shared_key.into_iter().collect();
    for (message, content) in undelivered {
        match record.get(message) {
            None => findings.strays.push(message.clone()),
            Some(submitted) if submitted != content => findings.torn.push(message.clone()),
            Some(_) => {
                findings.backup += 1;
                findings.both += usize::from(delivered.contains(message.as_str()));
            }
        }
    }
    let is_safe = |message: &String, content: &Content| {
        delivered.contains(message.as_str()) || undelivered.get(message) == Some(content)
    };
    let lost = record.iter().filter(|(message, content)| !is_safe(message, content));
    findings.lost = lost.map(|(message, _)| message.clone()).collect();
    findings.delivered = delivered.len();
    findings
}

fn taken(arrivals: &[Arrival]) -> impl Iterator<Item = &Arrival> {
    arrivals.iter().filter(|arrival| arrival.taken)
}

/// Whether each arrival carried a key, and that of the first.
fn same_key(arrivals: &[Arrival]) -> bool {
    let first = arrivals.first().and_then(|arrival| arrival.key.as_ref());
    first.is_some() && arrivals.iter().all(|arrival| arrival.key.as_ref() == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two messages: `a` is delivered at its second arrival, `b` is in the backup's folder after one.
    struct Run {
        record: Record,
        ledger: Ledger,
        undelivered: BTreeMap<String, Content>,
    }

    fn arrival(key: &str, body: &[u8], taken: bool) -> Arrival {
        Arrival { key: Some(key.to_owned()), content: Content::of(body), taken }
    }

    fn run() -> Run {
        let record: Record =
            ["a", "b"].map(|name| (name.to_owned(), Content::of(name.as_bytes()))).into_iter().collect();
        let mut ledger = Ledger::default();
        ledger.note("a", arrival("key a", b"a", false));
        ledger.note("a", arrival("key a", b"a", true));
        ledger.note("b", arrival("key b", b"b", false));
        Run { record, ledger, undelivered: BTreeMap::from([("b".to_owned(), Content::of(b"b"))]) }
    }

    impl Run {
        fn verify(&self) -> Findings {
            verify(&self.record, &self.ledger, &self.undelivered)
        }
    }

    fn good() -> Findings {
        Findings { delivered: 1, retried: 1, backup: 1, ..Findings::default() }
    }

    #[test]
    fn a_good_run_has_nothing_to_find() {
        assert_eq!(run().verify(), good());
    }

    #[test]
    fn a_lost_message_is_found() {
        let mut run = run();
        run.undelivered.clear();
        assert_eq!(run.verify(), Findings { backup: 0, lost: vec!["b".to_owned()], ..good() });
        run.record.insert("never arrived".to_owned(), Content::of(b""));
        assert_eq!(run.verify().lost, ["b", "never arrived"]);
    }

    #[test]
    fn a_refused_message_is_not_delivered() {
        let mut run = run();
        run.record.insert("c".to_owned(), Content::of(b"c"));
        run.ledger.note("c", arrival("key c", b"c", false));
        assert_eq!(run.verify().lost, ["c"]);
    }

    #[test]
    fn a_stray_is_found_wherever_it_is() {
        let mut run = run();
        run.ledger.note("x", arrival("key x", b"x", false));
        run.undelivered.insert("y".to_owned(), Content::of(b"y"));
        assert_eq!(run.verify(), Findings { strays: vec!["x".to_owned(), "y".to_owned()], ..good() });
    }

    #[test]
    fn a_torn_message_is_found_and_counts_as_lost_where_no_other_is_whole() {
        let mut torn = run();
        torn.undelivered.insert("b".to_owned(), Content::of(b""));
        let expected =
            Findings { backup: 0, torn: vec!["b".to_owned()], lost: vec!["b".to_owned()], ..good() };
        assert_eq!(torn.verify(), expected);
        let mut torn = run();
        torn.ledger.note("a", arrival("key a", b"aa", true));
        assert_eq!(torn.verify(), Findings { torn: vec!["a".to_owned()], twice: 1, ..good() });
        let mut torn = run();
        torn.record.insert("a".to_owned(), Content::of(b"A"));
        assert_eq!(torn.verify().lost, ["a"]);
    }

    #[test]
    fn a_double_is_counted_and_without_its_key_found() {
        let mut run = run();
        run.ledger.note("a", arrival("key a", b"a", true));
        assert_eq!(run.verify(), Findings { twice: 1, ..good() });
        run.ledger.note("a", arrival("another", b"a", true));
        assert_eq!(run.verify(), Findings { twice: 1, other_key: vec!["a".to_owned()], ..good() });
    }

    #[test]
    fn an_arrival_without_any_key_is_found() {
        let mut run = run();
        run.ledger.note("b", Arrival { key: None, ..arrival("", b"b", false) });
        assert_eq!(run.verify().other_key, ["b"]);
        let mut ledger = Ledger::default();
        ledger.note("a", Arrival { key: None, ..arrival("", b"a", true) });
        assert_eq!(verify(&run.record, &ledger, &run.undelivered).other_key, ["a"]);
    }

    #[test]
    fn a_key_of_two_messages_is_found() {
        let mut run = run();
        run.ledger.note("b", arrival("key a", b"b", false));
        assert_eq!(run.verify().shared_key, ["key a"]);
    }

    #[test]
    fn a_message_in_both_places_is_counted() {
        let mut run = run();
        run.undelivered.insert("a".to_owned(), Content::of(b"a"));
        assert_eq!(run.verify(), Findings { backup: 2, both: 1, ..good() });
    }
}

//! What was submitted and answered, held against what the destination really holds and what the server says at the end.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use pillarbox_adapter_kit::Held;
use pillarbox_tests::bodies::{Hash, hash};
use pillarbox_tests::witness::{Number, id_of, number_of};

/// So many findings are told in words; the rest is counted.
const TOLD_MAX: usize = 40;

/// What a destination may do with a message that was accepted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It has it once.
    Once,
    /// It may have it more often, and whoever reads there can tell: all copies but one carry a label.
    Labelled,
}

/// What is known of a message on the side of who submitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its body.
    pub(crate) body: Hash,
    /// The destination refuses it for good.
    pub(crate) is_bad: bool,
    /// Whether it was taken or refused; nothing as long as no answer came.
    pub(crate) is_taken: Option<bool>,
}

/// A message at the destination.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) body: Hash,
    /// Who it says to be: a send key or a name, which ends with the message's id.
    pub(crate) key: Option<String>,
    /// It says that it may have come before.
    pub(crate) is_labelled: bool,
}

impl From<&Held> for Copy {
    fn from(held: &Held) -> Self {
        let is_labelled = held.in_doubt || held.attempt.is_some_and(|attempt| attempt > 1);
        Self { body: hash(&held.body), key: held.key.clone(), is_labelled }
    }
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, ..] = self.body;
        let label = if self.is_labelled { "labelled" } else { "unlabelled" };
        write!(f, "{} {label} {first:02x}{second:02x}..", self.key.as_deref().unwrap_or("no key"))
    }
}

/// What the server says once everything has come to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) done: u64,
    pub(crate) suspended: u64,
    /// Deliveries that have not come to their end.
    pub(crate) left: u64,
    /// Deliveries of which nobody knows whether they were made.
    pub(crate) in_doubt: u64,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// Accepted, and refused by the destination for good.
    pub(crate) suspended: u64,
    /// Copies at the destination.
    pub(crate) copies: u64,
    /// Accepted and not there.
    pub(crate) lost: u64,
    /// Copies beyond the first where there may be one only.
    pub(crate) twice: u64,
    /// Copies beyond the first that say so.
    pub(crate) labelled: u64,
    /// Copies beyond the first that do not.
    pub(crate) unlabelled: u64,
    pub(crate) in_doubt: u64,
    /// Everything that is wrong.
    pub(crate) violations: u64,
    /// The first of them, for people.
    pub(crate) told: Vec<String>,
}

impl Findings {
    pub(crate) fn is_wrong(&mut self, text: String) {
        self.violations += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(text);
        }
    }
}

/// Judges a subject's end.
pub(crate) fn judge(
    accounts: &BTreeMap<Number, Account>,
    held: &[Copy],
    manner: Manner,
    said: Said,
) -> Findings {
    let mut findings = Findings { copies: held.len() as u64, in_doubt: said.in_doubt, ..Findings::default() };
    let there = sorted_out(accounts, held, &mut findings);
    for (number, account) in accounts {
        let id = id_of(*number);
        let copies = there.get(number).map_or(&[][..], Vec::as_slice);
        match account.is_taken {
            None => findings.is_wrong(format!("{id} never got an answer")),
            Some(false) => {
                findings.refused += 1;
                if !copies.is_empty() {
                    findings.is_wrong(format!("{id} was refused and is at the destination: {copies:?}"));
                }
            }
            Some(true) if account.is_bad => {
                findings.accepted += 1;
                findings.suspended += 1;
            }
            Some(true) => {
                findings.accepted += 1;
                taken(&id, copies, manner, &mut findings);
            }
        }
    }
    let Findings { accepted, suspended, .. } = findings;
    let due = Said { done: accepted - suspended, suspended, left: 0, in_doubt: 0 };
    if said != due {
        findings.is_wrong(format!("the server says {said:?} and should say {due:?}"));
    }
    findings
}

/// The copies of each message. What is no copy of one is wrong.
fn sorted_out<'a>(
    accounts: &BTreeMap<Number, Account>,
    held: &'a [Copy],
    findings: &mut Findings,
) -> HashMap<Number, Vec<&'a Copy>> {
    // Bad messages may have one body in common, and are nowhere.
    let good = accounts.iter().filter(|(_, account)| !account.is_bad);
    let of: HashMap<Hash, Number> = good.map(|(number, account)| (account.body, *number)).collect();
    let mut there: HashMap<Number, Vec<&Copy>> = HashMap::new();
    for copy in held {
        let named = copy.key.as_deref().and_then(named);
        match (of.get(&copy.body), named) {
            (None, Some(named)) => {
                let what = match accounts.get(&named) {
                    Some(account) if account.is_bad => "had to be refused by the destination",
                    Some(_) => "is there in part or changed",
                    None => "is there and was never submitted",
                };
                findings.is_wrong(format!("{} {what}: {copy:?}", id_of(named)));
            }
            (None, None) => findings.is_wrong(format!("nobody submitted {copy:?}")),
            (Some(number), named) => {
                if named != Some(*number) {
                    let id = id_of(*number);
                    findings.is_wrong(format!("the body of {id} is there under another key: {copy:?}"));
                }
                there.entry(*number).or_default().push(copy);
            }
        }
    }
    there
}

/// Whose a send key or a name is. Some destinations keep only what stands behind the last dash of an id.
fn named(key: &str) -> Option<Number> {
    let id = key.rsplit('/').next()?;
    number_of(id).or_else(|| Number::from_str_radix(id, 16).ok())
}

/// A good message that was accepted.
fn taken(id: &str, copies: &[&Copy], manner: Manner, findings: &mut Findings) {
    let more = copies.len().saturating_sub(1) as u64;
    if copies.is_empty() {
        findings.lost += 1;
        findings.is_wrong(format!("{id} was accepted and is not at the destination"));
    }
    match manner {
        Manner::Once if more > 0 => {
            findings.twice += more;
            findings.is_wrong(format!("{id} is {} times at the destination: {copies:?}", copies.len()));
        }
        Manner::Once => {}
        Manner::Labelled => {
            let plain = copies.iter().filter(|copy| !copy.is_labelled).count() as u64;
            let unlabelled = plain.saturating_sub(1);
            findings.labelled += more - unlabelled;
            findings.unlabelled += unlabelled;
            if unlabelled > 0 {
                findings.is_wrong(format!("{id} came again as if for the first time: {copies:?}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Account = Account { body: [0; 32], is_bad: false, is_taken: Some(true) };

    /// Messages 1, 2, ... of which this is known.
    fn accounts(all: &[Account]) -> BTreeMap<Number, Account> {
        (1..).zip(all).map(|(number, account)| (number, Account { body: body(number), ..*account })).collect()
    }

    fn body(number: Number) -> Hash {
        hash(&number.to_be_bytes())
    }

    fn copy(number: Number) -> Copy {
        Copy { body: body(number), key: Some(format!("box/orders/{}", id_of(number))), is_labelled: false }
    }

    fn done(done: u64) -> Said {
        Said { done, ..Said::default() }
    }

    /// What is wrong: exactly one thing, with these words.
    fn assert_found(findings: &Findings, words: &str) {
        assert_eq!(findings.violations, 1, "{findings:?}");
        assert!(findings.told[0].contains(words), "{findings:?}");
    }

    #[test]
    fn what_is_as_it_should_be_is_fine() {
        let bad = Account { is_bad: true, ..TAKEN };
        let refused = Account { is_taken: Some(false), ..TAKEN };
        let said = Said { done: 2, suspended: 1, ..Said::default() };
        let findings =
            judge(&accounts(&[TAKEN, bad, TAKEN, refused]), &[copy(3), copy(1)], Manner::Once, said);
        let due = Findings { accepted: 3, refused: 1, suspended: 1, copies: 2, ..Findings::default() };
        assert_eq!(findings, due);
    }

    #[test]
    fn a_loss_is_found() {
        let findings = judge(&accounts(&[TAKEN, TAKEN]), &[copy(2)], Manner::Once, done(2));
        assert_found(&findings, "000000000001 was accepted and is not at the destination");
        assert_eq!(findings.lost, 1);
    }

    #[test]
    fn a_double_is_found_whatever_it_says_of_itself() {
        let again = Copy { is_labelled: true, ..copy(1) };
        for held in [[copy(1), copy(1)], [copy(1), again]] {
            let findings = judge(&accounts(&[TAKEN]), &held, Manner::Once, done(1));
            assert_found(&findings, "is 2 times at the destination");
            assert_eq!((findings.twice, findings.lost), (1, 0));
        }
    }

    #[test]
    fn of_the_copies_that_may_be_all_but_one_have_a_label() {
        let again = Copy { is_labelled: true, ..copy(1) };
        let fine =
            judge(&accounts(&[TAKEN]), &[copy(1), again.clone(), again.clone()], Manner::Labelled, done(1));
        assert_eq!((fine.violations, fine.labelled, fine.unlabelled), (0, 2, 0), "{fine:?}");
        // The first attempt need not have arrived.
        let fine = judge(&accounts(&[TAKEN]), std::slice::from_ref(&again), Manner::Labelled, done(1));
        assert_eq!(fine.violations, 0, "{fine:?}");
        let findings = judge(&accounts(&[TAKEN]), &[copy(1), again, copy(1)], Manner::Labelled, done(1));
        assert_found(&findings, "came again as if for the first time");
        assert_eq!((findings.labelled, findings.unlabelled), (1, 1));
    }

    #[test]
    fn what_was_refused_must_not_be_there() {
        let refused = Account { is_taken: Some(false), ..TAKEN };
        let findings = judge(&accounts(&[refused]), &[copy(1)], Manner::Once, done(0));
        assert_found(&findings, "was refused and is at the destination");
        let bad = Account { is_bad: true, ..TAKEN };
        let said = Said { suspended: 1, ..Said::default() };
        let findings = judge(&accounts(&[bad]), &[copy(1)], Manner::Once, said);
        assert_found(&findings, "had to be refused by the destination");
    }

    #[test]
    fn half_a_body_and_a_stranger_s_are_found() {
        let half = Copy { body: hash(b"half"), ..copy(1) };
        let findings = judge(&accounts(&[TAKEN]), &[copy(1), half.clone()], Manner::Once, done(1));
        assert_found(&findings, "in part or changed");
        let stranger = Copy { key: None, ..half };
        let findings = judge(&accounts(&[TAKEN]), &[copy(1), stranger], Manner::Once, done(1));
        assert_found(&findings, "nobody submitted");
        let findings = judge(&accounts(&[TAKEN]), &[copy(1), copy(7)], Manner::Once, done(1));
        assert_found(&findings, "never submitted");
        let swapped = Copy { key: copy(2).key, ..copy(1) };
        let findings = judge(&accounts(&[TAKEN]), &[swapped], Manner::Once, done(1));
        assert_found(&findings, "under another key");
    }

    #[test]
    fn send_keys_names_and_ends_of_names_tell_whose_they_are() {
        let id = id_of(0x1_2f);
        assert_eq!(named(&format!("box/orders/{id}")), Some(0x12f));
        assert_eq!(named(&id), Some(0x12f));
        assert_eq!(named("00000000012f"), Some(0x12f));
        assert_eq!(named("another.json"), None);
    }

    #[test]
    fn what_the_server_says_at_the_end_has_to_fit() {
        let all = accounts(&[TAKEN]);
        let doubtful = Said { in_doubt: 1, ..done(1) };
        for said in [doubtful, Said { left: 1, ..done(0) }, done(2), Said { suspended: 1, ..done(0) }] {
            assert_found(&judge(&all, &[copy(1)], Manner::Once, said), "the server says");
        }
        assert_eq!(judge(&all, &[copy(1)], Manner::Once, doubtful).in_doubt, 1);
        let open = Account { is_taken: None, ..TAKEN };
        assert_found(&judge(&accounts(&[open]), &[], Manner::Once, done(0)), "never got an answer");
    }
}

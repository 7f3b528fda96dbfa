//! The lines in which a worker tells what it does: the record that is kept outside of what is under test.

use std::fmt;
use std::str::FromStr;

/// The ports, in the order of their numbers. The second has no backup route.
pub(super) const PORTS: [&str; 3] = ["alpha", "beta", "gamma"];
/// A port that is never defined.
pub(super) const NOWHERE: &str = "nowhere";

/// What an operation does to deliveries of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Submits it to the ports of a bit mask, with a body of so many bytes.
    Submit {
        ports: u8,
        bytes: u32,
        /// Not due for a long time.
        later: bool,
    },
    Delete(u8),
    Resubmit(u8),
    MoveToBackup(u8),
    Suspend(u8),
    Hold(u8),
    Resume(u8),
    Terminate(u8),
    /// Submits it to a port that is not there: refused.
    Refused,
}

impl Doing {
    /// The ports whose deliveries it concerns.
    pub(super) fn ports(self) -> impl Iterator<Item = u8> {
        let mask = match self {
            Self::Submit { ports, .. } => ports,
            Self::Refused => 0,
            Self::Delete(port)
            | Self::Resubmit(port)
            | Self::MoveToBackup(port)
            | Self::Suspend(port)
            | Self::Hold(port)
            | Self::Resume(port)
            | Self::Terminate(port) => 1 << port,
        };
        (0..PORTS.len() as u8).filter(move |port| mask >> port & 1 == 1)
    }

    /// Whether it takes a lease.
    pub(super) fn needs_lease(self) -> bool {
        matches!(self, Self::Delete(_) | Self::Resubmit(_) | Self::MoveToBackup(_) | Self::Suspend(_))
    }
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deed {
    /// The message's number.
    pub(super) message: u64,
    pub(super) doing: Doing,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// The box is about to be opened.
    Begin,
    /// It is open.
    Opened,
    /// The ports were defined, durably.
    Ports,
    /// A batch is about to be committed.
    Intent { batch: u64, deeds: Vec<Deed> },
    /// It was acknowledged.
    Acknowledged { batch: u64 },
    /// A leased body was not what had been submitted.
    WrongBody { message: u64 },
    /// Something failed; after the cut that is no wonder.
    Failed(String),
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message;
        match self.doing {
            Doing::Submit { ports, bytes, later } => {
                write!(f, "s{message}:{ports}:{bytes}:{}", u8::from(later))
            }
            Doing::Delete(port) => write!(f, "d{message}:{port}"),
            Doing::Resubmit(port) => write!(f, "r{message}:{port}"),
            Doing::MoveToBackup(port) => write!(f, "b{message}:{port}"),
            Doing::Suspend(port) => write!(f, "p{message}:{port}"),
            Doing::Hold(port) => write!(f, "h{message}:{port}"),
            Doing::Resume(port) => write!(f, "u{message}:{port}"),
            Doing::Terminate(port) => write!(f, "t{message}:{port}"),
            Doing::Refused => write!(f, "x{message}"),
        }
    }
}

impl FromStr for Deed {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let mut letters = word.chars();
        let letter = letters.next().ok_or(())?;
        let numbers: Vec<u64> =
            letters.as_str().split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let port = || numbers.get(1).and_then(|port| u8::try_from(*port).ok()).ok_or(());
        let doing = match (letter, numbers.as_slice()) {
            ('s', [_, _, bytes, later]) => Doing::Submit {
                ports: port()?,
                bytes: u32::try_from(*bytes).map_err(|_| ())?,
                later: *later == 1,
            },
            ('d', _) => Doing::Delete(port()?),
            ('r', _) => Doing::Resubmit(port()?),
            ('b', _) => Doing::MoveToBackup(port()?),
            ('p', _) => Doing::Suspend(port()?),
            ('h', _) => Doing::Hold(port()?),
            ('u', _) => Doing::Resume(port()?),
            ('t', _) => Doing::Terminate(port()?),
            ('x', _) => Doing::Refused,
            _ => return Err(()),
        };
        Ok(Self { message: *numbers.first().ok_or(())?, doing })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("begin"),
            Self::Opened => f.write_str("opened"),
            Self::Ports => f.write_str("ports"),
            Self::Intent { batch, deeds } => {
                write!(f, "intent {batch}")?;
                deeds.iter().try_for_each(|deed| write!(f, " {deed}"))
            }
            Self::Acknowledged { batch } => write!(f, "ack {batch}"),
            Self::WrongBody { message } => write!(f, "wrong {message}"),
            Self::Failed(text) => write!(f, "failed {}", text.replace('\n', " ")),
        }
    }
}

impl FromStr for Line {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(match word {
            "begin" => Self::Begin,
            "opened" => Self::Opened,
            "ports" => Self::Ports,
            "intent" => {
                let mut words = rest.split(' ');
                let batch = number(words.next().unwrap_or_default())?;
                Self::Intent { batch, deeds: words.map(str::parse).collect::<Result<_, _>>()? }
            }
            "ack" => Self::Acknowledged { batch: number(rest)? },
            "wrong" => Self::WrongBody { message: number(rest)? },
            "failed" => Self::Failed(rest.to_owned()),
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let doings = [
            Doing::Submit { ports: 5, bytes: 1_048_576, later: true },
            Doing::Delete(0),
            Doing::Resubmit(1),
            Doing::MoveToBackup(2),
            Doing::Suspend(0),
            Doing::Hold(1),
            Doing::Resume(2),
            Doing::Terminate(0),
            Doing::Refused,
        ];
        let deeds = doings.into_iter().zip(7..).map(|(doing, message)| Deed { message, doing }).collect();
        let lines = [
            Line::Begin,
            Line::Opened,
            Line::Ports,
            Line::Intent { batch: 3, deeds },
            Line::Acknowledged { batch: 3 },
            Line::WrongBody { message: u64::MAX },
            Line::Failed("the disk is gone".to_owned()),
        ];
        for line in lines {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        assert_eq!("intent 3 s1:2".parse::<Line>(), Err(()), "a line cut short is none");
        assert_eq!("nonsense".parse::<Line>(), Err(()));
    }
}

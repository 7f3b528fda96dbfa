//! A topic's log, asked for in Kafka's protocol, as far as that is needed. Whoever reads it by a client's library sees what
//! the library makes of it: here every record is seen, and which end its transaction came to.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The numbers of requests: key and version.
const FETCH: (i16, i16) = (1, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);
/// How long an answer may take. One that takes longer has nothing.
const WAIT_MILLIS: i32 = 1_000;
/// How many answers a log may take.
const ASKED_MAX: usize = 100;
/// The most that one answer is to have.
const ANSWER_BYTES: i32 = 64 * 1024 * 1024;
/// What a broker says of a topic that is there already.
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// A batch's attributes: how it is compressed, whether it is a transaction's, and whether it is the mark of one's end.
const COMPRESSED: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it belongs together with.
    pub key: Vec<u8>,
    /// What it says.
    pub value: Vec<u8>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Whether readers see it who want only what is committed.
    pub fate: Fate,
}

/// What became of the transaction that a record is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was committed, or there was none.
    Committed,
    /// It was taken back.
    Aborted,
    /// It has not ended.
    Open,
}

impl Record {
    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8(found.1.clone()).unwrap())
    }
}

/// Makes a topic of one partition, unless it is there.
pub(super) async fn make(port: u16, topic: &str) -> Result<(), String> {
    let mut asked = Vec::new();
    asked.extend(1_i32.to_be_bytes());
    text(&mut asked, topic);
    // One partition, one copy of it, no places of one's own, no configuration.
    asked.extend(1_i32.to_be_bytes());
    asked.extend(1_i16.to_be_bytes());
    asked.extend([0; 8]);
    // A second, and in earnest.
    asked.extend(1_000_i32.to_be_bytes());
    asked.push(0);
    let answer = ask(port, CREATE_TOPICS, &asked).await.map_err(|error| error.to_string())?;
    let mut answer = Bytes(&answer);
    let (_throttled, _topics) = (answer.i32(), answer.i32());
    let _name = answer.text();
    match answer.i16() {
        0 | TOPIC_ALREADY_EXISTS => Ok(()),
        error => Err(format!("the topic is not made: error {error}")),
    }
}

/// Everything that a topic's only partition has.
pub(super) async fn read(port: u16, topic: &str) -> Vec<Record> {
    let mut log = Log::default();
    for _ask in 0..ASKED_MAX {
        let answer = ask(port, FETCH, &fetch(topic, log.end)).await.unwrap();
        let mut answer = Bytes(&answer);
        let (_throttled, _topics, _name) = (answer.i32(), answer.i32(), answer.text());
        let (_partitions, _partition) = (answer.i32(), answer.i32());
        assert_eq!(answer.i16(), 0, "{topic} cannot be read from {}", log.end);
        let (end, _stable) = (answer.i64(), answer.i64());
        for _aborted in 0..answer.i32() {
            answer.take(16);
        }
        let length = usize::try_from(answer.i32()).unwrap_or(0);
        log.add(Bytes(answer.take(length)));
        if log.end >= end {
            return log.records;
        }
    }
    panic!("{topic} gives nothing from {} on, where it has not ended", log.end)
}

fn fetch(topic: &str, from: i64) -> Vec<u8> {
    let mut asked = Vec::new();
    // Nobody's copy; within this time; whatever there is; what is not committed too.
    asked.extend((-1_i32).to_be_bytes());
    asked.extend(WAIT_MILLIS.to_be_bytes());
    asked.extend(1_i32.to_be_bytes());
    asked.extend(ANSWER_BYTES.to_be_bytes());
    asked.push(0);
    asked.extend(1_i32.to_be_bytes());
    text(&mut asked, topic);
    asked.extend(1_i32.to_be_bytes());
    asked.extend(0_i32.to_be_bytes());
    asked.extend(from.to_be_bytes());
    asked.extend(ANSWER_BYTES.to_be_bytes());
    asked
}

/// The body of the answer to a request.
async fn ask(port: u16, (key, version): (i16, i16), body: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(0_i32.to_be_bytes());
    text(&mut request, "kit");
    request.extend(body);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_i32(i32::try_from(request.len()).unwrap()).await?;
    stream.write_all(&request).await?;
    let length = usize::try_from(stream.read_i32().await?).unwrap();
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    // The number of the request.
    Ok(answer.split_off(4))
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// What was read so far.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    /// The producer of each.
    producers: Vec<i64>,
    end: i64,
}

impl Log {
    fn add(&mut self, mut batches: Bytes<'_>) {
        // The last one may be cut off.
        while batches.0.len() > 12 {
            let first = batches.i64();
            let length = usize::try_from(batches.i32()).unwrap();
            if batches.0.len() < length {
                return;
            }
            self.batch(first, Bytes(batches.take(length)));
        }
    }

    fn batch(&mut self, first: i64, mut batch: Bytes<'_>) {
        let _epoch_of_the_leader = batch.i32();
        assert_eq!(batch.take(1), [2], "records are in the format that Kafka has had since 0.11");
        let _checksum = batch.i32();
        let attributes = batch.i16();
        let next = first + i64::from(batch.i32()) + 1;
        let (_first_time, _last_time) = (batch.i64(), batch.i64());
        let producer = batch.i64();
        let (_epoch, _sequence) = (batch.i16(), batch.i32());
        let count = batch.i32();
        // One from before where it was asked for.
        if first < self.end {
            return;
        }
        self.end = next;
        assert_eq!(attributes & COMPRESSED, 0, "compressed records are not read");
        for _record in 0..count {
            let record = record(&mut batch, attributes);
            if attributes & CONTROL == 0 {
                self.records.push(record);
                self.producers.push(producer);
            } else {
                self.ended(producer, &record);
            }
        }
    }

    /// A mark says how a producer's transaction ended.
    fn ended(&mut self, producer: i64, mark: &Record) {
        let fate = match mark.key.as_slice() {
            [_, _, 0, 0] => Fate::Aborted,
            [_, _, 0, 1] => Fate::Committed,
            other => panic!("{other:?} is no mark that is known"),
        };
        for (record, of) in self.records.iter_mut().zip(&self.producers) {
            if *of == producer && record.fate == Fate::Open {
                record.fate = fate;
            }
        }
    }
}

fn record(batch: &mut Bytes<'_>, attributes: i16) -> Record {
    let length = usize::try_from(batch.varint()).unwrap();
    let mut record = Bytes(batch.take(length));
    let _attributes = record.take(1);
    let (_time, _offset) = (record.varint(), record.varint());
    let (key, value) = (record.sized(), record.sized());
    let headers = (0..record.varint()).map(|_| {
        let name = String::from_utf8(record.sized()).unwrap();
        (name, record.sized())
    });
    let headers = headers.collect();
    let fate = if attributes & TRANSACTIONAL == 0 { Fate::Committed } else { Fate::Open };
    Record { key, value, headers, fate }
}

/// Bytes that are read from their beginning.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    fn text(&mut self) -> &'a [u8] {
        let length = usize::try_from(self.i16()).unwrap_or(0);
        self.take(length)
    }

    /// Seven bits at a time, the lowest first, and the sign in the lowest one.
    fn varint(&mut self) -> i64 {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
    }

    /// As many bytes as are said before them; none where there is nothing at all.
    fn sized(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.varint()).unwrap_or(0);
        self.take(length).to_vec()
    }
}

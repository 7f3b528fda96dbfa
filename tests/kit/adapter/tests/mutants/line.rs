//! The adapter `line` with a place for each fault.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, BatchSender, Capabilities, CheckedSettings, DoubleSafety, OpenContext, Order,
    Outgoing, Reconciled, SendError, SettingProblem, Settings, SettingsError, Shape, TransactionId,
    TransactionalSender, Transport, TransportInfo,
};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

pub(crate) const PASSWORD: &str = "hunter2hunter2";
const BODY_BYTES_MAX: u64 = 25 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Keyed,
    AtLeastOnce,
    TwoPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    AcknowledgesEarly,
    DropsOnReset,
    Reorders,
    NewKeys,
    SendsTwice,
    NoLabels,
    NoDoubts,
    ClaimsKeys,
    IgnoresStop,
    WaitsForEver,
    ChangesBodies,
    CutsBodies,
    TriesAgain,
    NoLimit,
    IgnoresRefusals,
    OneSpoilsAll,
    GivesUp,
    SpareAnswers,
    OtherKind,
    AnySetting,
    ShowsPassword,
    ReadsAll,
    KeepsTurn,
    HalfAnswers,
    Impatient,
    CommitsEarly,
    ListsNothing,
    CommitsInParts,
    SaysLanded,
    SaysNotLanded,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LineKind {
    pub(crate) class: Class,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Debug, Clone, Deserialize)]
struct Written {
    port: u16,
    password: String,
    timeout_ms: u64,
}

impl LineKind {
    fn is(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn info(self) -> TransportInfo {
        let keyed = self.class == Class::Keyed || self.is(Mutant::ClaimsKeys);
        let safety = match self.class {
            Class::TwoPhase => DoubleSafety::TwoPhase,
            _ if keyed => DoubleSafety::Keyed(None),
            _ => DoubleSafety::AtLeastOnce,
        };
        let mut record = Capabilities::default()
            .double_safety(safety)
            .body_bytes_max(BODY_BYTES_MAX)
            .order(Order::InBatch)
            .streams();
        if self.class == Class::Keyed {
            record = record.reconciles();
        }
        if self.class == Class::TwoPhase {
            record = record.shape(Shape::TransactionalBatch).all_or_none();
        }
        if self.is(Mutant::OtherKind) {
            record = record.shape(Shape::SynchronousBatch);
        }
        TransportInfo {
            kind: "line",
            name: "Line",
            version: "1",
            description: "sends each message as a line",
            capabilities: record,
            uri_prefixes: &[],
        }
    }
}

impl AdapterKind for LineKind {
    fn describe(&self) -> TransportInfo {
        self.info()
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        let mut read = settings.clone();
        if self.is(Mutant::AnySetting) {
            read = Settings::default();
            for key in ["port", "password", "timeout_ms"] {
                read = read.with(key, settings.get(key).cloned().unwrap_or_default());
            }
        }
        let written: Written = read.parse()?;
        if written.password.is_empty() {
            let reason = "write the password".to_owned();
            return Err(SettingsError(vec![SettingProblem { key: "password".to_owned(), reason }]));
        }
        Ok(Box::new(Checked(Line { kind: *self, port: written.port, timeout_ms: written.timeout_ms })))
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    kind: LineKind,
    port: u16,
    timeout_ms: u64,
}

#[derive(Debug)]
struct Checked(Line);

#[async_trait]
impl CheckedSettings for Checked {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        let sender = LineSender { line: self.0, kept: Arc::default(), turn: Arc::new(AtomicBool::new(true)) };
        Ok(match self.0.kind.class {
            Class::TwoPhase => Adapter::transactional(sender),
            Class::Keyed | Class::AtLeastOnce => Adapter::batch_sender(sender),
        })
    }
}

type Connection = BufReader<TcpStream>;

#[derive(Debug)]
struct LineSender {
    line: Line,
    /// The connection of the batch before.
    kept: Arc<Mutex<Option<Connection>>>,
    /// For the one that keeps its turn.
    turn: Arc<AtomicBool>,
}

fn broken(error: io::Error) -> SendError {
    SendError::temporary("the connection broke").caused_by(error)
}

impl LineSender {
    fn is(&self, mutant: Mutant) -> bool {
        self.line.kind.is(mutant)
    }

    async fn connect(&self) -> Result<Connection, SendError> {
        match TcpStream::connect(("127.0.0.1", self.line.port)).await {
            Ok(stream) => stream.set_nodelay(true).map(|()| BufReader::new(stream)).map_err(broken),
            Err(error) if self.is(Mutant::GivesUp) => {
                Err(SendError::permanent("cannot connect").caused_by(error))
            }
            Err(error) if self.is(Mutant::ShowsPassword) => {
                Err(SendError::temporary(format!("cannot connect as {PASSWORD}")).caused_by(error))
            }
            Err(error) => Err(broken(error)),
        }
    }

    async fn ask(&self, connection: &mut Connection, words: &str) -> Result<String, SendError> {
        connection.get_mut().write_all(words.as_bytes()).await.map_err(broken)?;
        self.answer(connection).await
    }

    async fn answer(&self, connection: &mut Connection) -> Result<String, SendError> {
        let mut answer = String::new();
        match connection.read_line(&mut answer).await {
            Ok(_) if answer.ends_with('\n') => {}
            // Something came: it will have been an OK.
            Ok(_) if self.is(Mutant::HalfAnswers) => return Ok("OK\n".to_owned()),
            Ok(_) => return Err(SendError::temporary("the connection ended before the answer")),
            Err(_) if self.is(Mutant::HalfAnswers) => return Ok("OK\n".to_owned()),
            Err(error) => return Err(broken(error)),
        }
        Ok(answer)
    }

    /// Sends one message, in a transaction where there is one.
    async fn put(
        &self,
        connection: &mut Connection,
        message: &Outgoing,
        transaction: Option<&str>,
    ) -> Result<(), SendError> {
        let most = if self.is(Mutant::NoLimit) { u64::MAX } else { BODY_BYTES_MAX };
        let (body, length) = (message.body(), message.body().len());
        if length > most {
            let text = format!("the body has {length} bytes");
            let again = self.is(Mutant::TriesAgain) && message.attempt() < 3;
            return Err(if again { SendError::temporary(text) } else { SendError::permanent(text) });
        }
        let length = if self.is(Mutant::CutsBodies) { length.min(262_144) } else { length };
        let mut key = message.send_key().to_owned();
        if self.is(Mutant::NewKeys) {
            key = format!("{key}/{}", message.attempt());
        }
        let attempt = if self.is(Mutant::NoLabels) { 1 } else { message.attempt() };
        let is_hidden = self.is(Mutant::NoLabels) || self.is(Mutant::NoDoubts);
        let doubt = if message.in_doubt() && !is_hidden { "?" } else { "" };
        let transaction = transaction.map(|name| format!(" {name}")).unwrap_or_default();
        let head = format!("PUT {key} {attempt}{doubt} {length}{transaction}\n");
        let unreadable = |error| SendError::temporary("unreadable").caused_by(error);
        let mut whole = Vec::new();
        if self.is(Mutant::ReadsAll) {
            whole = body.to_bytes().map_err(unreadable)?.to_vec();
        }
        connection.get_mut().write_all(head.as_bytes()).await.map_err(broken)?;
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        for index in 0..body.fragments() {
            let mut fragment = body.fragment(index).map_err(unreadable)?.to_vec();
            if self.is(Mutant::ChangesBodies) {
                fragment.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
            }
            fragment.truncate(left);
            left -= fragment.len();
            connection.get_mut().write_all(&fragment).await.map_err(broken)?;
        }
        drop(whole);
        if self.is(Mutant::AcknowledgesEarly) {
            return Ok(());
        }
        let answer = self.answer(connection).await?;
        match answer.as_str() {
            "OK\n" => Ok(()),
            _ if self.is(Mutant::IgnoresRefusals) => Ok(()),
            refused => Err(SendError::permanent(format!("refused: {}", refused.trim_end()))),
        }
    }

    async fn send_all(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        let mut kept = None;
        if self.is(Mutant::SpareAnswers) {
            kept = self.kept.lock().await.take();
        }
        let connected = match kept {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => return messages.iter().map(|_| Err(again(&error))).collect(),
        };
        let mut outcomes = Vec::new();
        let mut order: Vec<&Outgoing> = messages.iter().collect();
        if self.is(Mutant::Reorders) {
            order.reverse();
        }
        for message in order {
            let mut outcome = self.put(&mut connection, message, None).await;
            if self.is(Mutant::SendsTwice) && outcome.is_ok() {
                outcome = self.put(&mut connection, message, None).await;
            }
            let is_broken = outcome.as_ref().is_err_and(|error| error.to_string().contains("connection"));
            if is_broken && self.is(Mutant::DropsOnReset) {
                outcome = Ok(());
            }
            outcomes.push(outcome);
            if is_broken {
                match self.connect().await {
                    Ok(another) => connection = another,
                    Err(error) => {
                        outcomes.extend((outcomes.len()..messages.len()).map(|_| Err(again(&error))));
                        break;
                    }
                }
            }
        }
        if self.is(Mutant::SpareAnswers) && outcomes.iter().all(Result::is_ok) {
            *self.kept.lock().await = Some(connection);
        }
        if self.is(Mutant::OneSpoilsAll) && outcomes.iter().any(Result::is_err) {
            return messages.iter().map(|_| Err(SendError::permanent("one is refused"))).collect();
        }
        outcomes
    }

    fn patience(&self) -> Duration {
        match self.line.kind.mutant {
            Some(Mutant::WaitsForEver) => Duration::from_secs(3600),
            Some(Mutant::Impatient) => Duration::from_millis(10),
            _ => Duration::from_millis(self.line.timeout_ms),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, SendError>>) -> Result<T, SendError> {
        let late = |_| Err(SendError::temporary(format!("no answer within {:?}", self.patience())));
        tokio::time::timeout(self.patience(), work).await.unwrap_or_else(late)
    }
}

fn again(error: &SendError) -> SendError {
    match error.class() {
        pillarbox_runtime::adapter::ErrorClass::Permanent => SendError::permanent(error.to_string()),
        _ => SendError::temporary(error.to_string()),
    }
}

impl Transport for LineSender {
    fn describe(&self) -> TransportInfo {
        self.line.kind.info()
    }
}

#[async_trait]
impl BatchSender for LineSender {
    async fn send_batch(&self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        if self.is(Mutant::KeepsTurn) {
            if !self.turn.swap(false, Ordering::SeqCst) {
                return messages.iter().map(|_| Err(SendError::temporary("it is another's turn"))).collect();
            }
            let outcomes = self.send_all(messages).await;
            self.turn.store(true, Ordering::SeqCst);
            return outcomes;
        }
        let sent = tokio::time::timeout(self.patience(), self.send_all(messages)).await;
        let late = |_| messages.iter().map(|_| Err(SendError::temporary("no answer in time"))).collect();
        sent.unwrap_or_else(late)
    }

    async fn reconcile(&self, message: &Outgoing) -> Result<Reconciled, SendError> {
        match self.line.kind.mutant {
            Some(Mutant::SaysLanded) => return Ok(Reconciled::Landed),
            Some(Mutant::SaysNotLanded) => return Ok(Reconciled::NotLanded),
            _ => {}
        }
        self.in_time(async {
            let words = format!("HAS {}\n", message.send_key());
            match self.ask(&mut self.connect().await?, &words).await?.as_str() {
                "YES\n" => Ok(Reconciled::Landed),
                // What is on its way may still come.
                _ => Ok(Reconciled::Unknown),
            }
        })
        .await
    }

    async fn close(&self) {
        if self.is(Mutant::IgnoresStop) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl TransactionalSender for LineSender {
    async fn prepare(&self, transaction: &TransactionId, messages: &[Outgoing]) -> Result<(), SendError> {
        self.in_time(async {
            let mut connection = self.connect().await?;
            for message in messages {
                let name = (!self.is(Mutant::CommitsEarly)).then_some(transaction.as_str());
                self.put(&mut connection, message, name).await?;
            }
            if self.is(Mutant::CommitsInParts) {
                // The last message goes out by itself.
                if let [.., last] = messages {
                    self.put(&mut connection, last, None).await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn commit(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.in_time(async {
            let words = format!("COMMIT {transaction}\n");
            self.ask(&mut self.connect().await?, &words).await.map(drop)
        })
        .await
    }

    async fn roll_back(&self, transaction: &TransactionId) -> Result<(), SendError> {
        self.in_time(async {
            let words = format!("ROLLBACK {transaction}\n");
            self.ask(&mut self.connect().await?, &words).await.map(drop)
        })
        .await
    }

    fn destination(&self) -> String {
        "lines".to_owned()
    }

    async fn prepared(&self, prefix: &str) -> Result<Vec<TransactionId>, SendError> {
        if self.is(Mutant::ListsNothing) {
            return Ok(Vec::new());
        }
        self.in_time(async {
            let answer = self.ask(&mut self.connect().await?, "LIST\n").await?;
            let names = answer.split_whitespace().skip(1).filter(|name| name.starts_with(prefix));
            Ok(names.filter_map(TransactionId::parse).collect())
        })
        .await
    }
}

//! The command line's grammar.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pillarbox_store::inspect::Naming;
use pillarbox_store::{DeliveryId, DeliveryState, DoubtVerdict, MessageId, PortName, Timestamp};

use crate::config::{listen, values};
use crate::secret::SecretRef;

/// A durable outbox: what is handed to it is on disk before it answers, and reaches its destination.
#[derive(Debug, Parser)]
#[command(name = "pillarbox", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Commands talk to the running server; where none runs, they open the data folder themselves.\n\
                        Exit codes: 0 done, 1 failed, 2 wrong use or configuration."
)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The configuration file [default: ./pillarbox.toml where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "PILLARBOX_CONFIG")]
    pub config: Option<PathBuf>,
    /// Talk to this server, http://HOST:PORT
    #[arg(long, global = true, value_name = "URL", conflicts_with = "data")]
    pub server: Option<String>,
    /// Where the server's token is: env:NAME or file:PATH [default: the configuration's]
    #[arg(long, global = true, value_name = "REFERENCE", value_parser = SecretRef::parse)]
    pub token: Option<SecretRef>,
    /// Use this data folder, not the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON, with the API's field names
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log to standard error, `info` or `pillarbox_runtime=debug,warn` say
    #[arg(long, global = true, value_name = "FILTER", env = "PILLARBOX_LOG")]
    pub log: Option<String>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: take messages over HTTP and send them
    Serve(Serve),
    /// Put files, folders or standard input into the box
    Submit(Submit),
    /// List deliveries
    Ls(Ls),
    /// Show a message or a delivery with every attempt
    Show(Show),
    /// Send suspended deliveries again
    Resume(Settle),
    /// End deliveries without sending them; their trace stays
    Terminate(Terminate),
    /// List and settle deliveries of which nobody knows whether they were sent, for a crash came between
    #[command(subcommand)]
    Indoubt(Indoubt),
    /// List the ports with their deliveries by state
    Ports,
    /// Hold back a port's deliveries
    Pause(PortArg),
    /// Send a paused port's deliveries again
    Unpause(PortArg),
    /// Check the configuration without opening anything
    CheckConfig,
    /// Read everything in a data folder that is not open and tell what is damaged; nothing is changed. Exit codes: 0
    /// whole, 1 damaged, 3 it cannot be read
    Check,
    /// Copy what is whole in a damaged data folder into a new one; nothing is changed in the old one. Exit codes: 0
    /// everything is saved, 1 something is missing and listed, 3 it cannot be done
    Salvage(Salvage),
    /// See it work: a folder of files, a destination that fails at random, and a server that is killed midway
    Demo(crate::demo::Options),
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Listen here, not where the configuration says; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", value_parser = listen)]
    pub listen: Option<SocketAddr>,
}

/// `submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// The port
    #[arg(value_name = "PORT")]
    pub port: PortName,
    /// Files, folders (every file below them), or - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// A header for every message; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The message's id, a UUID: the same again is taken once. For a single file
    #[arg(long, value_name = "UUID")]
    pub message_id: Option<MessageId>,
    /// Do not send before this RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub not_before: Option<Timestamp>,
}

/// `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Which deliveries.
    #[command(flatten)]
    pub which: Which,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Only those with a higher number
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<DeliveryId>,
    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Which deliveries.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Only of this port
    #[arg(long, value_name = "PORT")]
    pub port: Option<PortName>,
    /// Only in this state: ready, scheduled, retry-wait, leased, suspended, in-doubt, done,
    /// terminated
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Option<DeliveryState>,
}

/// `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A message's UUID or a delivery's number
    #[arg(value_name = "ID")]
    pub id: Id,
}

/// `resume`.
#[derive(Debug, Args)]
pub struct Settle {
    /// Deliveries' numbers, or messages' UUIDs for all their open deliveries
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<Id>,
    /// Which deliveries, together with --all.
    #[command(flatten)]
    pub which: Which,
    /// Every suspended delivery, or every one that --port and --state tell
    #[arg(long)]
    pub all: bool,
}

/// `terminate`.
#[derive(Debug, Args)]
pub struct Terminate {
    /// Which.
    #[command(flatten)]
    pub settle: Settle,
    /// Why; kept in the trace
    #[arg(long, value_name = "TEXT", default_value = "terminated on the command line")]
    pub reason: String,
    /// Yes, all of them
    #[arg(long)]
    pub yes: bool,
}

/// `indoubt`.
#[derive(Debug, Subcommand)]
pub enum Indoubt {
    /// List deliveries in doubt: held, suspended, or waiting to be sent again
    Ls(Ls),
    /// Say what became of deliveries in doubt, or is to become of them
    Settle(SettleDoubt),
    /// Forget transactions that `ports` shows as prepared at a destination to which no route goes any more, since
    /// somebody has committed them there by hand
    Forget(ForgetPrepared),
}

/// `indoubt forget`.
#[derive(Debug, Args)]
pub struct ForgetPrepared {
    /// Their names, as `ports` shows them
    #[arg(value_name = "TRANSACTION", required = true)]
    pub transactions: Vec<String>,
    /// Yes, they have been committed there, or their messages may be missing
    #[arg(long)]
    pub yes: bool,
}

/// `indoubt settle`.
#[derive(Debug, Args)]
pub struct SettleDoubt {
    /// Deliveries' numbers, or messages' UUIDs for all their deliveries in doubt
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<Id>,
    /// Every delivery in doubt that is not being sent right now
    #[arg(long)]
    pub all: bool,
    /// Together with --all: only those of this port
    #[arg(long, value_name = "PORT", conflicts_with = "ids")]
    pub port: Option<PortName>,
    /// landed: the destination has it, it is done and not sent again. resend: it is sent again, under the same send
    /// key. suspend: it is parked until it is resumed or terminated
    #[arg(long = "as", value_name = "VERDICT", value_parser = verdict)]
    pub verdict: DoubtVerdict,
    /// Yes, all of them have landed
    #[arg(long)]
    pub yes: bool,
}

/// `salvage`.
#[derive(Debug, Args)]
pub struct Salvage {
    /// The new data folder; it must not be there, or be empty
    #[arg(long, value_name = "NEW")]
    pub to: PathBuf,
    /// The name of a port whose own is lost, as `check` tells: NUMBER=NAME; may be repeated
    #[arg(long = "port", value_name = "NUMBER=NAME", value_parser = naming)]
    pub names: Vec<Naming>,
}

/// `pause` and `unpause`.
#[derive(Debug, Args)]
pub struct PortArg {
    /// The port
    #[arg(value_name = "PORT")]
    pub port: PortName,
}

/// A message's UUID or a delivery's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// A message.
    Message(MessageId),
    /// A delivery.
    Delivery(DeliveryId),
}

impl std::str::FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('#').unwrap_or(text);
        if let Ok(number) = number.parse() {
            return Ok(Self::Delivery(number));
        }
        text.parse().map(Self::Message).map_err(|_| {
            "this is neither a message's UUID nor a delivery's number; `pillarbox ls` lists both".to_owned()
        })
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is NAME=VALUE".to_owned()),
    }
}

fn naming(text: &str) -> Result<Naming, String> {
    let (number, name) = text.split_once('=').ok_or("a port is named as NUMBER=NAME")?;
    let number = number.parse().map_err(|_| "a port's number is what `pillarbox check` tells")?;
    Ok(Naming { number, name: name.parse::<PortName>().map_err(|error| error.to_string())? })
}

fn state(text: &str) -> Result<DeliveryState, String> {
    crate::api::read_state(text).map_err(|problem| problem.detail)
}

fn verdict(text: &str) -> Result<DoubtVerdict, String> {
    DoubtVerdict::parse(text).ok_or_else(|| {
        let known = DoubtVerdict::ALL.map(DoubtVerdict::as_str).join(", ");
        format!("take one of {known}")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn submit_takes_headers_and_paths() {
        let cli =
            Cli::try_parse_from(["pillarbox", "submit", "orders", "a", "-", "--header", "x=1=2", "--json"])
                .expect("it is right");
        assert!(cli.global.json);
        let Command::Submit(submit) = cli.command else { panic!("not submit") };
        assert_eq!(submit.headers, [("x".to_owned(), "1=2".to_owned())]);
        assert_eq!(submit.paths, [PathBuf::from("a"), PathBuf::from("-")]);
    }

    #[test]
    fn ids_are_numbers_or_uuids() {
        assert_eq!("17".parse(), Ok(Id::Delivery(DeliveryId::new(17))));
        assert_eq!("#17".parse(), Ok(Id::Delivery(DeliveryId::new(17))));
        assert!(matches!("0198a0c4-7d5e-7000-8000-000000000000".parse(), Ok(Id::Message(_))));
        assert!("seventeen".parse::<Id>().is_err());
    }

    #[test]
    fn doubts_are_settled_by_id_or_all_of_a_port() {
        let read = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["pillarbox", "indoubt"], args].concat()).expect("it is right");
            let Command::Indoubt(indoubt) = cli.command else { panic!("not indoubt") };
            indoubt
        };
        let Indoubt::Settle(some) = read(&["settle", "3", "#4", "--as", "landed"]) else {
            panic!("not settle")
        };
        assert_eq!(some.ids, [3, 4].map(|number| Id::Delivery(DeliveryId::new(number))));
        assert_eq!(some.verdict, DoubtVerdict::Landed);
        let all = read(&["settle", "--all", "--port", "orders", "--as", "resend"]);
        let Indoubt::Settle(all) = all else { panic!("not settle") };
        assert!(all.all && all.ids.is_empty());
        assert_eq!(all.port.map(|port| port.to_string()).as_deref(), Some("orders"));
        let listed = read(&["ls", "--port", "orders", "--after", "7", "--all"]);
        let Indoubt::Ls(listed) = listed else { panic!("not ls") };
        assert_eq!((listed.after, listed.all), (Some(DeliveryId::new(7)), true));
    }

    #[test]
    fn wrong_use_is_refused() {
        for wrong in [
            &["pillarbox", "submit", "orders"][..],
            &["pillarbox", "submit", "no port", "a"],
            &["pillarbox", "ls", "--state", "sleeping"],
            &["pillarbox", "resume"],
            &["pillarbox", "resume", "1", "--all"],
            &["pillarbox", "ls", "--token", "hunter2"],
            &["pillarbox", "ls", "--server", "http://a", "--data", "b"],
            &["pillarbox", "serve", "--listen", "here"],
            &["pillarbox", "indoubt"],
            &["pillarbox", "indoubt", "forget", "--yes"],
            &["pillarbox", "indoubt", "settle", "1"],
            &["pillarbox", "indoubt", "settle", "1", "--as", "lost"],
            &["pillarbox", "indoubt", "settle", "--as", "landed"],
            &["pillarbox", "indoubt", "settle", "1", "--all", "--as", "landed"],
            &["pillarbox", "indoubt", "settle", "1", "--port", "orders", "--as", "landed"],
            &["pillarbox", "salvage"],
            &["pillarbox", "salvage", "--to", "a", "--port", "orders"],
            &["pillarbox", "salvage", "--to", "a", "--port", "x=orders"],
        ] {
            let error = Cli::try_parse_from(wrong).expect_err("it is wrong");
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}

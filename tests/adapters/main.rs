//! Runs the adapters against their real destinations and checks every claim of their records. `cargo xtask kit` runs it.

#![expect(clippy::print_stdout, reason = "this program is read in a terminal")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a destination that cannot be started or looked into ends the run"
)]

mod amqp;
mod exec;
mod file;
mod http;
mod kafka;
mod mqtt;
mod nats;
mod postgres;
mod redis;
mod s3;
mod sftp;
mod smtp;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use futures_util::StreamExt as _;
use pillarbox_adapter_kit::{Effort, Report, Subject, Verdict, check_with, claims};
use pillarbox_adapters::registry;
use pillarbox_runtime::adapter::AdapterKind;

/// The claim whose check looks at the memory of this process.
const MEMORY: &str = "streams";

/// Checks the adapters' claims.
#[derive(Debug, Parser)]
#[command(name = "kit", bin_name = "cargo xtask kit")]
struct Args {
    /// The adapters to check, by their kind or by the name in the table; all unless told otherwise
    adapters: Vec<String>,
    /// At how many places of an exchange a connection is cut, each way
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// How many adapters are checked at once: they spend most of it waiting
    #[arg(long, default_value_t = 3)]
    together: usize,
    /// Only these claims
    #[arg(long)]
    claim: Vec<String>,
    /// The page that takes the table
    #[arg(long)]
    page: Option<PathBuf>,
}

/// Every subject. A new adapter is a file of this folder and a line here.
fn subjects() -> Vec<Box<dyn Subject>> {
    let mut all: Vec<Box<dyn Subject>> = Vec::new();
    all.extend(amqp::subjects());
    all.extend(exec::subjects());
    all.extend(file::subjects());
    all.extend(http::subjects());
    all.extend(kafka::subjects());
    all.extend(mqtt::subjects());
    all.extend(nats::subjects());
    all.extend(postgres::subjects());
    all.extend(redis::subjects());
    all.extend(s3::subjects());
    all.extend(sftp::subjects());
    all.extend(smtp::subjects());
    all
}

/// The kind of this name.
fn kind(name: &str) -> Arc<dyn AdapterKind> {
    Arc::clone(registry().get(name).unwrap())
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = |subject: &dyn Subject| {
        let named = |name: &String| *name == subject.name() || *name == subject.kind().describe().kind;
        args.adapters.is_empty() || args.adapters.iter().any(named)
    };
    let subjects: Vec<_> = subjects().into_iter().filter(|one| wanted(one.as_ref())).collect();
    if subjects.is_empty() {
        println!("no adapter is named {}", args.adapters.join(", "));
        return ExitCode::FAILURE;
    }
    if let Some(unknown) = args.claim.iter().find(|name| !claims().any(|claim| claim == name.as_str())) {
        println!("no claim is named {unknown:?}; there are: {}", claims().collect::<Vec<_>>().join(", "));
        return ExitCode::FAILURE;
    }
    let reports = check_all(&subjects, &args).await;
    let table: String = reports.iter().map(Report::row).collect();
    // What an adapter says of itself is seen in whole only by all of the claims.
    if args.claim.is_empty() {
        println!("\n{}{table}", Report::table_head());
    }
    reports.iter().for_each(|report| println!("{report}"));
    if let Some(page) = args.page.filter(|_| args.adapters.is_empty() && args.claim.is_empty()) {
        let table = format!("{}{table}", Report::table_head());
        if let Err(error) = pillarbox_tests::proof::write(&page, "adapter claims", &table) {
            println!("{}: {error}", page.display());
            return ExitCode::FAILURE;
        }
    }
    let broken = reports.iter().any(|report| report.broken().next().is_some());
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Checks each subject. What looks at the memory of this process comes first, one subject after another.
async fn check_all(subjects: &[Box<dyn Subject>], args: &Args) -> Vec<Report> {
    let wanted = |name: &&str| args.claim.is_empty() || args.claim.iter().any(|claim| claim == name);
    let (alone, together): (Vec<&str>, Vec<&str>) = claims().filter(wanted).partition(|name| *name == MEMORY);
    let effort = |only: &[&str]| {
        let only = only.iter().copied().map(str::to_owned).collect();
        Effort { rounds: args.rounds, only, ..Effort::default() }
    };
    let mut first = Vec::new();
    for subject in subjects {
        first.push(if alone.is_empty() { None } else { Some(tell(subject.as_ref(), &effort(&alone)).await) });
    }
    let checking = subjects.iter().zip(first).enumerate().map(async |(place, (subject, first))| {
        if together.is_empty() {
            return (place, first);
        }
        let mut report = tell(subject.as_ref(), &effort(&together)).await;
        report.claims.splice(0..0, first.into_iter().flat_map(|first| first.claims));
        (place, Some(report))
    });
    // As they end: one that takes long holds up nobody.
    let checking = futures_util::stream::iter(checking).buffer_unordered(args.together.max(1));
    let mut reports: Vec<(usize, Option<Report>)> = checking.collect().await;
    reports.sort_by_key(|(place, _)| *place);
    reports.into_iter().filter_map(|(_, report)| report).collect()
}

/// Checks a subject and tells of each claim.
async fn tell(subject: &dyn Subject, effort: &Effort) -> Report {
    check_with(subject, effort, |one| {
        let seconds = one.took.as_secs_f64();
        let (name, claim, verdict) = (subject.name(), one.claim, shown(&one.verdict));
        println!("{name:30} {claim:20} {seconds:5.1} s  {verdict}");
    })
    .await
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Kept => "true".to_owned(),
        Verdict::Broken(reason) => format!("NOT TRUE: {reason}"),
        Verdict::NotChecked(why) => format!("not checked: {why}"),
    }
}

//! `submit`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use pillarbox_store::{Headers, IdSource};
use serde_json::json;

use crate::backend::{Backend, Input};
use crate::cli::Submit;
use crate::failure::Failure;
use crate::output::Output;
use crate::problem::Problem;
use crate::service::Submission;
use crate::wire::Submitted;

/// Submissions at once: enough for the box to share its flushes between them.
const AT_ONCE: usize = 32;
/// So many files are worth a progress bar.
const MANY: usize = 16;
/// The header with the file's name.
const FILE_NAME: &str = "file-name";

type Outcome = (String, Result<Submitted, Problem>);

pub(super) async fn run(submit: &Submit, backend: &Backend, output: Output) -> Result<(), Failure> {
    let mut headers = Headers::default();
    for (name, value) in &submit.headers {
        headers.set(name, value.as_str()).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let (inputs, skipped) = collect(&submit.paths)?;
    for path in &skipped {
        output.note(&format!("skipped {}: neither a file nor a folder", path.display()));
    }
    if submit.message_id.is_some() && inputs.len() != 1 {
        let what = format!("--message-id names one message, but there are {} files", inputs.len());
        return Err(Failure::usage(what).next("give one file, or leave --message-id out"));
    }
    let progress = if inputs.len() >= MANY && std::io::stderr().is_terminal() {
        ProgressBar::new(inputs.len() as u64).with_style(style())
    } else {
        ProgressBar::hidden()
    };
    // Named here, so that a repeat after a lost answer is recognised.
    let ids = IdSource::system();
    let outcomes = stream::iter(inputs)
        .map(|input| {
            let id = submit.message_id.unwrap_or_else(|| ids.message());
            let headers = headers.clone();
            async move {
                let name = name(&input);
                let submission = with_name(headers, &input).map(|headers| Submission {
                    port: submit.port.clone(),
                    message_id: Some(id),
                    headers,
                    not_before: submit.not_before,
                });
                let done = match submission {
                    Ok(submission) => Box::pin(backend.submit(submission, &input)).await,
                    Err(problem) => Err(problem),
                };
                (name, done.map_err(|problem| problem.with("message_id", id.to_string())))
            }
        })
        .buffered(AT_ONCE);
    let mut outcomes = std::pin::pin!(outcomes);
    let mut all: Vec<Outcome> = Vec::new();
    while let Some((name, done)) = outcomes.next().await {
        progress.inc(1);
        if let (Ok(taken), false) = (&done, output.is_json()) {
            progress
                .suspend(|| output.line(&format!("{} {} {name}", taken.message_id, taken.delivery_id)))?;
        }
        all.push((name, done));
    }
    progress.finish_and_clear();
    tell(&all, output)
}

fn style() -> ProgressStyle {
    let plain = ProgressStyle::default_bar();
    plain.clone().template("{pos}/{len} submitted {wide_bar} {eta}").unwrap_or(plain)
}

fn name(input: &Input) -> String {
    match input {
        Input::File(path) => path.display().to_string(),
        Input::Stdin => "-".to_owned(),
    }
}

/// The headers with the file's name, unless one was given by hand.
fn with_name(mut headers: Headers, input: &Input) -> Result<Headers, Problem> {
    if let Input::File(path) = input
        && let Some(name) = path.file_name()
        && headers.get(FILE_NAME).is_none()
    {
        let name: String =
            name.to_string_lossy().chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        headers.set(FILE_NAME, name)?;
    }
    Ok(headers)
}

/// Every file that is meant, in a stable order, and what was found beside files and folders.
fn collect(paths: &[PathBuf]) -> Result<(Vec<Input>, Vec<PathBuf>), Failure> {
    let (mut inputs, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        if path == Path::new("-") {
            if inputs.contains(&Input::Stdin) {
                return Err(Failure::usage("standard input can be taken once only"));
            }
            inputs.push(Input::Stdin);
            continue;
        }
        let metadata = std::fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
        if metadata.is_dir() {
            walk(path, &mut inputs, &mut skipped)?;
        } else {
            inputs.push(Input::File(path.clone()));
        }
    }
    Ok((inputs, skipped))
}

/// Every file below a folder. Links to files are followed, links to folders are not: they may lead in circles.
fn walk(top: &Path, inputs: &mut Vec<Input>, skipped: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.map_err(|error| cannot_read(&folder, &error))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        let mut below = Vec::new();
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| cannot_read(&path, &error))?;
            if kind.is_dir() {
                below.push(path);
            } else if std::fs::metadata(&path).is_ok_and(|target| target.is_file()) {
                inputs.push(Input::File(path));
            } else {
                skipped.push(path);
            }
        }
        // The stack's top is next.
        folders.extend(below.into_iter().rev());
    }
    Ok(())
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be read: {error}; nothing was submitted", path.display()))
        .next("correct the path, or its permissions")
}

fn tell(all: &[Outcome], output: Output) -> Result<(), Failure> {
    let failed: Vec<(&str, &Problem)> =
        all.iter().filter_map(|(name, done)| Some((name.as_str(), done.as_ref().err()?))).collect();
    if output.is_json() {
        let taken: Vec<_> = all
            .iter()
            .filter_map(|(name, done)| done.as_ref().ok().map(|taken| (name, taken)))
            .map(|(name, taken)| {
                json!({
                    "message_id": taken.message_id,
                    "delivery_id": taken.delivery_id,
                    "duplicate": taken.duplicate,
                    "path": name,
                })
            })
            .collect();
        let failures: Vec<_> =
            failed.iter().map(|(name, problem)| json!({"path": name, "problem": problem})).collect();
        output.result(&json!({"submitted": taken, "failed": failures}), String::new)?;
    }
    if all.is_empty() {
        output.note("there are no files below these paths; nothing was submitted");
    }
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let mut what = format!("{} of {} were not accepted, or that is not known:", failed.len(), all.len());
    for (name, problem) in &failed {
        what.push_str(&format!("\n  {name}: {}", problem.detail));
        if let (503, Some(id)) = (problem.status, problem.fields.get("message_id").and_then(|id| id.as_str()))
        {
            what.push_str(&format!(" (message id {id})"));
        }
    }
    let next = Failure::from((*first).clone()).next.unwrap_or_else(|| {
        "submit those again; with --message-id and the id above one is never taken twice".to_owned()
    });
    Err(Failure::new(what).next(next))
}

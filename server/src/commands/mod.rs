//! The commands. Each is written once, against a [`Backend`]: a running server or the opened data folder.

mod check;
mod check_config;
mod indoubt;
mod inspected;
mod ls;
mod ports;
mod salvage;
mod settle;
mod show;
mod submit;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use pillarbox_adapters::Registry;

use crate::backend::{Backend, Creation, find};
use crate::cli::{Cli, Command, Global};
use crate::config::{self, Config};
use crate::demo;
use crate::failure::Failure;
use crate::output::Output;
use crate::serve;

/// Runs a command line: the exit code is 0 where it did what it was asked, 1 where that failed, 2 where it was
/// used or configured wrongly; `check` and `salvage` end with 3 where they cannot look.
#[must_use]
pub fn main(cli: &Cli, kinds: &Registry) -> ExitCode {
    let output = Output::new(cli.global.json);
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match threads {
        Ok(threads) => {
            let done = threads.block_on(run(cli, kinds, output));
            // A read of standard input that nobody waits for any more must not hold up the end.
            threads.shutdown_background();
            done
        }
        Err(error) => Err(Failure::new(format!("threads cannot be started: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.note(&failure.to_string());
            ExitCode::from(failure.code)
        }
    }
}

async fn run(cli: &Cli, kinds: &Registry, output: Output) -> Result<(), Failure> {
    if matches!(cli.command, Command::CheckConfig) {
        return check_config::run(&cli.global, kinds, output);
    }
    if let Command::Demo(options) = &cli.command {
        crate::logs::start(cli.global.log.as_deref().unwrap_or("warn"))?;
        return Box::pin(demo::run(options, output)).await;
    }
    let config = load(&cli.global, kinds)?;
    if let Command::Serve(serve) = &cli.command {
        return Box::pin(serve::run(serve, &cli.global, config, output)).await;
    }
    match &cli.command {
        // What they find they tell themselves.
        Command::Check => {
            crate::logs::start(cli.global.log.as_deref().unwrap_or("off"))?;
            return check::run(&cli.global, &config, output);
        }
        Command::Salvage(salvage) => {
            crate::logs::start(cli.global.log.as_deref().unwrap_or("off"))?;
            return salvage::run(salvage, &cli.global, &config, output);
        }
        _ => {}
    }
    crate::logs::start(cli.global.log.as_deref().unwrap_or("warn"))?;
    let creation =
        if matches!(cli.command, Command::Submit(_)) { Creation::Allowed } else { Creation::Refused };
    let backend = find(&cli.global, &config, creation).await?;
    let done = Box::pin(with_backend(&cli.command, &backend, output)).await;
    let closed = backend.close().await;
    done?;
    Ok(closed?)
}

async fn with_backend(command: &Command, backend: &Backend, output: Output) -> Result<(), Failure> {
    match command {
        Command::Submit(submit) => submit::run(submit, backend, output).await,
        Command::Ls(ls) => ls::run(ls, backend, output).await,
        Command::Show(show) => show::run(show, backend, output).await,
        Command::Resume(settle) => settle::resume(settle, backend, output).await,
        Command::Terminate(terminate) => settle::terminate(terminate, backend, output).await,
        Command::Indoubt(indoubt) => indoubt::run(indoubt, backend, output).await,
        Command::Ports => ports::run(backend, output).await,
        Command::Pause(arg) => ports::pause(&arg.port, true, backend, output).await,
        Command::Unpause(arg) => ports::pause(&arg.port, false, backend, output).await,
        Command::Serve(_)
        | Command::CheckConfig
        | Command::Demo(_)
        | Command::Check
        | Command::Salvage(_) => Ok(()),
    }
}

/// The configuration, with what the command line puts in its place.
fn load(global: &Global, kinds: &Registry) -> Result<Config, Failure> {
    let mut config = config::load(global.config.as_deref(), kinds)?;
    if let Some(data) = &global.data {
        config.mailbox.data.clone_from(data);
    }
    if global.token.is_some() {
        config.server.token.clone_from(&global.token);
    }
    Ok(config)
}

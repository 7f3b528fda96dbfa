//! Flows: the real program, driven as its users drive it. Each test has a folder, servers and destinations of its
//! own, waits for what it wants to see, and never for a time.

mod api;
mod cli;
mod config;
mod demo;
mod doubt;
mod drain;
mod dynamic;
mod full;
mod input;
mod kill;
mod ladder;
mod pause;
mod secrets;
mod stranded;

use std::path::Path;

use pillarbox_tests::server::Place;

/// The box in `data`, the server at a free address.
const BASE: &str = "[box]\ndata = 'data'\n[server]\nlisten = '127.0.0.1:0'\n";

/// A folder with this configuration, for the program under test.
fn place(config: &str) -> Place {
    Place::new(Path::new(env!("CARGO_BIN_EXE_pillarbox-under-test")), config)
}

/// [`place`] with [`BASE`] and one port named `orders`, whose primary route is `http` to `url` with these lines
/// besides.
fn orders(url: &str, lines: &str) -> Place {
    place(&format!("{BASE}{}", port("orders", url, lines)))
}

/// A port whose primary route is `http` to `url`, with these lines besides.
fn port(name: &str, url: &str, lines: &str) -> String {
    format!("[[port]]\nname = '{name}'\n[port.primary]\nadapter = 'http'\nurl = '{url}'\n{lines}\n")
}

/// A message id of our own.
fn own_id(number: usize) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

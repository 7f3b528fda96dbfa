//! The stand-alone Pillarbox: configuration, command line, HTTP API.

pub mod config;
pub mod kinds;
pub mod problem;
pub mod secret;
pub mod wire;

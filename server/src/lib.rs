//! The stand-alone Pillarbox: configuration, command line, HTTP API.

pub mod api;
pub mod backend;
pub mod cli;
pub mod config;
pub mod failure;
pub mod kinds;
pub mod output;
pub mod problem;
pub mod secret;
pub mod service;
pub mod wire;

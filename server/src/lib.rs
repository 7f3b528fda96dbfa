//! The stand-alone Pillarbox: configuration, command line, HTTP API.

pub mod api;
pub mod config;
pub mod kinds;
pub mod problem;
pub mod secret;
pub mod service;
pub mod wire;

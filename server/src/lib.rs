//! The stand-alone Pillarbox: configuration, command line, HTTP API.

pub mod api;
pub mod backend;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod failure;
pub mod output;
pub mod problem;
pub mod secret;
pub mod serve;
pub mod service;
pub mod wire;

mod logs;

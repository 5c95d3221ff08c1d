//! zinit
pub mod cli;
pub mod config;
pub mod engine;
pub mod reactor;
pub mod rpc;
pub mod sys;

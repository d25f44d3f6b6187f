//! How an operator steers the gateway: verbs, the HTTP that carries them, and the commands that speak it.

pub mod api;
pub mod cli;
pub mod ops;

#[cfg(test)]
mod tests;

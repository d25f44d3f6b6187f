//! One suite, many subjects: what every implementation of an interface must do alike.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod dir;
mod faults;
mod link;
mod objects;
mod pace;
mod parts;
mod remote;
mod store;

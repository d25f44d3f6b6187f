//! The real program, its mount, and what comes to lie in a store.
#![expect(
    clippy::print_stdout,
    reason = "skips and sizes of samples are told where they are counted"
)]

mod bulk;
mod cold;
mod crash;
mod disk;
mod elsewhere;
mod ends;
mod faults;
mod hooks;
mod keep;
mod links;
mod lost;
mod names;
mod outage;
mod owners;
mod parts;
mod posix;
mod random;
mod refusals;
mod room;
mod secure;
mod suites;
mod trees;
mod verify;

//! The real program, its mount, and what comes to lie in a store.
#![expect(
    clippy::print_stdout,
    reason = "skips and sizes of samples are told where they are counted"
)]

mod bulk;
mod check;
mod cold;
mod crash;
mod disk;
mod elsewhere;
mod ends;
mod faults;
mod gates;
mod hooks;
mod hostile;
mod keep;
mod kills;
mod links;
mod lost;
mod names;
mod outage;
mod owners;
mod pace;
mod parts;
mod posix;
mod programs;
mod queue;
mod random;
mod recover;
mod refresh;
mod refusals;
mod room;
mod routes;
mod scale;
mod secure;
mod sides;
mod sinks;
mod suites;
mod sync;
mod trees;
mod verify;
mod when;

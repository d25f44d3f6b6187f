//! The operator's verbs as HTTP with JSON bodies, over a Unix socket that only its owner can open.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | | [`Status`](types::Status) |
//! | `GET /v1/queue?limit=` | | [`Queue`](types::Queue) |
//! | `GET /v1/wait?path=` | | [`WaitProgress`](types::WaitProgress) |
//! | `GET /v1/hooks` | | a list of [`Hook`](types::Hook) |
//! | `GET /v1/hooks/jobs?hook=&state=&limit=` | | a list of [`Job`](types::Job) |
//! | `GET /v1/hooks/results?path=&hook=&where=&limit=` | | a list of [`HookResult`](types::HookResult) |
//! | `POST /v1/hooks/retry` | [`Retry`](types::Retry) | [`Retried`](types::Retried) |
//! | `POST /v1/hooks/pause` | [`HookPause`](hooks::HookPause) | a list of [`Hook`](types::Hook) |
//! | `POST /v1/hooks/run` | [`HookRun`](hooks::HookRun) | [`HookBegun`](hooks::HookBegun) |
//! | `POST /v1/hooks/say` | [`Say`](hooks::Say) | [`Spoken`](hooks::Spoken) |
//! | `GET /v1/events?from=&kind=&share=&hook=&limit=` | | [`EventList`](sinks::EventList) |
//! | `GET /v1/sinks` | | a list of [`Sink`](sinks::Sink) |
//! | `POST /v1/sinks/change` | [`SinkChange`](sinks::SinkChange) | a list of [`Sink`](sinks::Sink) |
//! | `POST /v1/queue/change` | [`QueueChange`](steer::QueueChange) | [`QueueChanged`](steer::QueueChanged) |
//! | `POST /v1/receipts` | [`ReceiptFilter`](steer::ReceiptFilter) | [`Receipts`](steer::Receipts) |
//! | `GET /v1/pace` | | a list of [`PaceState`](steer::PaceState) |
//! | `POST /v1/pace` | [`PaceChange`](steer::PaceChange) | a list of [`PaceState`](steer::PaceState) |
//! | `GET /v1/conflicts` | | a list of [`Conflict`](sides::Conflict) |
//! | `POST /v1/conflicts/settle` | [`Settle`](sides::Settle) | the [`Conflict`](sides::Conflict) that it was |
//! | `GET /v1/trash` | | a list of [`Trashed`](sides::Trashed) |
//! | `POST /v1/trash/restore` | `path` | [`Restored`](sides::Restored) |
//! | `POST /v1/trash/empty` | | [`Emptied`](sides::Emptied) |
//! | `POST /v1/unmount` | [`Unmount`](types::Unmount) | [`Unmounted`](types::Unmounted) |
//!
//! Any other answer than 200 has an [`ErrorBody`](types::ErrorBody).

pub mod client;
pub mod hooks;
pub mod lists;
pub mod server;
pub mod sides;
pub mod sinks;
pub mod socket;
pub mod steer;
pub mod types;

pub use client::{Client, ClientError};
pub use server::serve;
pub use socket::{RuntimeDir, RuntimeDirError, Socket};

//! The worker alone, for tests: what `fsd hook-worker` is in the product.

use std::process::ExitCode;

fn main() -> ExitCode {
    inference_hooks::worker_main()
}

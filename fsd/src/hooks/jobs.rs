//! Where a job stands after a try: pure.

use inference_hooks::Advice;

use crate::meta::{Job, JobState};

const FIRST_DELAY_MILLIS: i64 = 1_000;
const BUSY_MILLIS: i64 = 1_000;
const DELAY_MILLIS_MAX: i64 = 60_000;
/// When a program is run again that asks for another time.
const LATER_MILLIS: i64 = 10_000;

pub(super) const NOT_CONFIGURED: &str = "the hook is not configured any more";
pub(super) const ANOTHER_VERSION: &str = "a job of the hook's version of today looks at it";

/// What a try came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// The hook has said what it has to say; the result is applied.
    Result(String),
    /// The same, and what it saw is somewhere else now: that is stored already, with the result.
    Elsewhere(String),
    /// The file changed or went away: there is nothing to say of this version.
    Superseded(&'static str),
    /// It is of a media type that the hook does not look at.
    NotWanted(&'static str),
    /// Somebody has it open for writing: it may stay this version, or become another.
    Busy,
    /// It failed.
    Failed { advice: Advice, error: String },
}

/// `job` after its try at `now`; of tries that may succeed another time there are `retries_max` more.
pub(super) fn after(job: Job, outcome: Outcome, retries_max: u32, now: i64) -> Job {
    let job = Job { changed: now, ..job };
    match outcome {
        Outcome::Result(result) | Outcome::Elsewhere(result) => {
            Job { state: JobState::Done, error: None, result: Some(result), ..job }
        }
        Outcome::Superseded(why) => {
            Job { state: JobState::Done, error: Some(why.to_owned()), result: None, ..job }
        }
        Outcome::NotWanted(found) => {
            let error = format!("it is {found}, which the hook does not look at");
            Job { state: JobState::Done, error: Some(error), result: None, ..job }
        }
        Outcome::Busy => Job { state: JobState::Waiting, due: now + BUSY_MILLIS, ..job },
        Outcome::Failed { advice: Advice::ParkFile, error } => {
            Job { state: JobState::Failed, tries: job.tries + 1, error: Some(error), ..job }
        }
        Outcome::Failed { advice: Advice::ParkHook, error } => {
            Job { state: JobState::Parked, error: Some(error), ..job }
        }
        Outcome::Failed { advice: Advice::Later, error } => {
            Job { state: JobState::Waiting, due: now + LATER_MILLIS, error: Some(error), ..job }
        }
        Outcome::Failed { advice: Advice::Retry, error } => {
            let tries = job.tries + 1;
            let state = if tries > retries_max { JobState::Parked } else { JobState::Waiting };
            let delay = (FIRST_DELAY_MILLIS << job.tries.min(16)).min(DELAY_MILLIS_MAX);
            Job { state, tries, due: now + delay, error: Some(error), ..job }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::JobId;
    use crate::types::Ino;

    fn job() -> Job {
        Job {
            id: JobId(1),
            hook: "thumbnail".into(),
            version: "v".into(),
            ino: Ino(7),
            content: 1,
            path: "a.jpg".into(),
            state: JobState::Running,
            tries: 0,
            due: 0,
            arrived: 0,
            changed: 0,
            error: None,
            result: None,
        }
    }

    fn failed(advice: Advice) -> Outcome {
        Outcome::Failed { advice, error: "why".into() }
    }

    #[test]
    fn a_result_ends_a_job_and_forgets_earlier_errors() {
        let tried = Job { error: Some("before".into()), tries: 1, ..job() };
        let done = after(tried, Outcome::Result("{}".into()), 1, 50);
        assert_eq!((done.state, done.error, done.changed), (JobState::Done, None, 50));
    }

    #[test]
    fn a_file_that_is_open_for_writing_is_looked_at_later_and_spends_no_try() {
        let later = after(job(), Outcome::Busy, 0, 50);
        assert_eq!((later.state, later.tries, later.due), (JobState::Waiting, 0, 50 + BUSY_MILLIS));
    }

    #[test]
    fn a_program_that_asks_for_another_time_gets_it_and_spends_no_try() {
        let later = after(job(), failed(Advice::Later), 0, 50);
        assert_eq!((later.state, later.tries), (JobState::Waiting, 0));
        assert_eq!((later.due, later.error.as_deref()), (50 + LATER_MILLIS, Some("why")));
    }

    #[test]
    fn a_file_that_is_no_picture_is_tried_once() {
        assert_eq!(after(job(), failed(Advice::ParkFile), 5, 0).state, JobState::Failed);
    }

    #[test]
    fn a_file_that_breaks_the_worker_is_parked_after_its_tries() {
        let first = after(job(), failed(Advice::Retry), 1, 0);
        assert_eq!((first.state, first.tries), (JobState::Waiting, 1));
        let second = after(first, failed(Advice::Retry), 1, 0);
        assert_eq!((second.state, second.tries), (JobState::Parked, 2));
        assert_eq!(second.error.as_deref(), Some("why"));
    }
}

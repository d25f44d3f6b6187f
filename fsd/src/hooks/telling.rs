//! What is logged for others to hear of: what jobs come to.

use policies::EventKind;
use policies::search::Field;
use serde_json::{Value, json};

use super::rules::{Alert, Rule};
use crate::meta::{Job, JobState, MetaError, Tx};

/// The value of a field of a result; none of what can't be compared.
#[must_use]
pub fn field_of(value: &Value) -> Option<Field> {
    match value {
        Value::Bool(value) => Some(Field::Bool(*value)),
        Value::Number(value) => value.as_f64().map(Field::Number),
        Value::String(value) => Some(Field::Text(value.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Logs what `job` has come to, if it has.
pub(super) fn outcome(tx: &Tx<'_>, rule: &Rule, job: &Job) -> Result<(), MetaError> {
    let log =
        |kind, data: &Value| tx.log_event_of(kind, job.ino, Some(&job.hook), data, job.changed);
    match (job.state, &job.result) {
        (JobState::Done, Some(result)) => {
            let data: Value = serde_json::from_str(result).unwrap_or_default();
            log(EventKind::Result, &data)?;
            let fields = &data["result"];
            let mut raised = rule
                .alerts
                .iter()
                .filter(|alert| alert.search.matches(|name| field_of(fields.get(name)?)));
            raised.try_for_each(|Alert { condition, .. }| {
                tracing::warn!(hook = job.hook, path = job.path, condition, "alert");
                log(EventKind::Alert, &json!({ "condition": condition, "result": fields }))
            })
        }
        (JobState::Failed | JobState::Parked, _) => {
            let data =
                json!({ "state": job.state.as_str(), "tries": job.tries, "error": job.error });
            log(EventKind::Failed, &data)
        }
        (JobState::Done, None) | (JobState::Waiting | JobState::Running, _) => Ok(()),
    }
}

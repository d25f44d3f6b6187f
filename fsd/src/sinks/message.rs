//! An event as it is told: CloudEvents 1.0, in JSON.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::meta::LoggedEvent;

/// What a sink is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) seq: i64,
    pub(super) kind: &'static str,
    pub(super) share: String,
    pub(super) hook: Option<String>,
    /// Unique among all that any gateway tells.
    pub(super) id: String,
    pub(super) json: Vec<u8>,
}

/// The attributes are those of the CloudEvents specification, version 1.0.2.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: jiff::Timestamp,
    datacontenttype: &'static str,
    data: &'a Map<String, Value>,
}

impl Message {
    /// What is told of `event` of the gateway called `gateway`.
    pub(super) fn of(event: &LoggedEvent, gateway: &str) -> Self {
        let LoggedEvent { seq, at, kind, share, path, hook, data } = event;
        let mut data = match serde_json::from_str(data) {
            Ok(Value::Object(data)) => data,
            Ok(other) => Map::from_iter([("value".to_owned(), other)]),
            Err(_) => Map::new(),
        };
        data.insert("share".to_owned(), share.as_str().into());
        data.insert("path".to_owned(), path.as_str().into());
        if let Some(hook) = hook {
            data.insert("hook".to_owned(), hook.as_str().into());
        }
        let cloud_event = CloudEvent {
            specversion: "1.0",
            id: seq.to_string(),
            source: format!("urn:fsd:{gateway}"),
            kind: format!("fsd.{kind}"),
            subject: format!("{share}/{path}"),
            time: jiff::Timestamp::from_millisecond(*at).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
            datacontenttype: "application/json",
            data: &data,
        };
        Self {
            seq: *seq,
            kind: kind.as_str(),
            share: share.clone(),
            hook: hook.clone(),
            id: format!("{gateway}-{seq}"),
            // Texts and numbers only, which JSON can always say.
            json: serde_json::to_vec(&cloud_event).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use policies::EventKind;

    use super::*;

    #[test]
    fn an_event_is_told_in_the_words_of_cloud_events() {
        let event = LoggedEvent {
            seq: 7,
            at: 1_000,
            kind: EventKind::Alert,
            share: "cam".into(),
            path: "a/b.jpg".into(),
            hook: Some("sharpness".into()),
            data: r#"{"condition":"blurred = true"}"#.into(),
        };
        let message = Message::of(&event, "gw");
        assert_eq!(message.id, "gw-7");
        let json: Value = serde_json::from_slice(&message.json).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0", "id": "7", "source": "urn:fsd:gw", "type": "fsd.alert", "subject": "cam/a/b.jpg",
            "time": "1970-01-01T00:00:01Z", "datacontenttype": "application/json",
            "data": { "share": "cam", "path": "a/b.jpg", "hook": "sharpness", "condition": "blurred = true" },
        });
        assert_eq!(json, expected);
    }
}

//! To a web server, by POST, signed as Standard Webhooks says (version 1: HMAC-SHA256 over id, time and body).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use ring::hmac;

use super::message::Message;
use super::outlet::{DeliveryError, Outlet, SinkError, Undelivered};
use super::target::Access;
use crate::clock::Clock;

/// The longest that a request takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How much of an error's text is shown.
const TEXT_CHARS_MAX: usize = 200;
/// How long a key is, in bytes, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
    batch: usize,
    key: Option<hmac::Key>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl Webhook {
    pub(super) fn new(
        url: &Url,
        batch: usize,
        secret: Option<&str>,
        access: &Access,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(super::tls::client(access)?)
            .user_agent(concat!("fsd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SinkError::Tls(error.into()))?;
        let key = secret.map(key).transpose()?;
        Ok(Self { client, url: url.clone(), batch: batch.max(1), key, clock: clock.clone() })
    }

    async fn post(&self, messages: &[Message]) -> Result<(), DeliveryError> {
        let [first, ..] = messages else { return Ok(()) };
        let (media_type, body) = match self.batch {
            1 => ("application/cloudevents+json; charset=utf-8", first.json.clone()),
            _ => ("application/cloudevents-batch+json; charset=utf-8", list(messages)),
        };
        let id = &first.id;
        let time = self.clock.wall().secs;
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", media_type)
            .header("webhook-id", id)
            .header("webhook-timestamp", time);
        if let Some(key) = &self.key {
            request = request.header("webhook-signature", signature(key, id, time, &body));
        }
        let unreachable = |error: reqwest::Error| match error.is_timeout() {
            true => DeliveryError::Late,
            // The URL may hold a secret.
            false => DeliveryError::Unreachable(error.without_url().into()),
        };
        let answer = request.body(body).send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.text().await.unwrap_or_default();
        let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
        Err(DeliveryError::Refused(format!("{status} {text}").trim_end().to_owned()))
    }
}

#[async_trait]
impl Outlet for Webhook {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered> {
        let mut taken = 0;
        for chunk in messages.chunks(self.batch) {
            self.post(chunk).await.map_err(|error| error.after(taken))?;
            taken += chunk.len();
        }
        Ok(())
    }
}

/// The key in a secret.
fn key(secret: &str) -> Result<hmac::Key, SinkError> {
    let bytes = match secret.strip_prefix("whsec_") {
        Some(text) => STANDARD.decode(text).map_err(|_| SinkError::Key)?,
        None => secret.as_bytes().to_vec(),
    };
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(SinkError::Key);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn signature(key: &hmac::Key, id: &str, time: i64, body: &[u8]) -> String {
    let signed = [format!("{id}.{time}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed)))
}

fn list(messages: &[Message]) -> Vec<u8> {
    let bodies: Vec<&[u8]> = messages.iter().map(|message| message.json.as_slice()).collect();
    [b"[", bodies.join(&b","[..]).as_slice(), b"]"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_in_the_example_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_too_short_or_no_base64_is_refused() {
        for secret in ["short", "whsec_MfKQ", "whsec_not base64 at all, really"] {
            assert!(key(secret).is_err(), "{secret}");
        }
    }
}

//! To a server of NATS: a stream's word that it has stored each event, or the server's that it has them.

use std::time::Duration;

use async_nats::jetstream::{self, context::PublishErrorKind};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, HeaderMap};
use async_trait::async_trait;
use futures::StreamExt as _;
use reqwest::Url;

use super::message::Message;
use super::outlet::{BoxError, DeliveryError, Login, Outlet, SinkError, Undelivered};
use super::target::{Access, Topic};

/// The longest that the server is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) struct Nats {
    server: Url,
    gateway: String,
    subject: Topic,
    stored: bool,
    login: Login,
    tls: rustls::ClientConfig,
    client: Option<Client>,
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Nats {
    pub(super) fn new(
        server: &Url,
        (subject, stored): (&Topic, bool),
        gateway: &str,
        login: Login,
        access: &Access,
    ) -> Result<Self, SinkError> {
        Ok(Self {
            server: server.clone(),
            gateway: gateway.to_owned(),
            subject: subject.clone(),
            stored,
            login,
            tls: super::tls::client(access)?,
            client: None,
        })
    }

    async fn client(&mut self) -> Result<Client, DeliveryError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut options = ConnectOptions::new()
            .name("fsd")
            .connection_timeout(ANSWER_MAX)
            .max_reconnects(1)
            .require_tls(self.server.scheme() == "tls")
            .tls_client_config(self.tls.clone());
        match &self.login {
            Some((Some(user), password)) => {
                options = options.user_and_password(user.clone(), password.clone());
            }
            Some((None, token)) => options = options.token(token.clone()),
            None => {}
        }
        let connected = options.connect(self.server.as_str()).await;
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one to us")]
        let client = connected.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                DeliveryError::Refused("user, password or token are not those it knows".to_owned())
            }
            _ => DeliveryError::Unreachable(error.into()),
        })?;
        Ok(self.client.insert(client).clone())
    }

    fn subject_of(&self, message: &Message) -> String {
        let Message { share, kind, hook, .. } = message;
        self.subject.of(&self.gateway, share, kind, hook.as_deref(), '.')
    }

    /// Publishes all, then counts in `taken` what a stream says it has stored.
    async fn store(
        &self,
        client: Client,
        messages: &[Message],
        taken: &mut usize,
    ) -> Result<(), DeliveryError> {
        let streams = jetstream::new(client);
        let mut answers = Vec::new();
        for message in messages {
            // By this a stream knows what it has already.
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", message.id.as_str());
            let published = streams.publish_with_headers(
                self.subject_of(message),
                headers,
                message.json.clone().into(),
            );
            answers
                .push(published.await.map_err(|error| DeliveryError::Unreachable(error.into()))?);
        }
        for (answer, message) in answers.into_iter().zip(messages) {
            #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one to us")]
            answer.await.map_err(|error| match error.kind() {
                PublishErrorKind::StreamNotFound => DeliveryError::Refused(format!(
                    "no stream stores the subject {}: make one, or set stored = false",
                    self.subject_of(message)
                )),
                PublishErrorKind::TimedOut => DeliveryError::Late,
                _ => DeliveryError::Unreachable(error.into()),
            })?;
            *taken += 1;
        }
        Ok(())
    }

    /// Publishes all, and then something that comes back when the server has had all before it.
    async fn publish(&self, client: Client, messages: &[Message]) -> Result<(), DeliveryError> {
        let echo = client.new_inbox();
        let unreachable = |error: BoxError| DeliveryError::Unreachable(error);
        let mut heard = client.subscribe(echo.clone()).await.map_err(|e| unreachable(e.into()))?;
        for message in messages {
            let sent = client.publish(self.subject_of(message), message.json.clone().into()).await;
            sent.map_err(|error| unreachable(error.into()))?;
        }
        client.publish(echo, bytes::Bytes::new()).await.map_err(|e| unreachable(e.into()))?;
        client.flush().await.map_err(|error| unreachable(error.into()))?;
        heard.next().await.map(drop).ok_or_else(|| unreachable("the connection was lost".into()))
    }
}

#[async_trait]
impl Outlet for Nats {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered> {
        let client = self.client().await.map_err(|error| error.after(0))?;
        let mut taken = 0;
        let sending = async {
            match self.stored {
                true => self.store(client, messages, &mut taken).await,
                false => self.publish(client, messages).await,
            }
        };
        let sent = tokio::time::timeout(ANSWER_MAX, sending).await;
        let sent = sent.unwrap_or(Err(DeliveryError::Late));
        sent.map_err(|error| {
            self.client = None;
            error.after(taken)
        })
    }
}

//! To a broker of MQTT 3.1.1, with its acknowledgement of each event (QoS 1).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, MqttOptions, QoS,
    TlsConfiguration, Transport,
};

use super::message::Message;
use super::outlet::{DeliveryError, Login, Outlet, SinkError, Undelivered};
use super::target::{Access, Topic};
use crate::clock::Clock;

const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// A connection that nothing went over for so long is not tried again: nobody has kept it alive.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// The longest that the broker is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const PACKET_BYTES_MAX: usize = 4 << 20;
/// Events on the way at once.
const IN_FLIGHT_MAX: usize = 64;

pub(super) struct Mqtt {
    options: MqttOptions,
    gateway: String,
    topic: Topic,
    clock: Arc<dyn Clock>,
    open: Option<Connection>,
}

struct Connection {
    client: AsyncClient,
    events: EventLoop,
    used: Duration,
}

impl std::fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mqtt").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Mqtt {
    pub(super) fn new(
        server: &Url,
        topic: &Topic,
        (id, gateway): (String, &str),
        login: Login,
        access: &Access,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        let is_tls = server.scheme() == "mqtts";
        let port = server.port().unwrap_or(if is_tls { PORT_TLS } else { PORT });
        let mut options = MqttOptions::new(id, server.host_str().unwrap_or_default(), port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_session(true);
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        if let Some((user, password)) = login {
            options.set_credentials(user.unwrap_or_default(), password);
        }
        if is_tls {
            let tls = TlsConfiguration::Rustls(Arc::new(super::tls::client(access)?));
            options.set_transport(Transport::tls_with_config(tls));
        }
        let (topic, gateway) = (topic.clone(), gateway.to_owned());
        Ok(Self { options, gateway, topic, clock: clock.clone(), open: None })
    }

    /// Sends `messages` and counts in `taken` what the broker has said it has.
    async fn send(&mut self, messages: &[Message], taken: &mut usize) -> Result<(), DeliveryError> {
        let now = self.clock.monotonic();
        let fresh = self.open.take().filter(|open| now.saturating_sub(open.used) < IDLE_MAX);
        let mut open = match fresh {
            Some(open) => open,
            None => {
                let (client, events) = AsyncClient::new(self.options.clone(), IN_FLIGHT_MAX);
                Connection { client, events, used: now }
            }
        };
        for chunk in messages.chunks(IN_FLIGHT_MAX) {
            for Message { share, kind, hook, json, .. } in chunk {
                let topic = self.topic.of(&self.gateway, share, kind, hook.as_deref(), '/');
                let sent = open.client.publish(topic, QoS::AtLeastOnce, false, json.clone());
                sent.await.map_err(|error| DeliveryError::Unreachable(error.into()))?;
            }
            // A broker acknowledges in the order in which it was sent.
            let end = *taken + chunk.len();
            while *taken < end {
                if let Event::Incoming(Incoming::PubAck(_)) =
                    open.events.poll().await.map_err(failed)?
                {
                    *taken += 1;
                }
            }
        }
        open.used = self.clock.monotonic();
        self.open = Some(open);
        Ok(())
    }
}

#[async_trait]
impl Outlet for Mqtt {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered> {
        let mut taken = 0;
        let clock = self.clock.clone();
        let sent = tokio::select! {
            sent = self.send(messages, &mut taken) => sent,
            () = clock.sleep(ANSWER_MAX) => Err(DeliveryError::Late),
        };
        sent.map_err(|error| error.after(taken))
    }
}

fn failed(error: ConnectionError) -> DeliveryError {
    let ConnectionError::ConnectionRefused(code) = error else {
        return DeliveryError::Unreachable(error.into());
    };
    let says = match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "user or password are not those it knows"
        }
        ConnectReturnCode::Success
        | ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::BadClientId
        | ConnectReturnCode::ServiceUnavailable => "it takes no connection from us",
    };
    DeliveryError::Refused(says.to_owned())
}

//! Where a sink tells things: pure, from what is written to what is meant.

use std::path::PathBuf;
use std::str::FromStr;

use policies::EventFilter;
use reqwest::Url;

/// Who hears of what happens, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Unique among the sinks; how far it has got is kept under this name.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// What it is told.
    pub filter: EventFilter,
    /// Who we are to it, if it asks.
    pub access: Access,
}

/// How a sink knows us, and we it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Our name there.
    pub user: Option<String>,
    /// The file with the password, the token, or the key that requests are signed with.
    pub secret_file: Option<PathBuf>,
    /// Certificates of authorities that its certificate is believed by, beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a web server, by POST.
    Webhook {
        /// Where.
        url: Url,
        /// Events of one request; of more than one they are a list.
        batch: usize,
    },
    /// To a broker of MQTT 3.1.1, once at least.
    Mqtt {
        /// Which: `mqtt://` or `mqtts://`.
        server: Url,
        /// Under which topic.
        topic: Topic,
    },
    /// To a server of NATS.
    Nats {
        /// Which: `nats://` or `tls://`.
        server: Url,
        /// Under which subject.
        subject: Topic,
        /// A stream has to say that it has stored each event; else it is enough that the server has it.
        stored: bool,
    },
    /// To a file, a line each.
    File {
        /// Which; absolute.
        path: PathBuf,
    },
}

/// Why no sink can be at a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TargetError {
    #[error(
        "a sink is at https://HOST/PATH, mqtt://HOST (mqtts://), nats://HOST (tls://) or file:///PATH"
    )]
    NoTarget,
    #[error("a password never stands in a URL: write `user` and `secret_file`")]
    Secret,
    #[error(
        "a topic is a text with {{gateway}}, {{share}}, {{kind}} and {{hook}}; {0:?} is none of these, or a sign that brokers keep for themselves"
    )]
    Topic(String),
}

impl Target {
    /// The target at `url`, with what it does unless said otherwise.
    ///
    /// # Errors
    /// If there can be none.
    pub fn at(url: &str, topic: Option<Topic>) -> Result<Self, TargetError> {
        let url: Url = url.parse().map_err(|_| TargetError::NoTarget)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Secret);
        }
        let topic = |default: &str| topic.unwrap_or_else(|| Topic(default.to_owned()));
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        match url.scheme() {
            "http" | "https" if has_host => Ok(Self::Webhook { url, batch: 1 }),
            "mqtt" | "mqtts" if has_host => {
                Ok(Self::Mqtt { server: url, topic: topic("fsd/{gateway}/{share}/{kind}") })
            }
            "nats" | "tls" if has_host => {
                let subject = topic("fsd.{gateway}.{share}.{kind}");
                Ok(Self::Nats { server: url, subject, stored: true })
            }
            "file" => {
                let path = url.to_file_path().map_err(|()| TargetError::NoTarget)?;
                if path.file_name().is_none() {
                    return Err(TargetError::NoTarget);
                }
                Ok(Self::File { path })
            }
            _ => Err(TargetError::NoTarget),
        }
    }

    /// Whether what it is told leaves this machine, for all that we know.
    #[must_use]
    pub fn leaves(&self) -> bool {
        !matches!(self, Self::File { .. })
    }

    /// Where it is, without what may be a secret: paths of web hooks often are.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Webhook { url, .. } => format!("{}/…", url.origin().ascii_serialization()),
            Self::Mqtt { server, topic } => format!("{}  {}", host(server), topic.0),
            Self::Nats { server, subject, .. } => format!("{}  {}", host(server), subject.0),
            Self::File { path } => path.display().to_string(),
        }
    }
}

fn host(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// A topic, or a subject, with places for what an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(String);

const PLACES: [&str; 4] = ["gateway", "share", "kind", "hook"];

impl FromStr for Topic {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let bad = |text: &str| Err(TargetError::Topic(text.to_owned()));
        if text.is_empty()
            || text.contains(['#', '+', '*', '>', '\0'])
            || text.contains(char::is_whitespace)
        {
            return bad(text);
        }
        let mut rest = text;
        while let Some((_, opened)) = rest.split_once('{') {
            let Some((place, behind)) = opened.split_once('}') else { return bad(opened) };
            if !PLACES.contains(&place) {
                return bad(place);
            }
            rest = behind;
        }
        if rest.contains('}') { bad(rest) } else { Ok(Self(text.to_owned())) }
    }
}

impl Topic {
    /// The topic of an event; an event without a hook has `-` in its place. What would begin another level is `_`.
    pub(super) fn of(
        &self,
        gateway: &str,
        share: &str,
        kind: &str,
        hook: Option<&str>,
        separator: char,
    ) -> String {
        let whole = |text: &str| text.replace(separator, "_");
        self.0
            .replace("{gateway}", &whole(gateway))
            .replace("{share}", &whole(share))
            .replace("{kind}", kind)
            .replace("{hook}", &whole(hook.unwrap_or("-")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_what_kind_of_sink_it_is() {
        let shown = |url: &str| Target::at(url, None).map(|target| target.shown());
        assert_eq!(shown("https://h/secret/path?token=1").unwrap(), "https://h/…");
        assert_eq!(shown("mqtt://h:1884").unwrap(), "mqtt://h:1884  fsd/{gateway}/{share}/{kind}");
        assert_eq!(shown("nats://h").unwrap(), "nats://h  fsd.{gateway}.{share}.{kind}");
        assert_eq!(shown("file:///var/log/fsd.jsonl").unwrap(), "/var/log/fsd.jsonl");
        for url in ["", "h", "ftp://h/", "mqtt://", "file:///", "https://"] {
            assert_eq!(shown(url), Err(TargetError::NoTarget), "{url}");
        }
        for url in ["https://me:pw@h/", "mqtt://me@h"] {
            assert_eq!(shown(url), Err(TargetError::Secret), "{url}");
        }
    }

    #[test]
    fn a_topic_has_places_for_what_an_event_is_about() {
        let topic: Topic = "plant.{share}.{hook}.{kind}".parse().unwrap();
        assert_eq!(topic.of("gw", "cam.1", "alert", Some("blur"), '.'), "plant.cam_1.blur.alert");
        assert_eq!(topic.of("gw", "cam", "arrived", None, '.'), "plant.cam.-.arrived");
        for text in ["", "a/#", "a/+/b", "a b", "{", "{share", "{nope}", "a}"] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
    }
}

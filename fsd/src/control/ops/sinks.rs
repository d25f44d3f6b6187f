//! The verbs about the log of events, and about those who are told of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use policies::{EventFilter, EventKind};

use super::OperationError;
use super::gateway::{Gateway, timestamp_of_millis};
use crate::control::api::sinks as api;
use crate::meta::{LoggedEvent, MetaError, SinkPlace, Tx};
use crate::sinks::Sink;

/// Events that are looked at in one go.
const AT_ONCE: usize = 1000;

impl Gateway {
    pub(super) fn logged_events(
        &self,
        query: &api::EventQuery,
    ) -> Result<api::EventList, OperationError> {
        let (filter, limit) = (filter(query)?, query.limit);
        let (events, next, first) = self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let (first, newest) = tx.event_range()?;
            let (events, next) = match query.from {
                Some(from) => events_from(tx, from, &filter, limit)?,
                None => (latest_events(tx, newest, &filter, limit)?, newest + 1),
            };
            Ok((events, next, first))
        })?;
        Ok(api::EventList { events: events.into_iter().map(shown).collect(), next, first })
    }

    pub(super) fn all_sinks(&self) -> Result<Vec<api::Sink>, OperationError> {
        let (_, last) = self.parts.meta.scan(|tx| tx.event_range())?;
        let mut sinks = Vec::new();
        for sink in &self.parts.sinks {
            let name = &sink.config.name;
            let place = self.parts.meta.scan(|tx| tx.sink_place(name))?.unwrap_or_default();
            let state = sink.state();
            sinks.push(api::Sink {
                name: name.clone(),
                target: sink.config.target.shown(),
                seq: place.seq,
                behind: last.abs_diff(place.seq.min(last)),
                told: state.told,
                missed: place.missed,
                failing_since: state.failing.as_ref().map(|(since, _)| timestamp_of_millis(*since)),
                error: state.failing.map(|(_, error)| error),
            });
        }
        Ok(sinks)
    }

    pub(super) fn steer_sink(&self, change: &api::SinkChange) -> Result<(), OperationError> {
        let (api::SinkChange::Replay { sink: name, .. }
        | api::SinkChange::Skip { sink: name }
        | api::SinkChange::Retry { sink: name }) = change;
        let sink = self.sink(name)?;
        let (first, last) = self.parts.meta.scan(|tx| tx.event_range())?;
        let seq = match change {
            api::SinkChange::Retry { .. } => None,
            api::SinkChange::Replay { from, .. } if (first..=last + 1).contains(from) => {
                Some(*from - 1)
            }
            api::SinkChange::Replay { from, .. } => {
                return Err(OperationError::Nonsense(format!(
                    "the log has events {first} to {last}; {from} is none of them"
                )));
            }
            api::SinkChange::Skip { .. } => Some(self.next_of(sink)?.ok_or_else(|| {
                OperationError::Nonsense(format!("the sink {name} has had everything"))
            })?),
        };
        if let Some(seq) = seq {
            let name = name.clone();
            tracing::info!(sink = name, seq, "a person has moved a sink");
            self.parts.meta.write(move |tx| -> Result<(), MetaError> {
                let missed = tx.sink_place(&name)?.unwrap_or_default().missed;
                tx.put_sink_place(&name, SinkPlace { seq, missed })
            })?;
        }
        sink.poke();
        Ok(())
    }

    /// The number of the event that a sink is to be told next.
    fn next_of(&self, sink: &Sink) -> Result<Option<i64>, OperationError> {
        Ok(self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let mut at = tx.sink_place(&sink.config.name)?.unwrap_or_default().seq;
            loop {
                let (found, last) = tx.events_behind(at, AT_ONCE)?;
                if let Some(event) =
                    found.iter().find(|event| event.is_meant_by(&sink.config.filter))
                {
                    return Ok(Some(event.seq));
                }
                if last == at {
                    return Ok(None);
                }
                at = last;
            }
        })?)
    }

    fn sink(&self, name: &str) -> Result<&Arc<Sink>, OperationError> {
        let found = self.parts.sinks.iter().find(|sink| sink.config.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self.parts.sinks.iter().map(|sink| &*sink.config.name).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            OperationError::Nonsense(format!("there is no sink {name:?}; there is {known}"))
        })
    }
}

/// Events from the number `from` on, and where to go on.
fn events_from(
    tx: &Tx<'_>,
    from: i64,
    filter: &EventFilter,
    limit: usize,
) -> Result<(Vec<LoggedEvent>, i64), MetaError> {
    let mut events: Vec<LoggedEvent> = Vec::new();
    let mut at = from.saturating_sub(1);
    while events.len() < limit {
        let (found, last) = tx.events_behind(at, AT_ONCE)?;
        if last == at {
            break;
        }
        at = last;
        let room = limit - events.len();
        events.extend(found.into_iter().filter(|event| event.is_meant_by(filter)).take(room));
    }
    // A list that is full goes on behind its last one.
    let full = events.last().filter(|_| events.len() == limit);
    let next = full.map_or(at, |last| last.seq) + 1;
    Ok((events, next))
}

/// The last events up to the number `newest`.
fn latest_events(
    tx: &Tx<'_>,
    newest: i64,
    filter: &EventFilter,
    limit: usize,
) -> Result<Vec<LoggedEvent>, MetaError> {
    let mut events = Vec::new();
    let mut at = newest + 1;
    while events.len() < limit {
        let (found, lowest) = tx.events_before(at, AT_ONCE)?;
        if lowest == at {
            break;
        }
        at = lowest;
        events.extend(found.into_iter().filter(|event| event.is_meant_by(filter)));
    }
    events.truncate(limit);
    events.reverse();
    Ok(events)
}

fn filter(query: &api::EventQuery) -> Result<EventFilter, OperationError> {
    let only = |name: &Option<String>| name.clone().map(|name| BTreeSet::from([name]));
    let kind = query.kind.as_deref().map(str::parse::<EventKind>).transpose().map_err(|error| {
        let kind = query.kind.as_deref().unwrap_or_default();
        OperationError::Nonsense(format!("{kind:?} is no kind of event: {error}"))
    })?;
    Ok(EventFilter {
        kinds: kind.map(|kind| BTreeSet::from([kind])),
        shares: only(&query.share),
        hooks: only(&query.hook),
    })
}

fn shown(event: LoggedEvent) -> api::Event {
    let LoggedEvent { seq, at, kind, share, path, hook, data } = event;
    let data = serde_json::from_str(&data).unwrap_or_default();
    let kind = kind.to_string();
    api::Event { seq, at: timestamp_of_millis(at), kind, share, path, hook, data }
}

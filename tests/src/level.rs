//! One level of a listing, as stores page it.

/// What a place of a listing stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// An object.
    Key(&'a str),
    /// All that begins so.
    Prefix(&'a str),
}

impl<'a> Place<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Key(name) | Self::Prefix(name) => name,
        }
    }
}

/// Up to `max` places behind `after` of the sorted `keys` that begin with `prefix`, keys that have `delimiter` behind that taken together
/// (an empty one: none); and behind which place to go on, if there are more.
pub(crate) fn level<'a>(
    keys: impl Iterator<Item = &'a str>,
    (prefix, delimiter): (&str, &str),
    after: &str,
    max: usize,
) -> (Vec<Place<'a>>, Option<String>) {
    let mut found: Vec<Place<'a>> = Vec::new();
    for key in keys.filter(|key| key.starts_with(prefix)) {
        let cut = key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty());
        let place = match cut {
            Some(at) => Place::Prefix(&key[..prefix.len() + at + delimiter.len()]),
            None => Place::Key(key),
        };
        if place.name() <= after || found.last().is_some_and(|last| last.name() == place.name()) {
            continue;
        }
        if found.len() == max {
            let next = found.last().map_or(after, |last| last.name()).to_owned();
            return (found, Some(next));
        }
        found.push(place);
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_comes_in_pages_with_each_prefix_once() {
        let keys = ["a", "b/1", "b/2", "c", "d/x"];
        let page = |after, max| level(keys.into_iter(), ("", "/"), after, max);
        let (a, b, c, d) =
            (Place::Key("a"), Place::Prefix("b/"), Place::Key("c"), Place::Prefix("d/"));
        assert_eq!(page("", 9), (vec![a, b, c, d], None));
        assert_eq!(page("", 2), (vec![a, b], Some("b/".into())));
        assert_eq!(page("b/", 2), (vec![c, d], None));
        assert_eq!(
            level(keys.into_iter(), ("b", ""), "", 9).0,
            [Place::Key("b/1"), Place::Key("b/2")]
        );
    }
}

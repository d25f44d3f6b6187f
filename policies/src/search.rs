//! What is searched for in the fields of results: `blurred = true and laplacian_variance < 80`.

use std::cmp::Ordering;
use std::str::FromStr;

use thiserror::Error;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Why nothing can be searched for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no condition: write FIELD = VALUE, with =, !=, <, <=, > or >=, and `and` between several"
)]
pub struct SearchError(String);

/// Conditions that all have to hold. A field that is not there fulfils none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    field: String,
    holds: Comparison,
    value: Field,
}

/// How a field may stand to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Comparison {
    less: bool,
    equal: bool,
    greater: bool,
}

/// The longer ones first: `<` begins `<=`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison { less: true, equal: true, greater: false }),
    (">=", Comparison { less: false, equal: true, greater: true }),
    ("!=", Comparison { less: true, equal: false, greater: true }),
    ("=", Comparison { less: false, equal: true, greater: false }),
    ("<", Comparison { less: true, equal: false, greater: false }),
    (">", Comparison { less: false, equal: false, greater: true }),
];

impl Search {
    /// Whether the fields that `value_of` tells fulfil all conditions.
    ///
    /// ```
    /// use policies::search::{Field, Search};
    /// let search: Search = "blurred = true and variance < 80".parse().unwrap();
    /// let fields = |name: &str| match name {
    ///     "blurred" => Some(Field::Bool(true)),
    ///     "variance" => Some(Field::Number(79.5)),
    ///     _ => None,
    /// };
    /// assert!(search.matches(fields));
    /// ```
    #[must_use]
    pub fn matches(&self, value_of: impl Fn(&str) -> Option<Field>) -> bool {
        self.0.iter().all(|Condition { field, holds, value }| {
            let order = value_of(field).and_then(|found| compare(&found, value));
            order.is_some_and(|order| match order {
                Ordering::Less => holds.less,
                Ordering::Equal => holds.equal,
                Ordering::Greater => holds.greater,
            })
        })
    }
}

impl Search {
    /// The fields that it asks for.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|condition| condition.field.as_str())
    }
}

/// None if the two are of different kinds.
fn compare(found: &Field, wanted: &Field) -> Option<Ordering> {
    match (found, wanted) {
        (Field::Bool(found), Field::Bool(wanted)) => Some(found.cmp(wanted)),
        (Field::Number(found), Field::Number(wanted)) => found.partial_cmp(wanted),
        (Field::Text(found), Field::Text(wanted)) => Some(found.cmp(wanted)),
        (Field::Bool(_) | Field::Number(_) | Field::Text(_), _) => None,
    }
}

impl FromStr for Search {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Self, SearchError> {
        let conditions = text
            .split(" and ")
            .map(|part| condition(part.trim()).ok_or_else(|| SearchError(part.trim().to_owned())));
        Ok(Self(conditions.collect::<Result<_, _>>()?))
    }
}

fn condition(text: &str) -> Option<Condition> {
    let at = text.find(['<', '>', '=', '!'])?;
    let (field, rest) = text.split_at(at);
    let (sign, holds) = COMPARISONS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
    let (field, value) = (field.trim(), rest[sign.len()..].trim());
    if field.is_empty() || value.is_empty() || value.starts_with(['<', '>', '=', '!']) {
        return None;
    }
    Some(Condition { field: field.to_owned(), holds, value: value_of(value) })
}

fn value_of(text: &str) -> Field {
    match (text, text.parse()) {
        ("true", _) => Field::Bool(true),
        ("false", _) => Field::Bool(false),
        (_, Ok(number)) => Field::Number(number),
        (_, Err(_)) => Field::Text(text.trim_matches(['"', '\'']).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &str) -> Option<Field> {
        match name {
            "blurred" => Some(Field::Bool(true)),
            "variance" => Some(Field::Number(80.0)),
            "label" => Some(Field::Text("a cat".to_owned())),
            _ => None,
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        for (text, matches) in [
            ("blurred = true", true),
            ("blurred=false", false),
            ("blurred != false", true),
            ("variance < 80", false),
            ("variance <= 80", true),
            ("variance>=80 and blurred=true", true),
            ("variance > 80 and blurred = true", false),
            ("label = 'a cat'", true),
            ("label = a cat", true),
            ("label != dog", true),
            ("unknown = 1", false),
            ("unknown != 1", false),
            ("label < 3", false),
        ] {
            let search: Search = text.parse().unwrap();
            assert_eq!(search.matches(fields), matches, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_shown() {
        for text in ["", "blurred", "= 3", "a =", "a == 3", "a = 1 and b"] {
            assert!(text.parse::<Search>().is_err(), "{text}");
        }
        let error = "a = 1 and blurry".parse::<Search>().unwrap_err().to_string();
        assert!(error.contains("\"blurry\" is no condition"), "{error}");
    }
}

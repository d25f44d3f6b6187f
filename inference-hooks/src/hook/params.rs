//! Parameters of a hook: declared with a type and a default in `hook.toml`, set in `params.toml`.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Spanned, Value};

use super::error::Document;
use super::file;
use super::{HookError, RESERVED_NAMES};

/// Most rectangles in one list.
pub const RECTS_MAX: usize = 256;

/// What a parameter may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// A whole number from 0.
    U32,
    /// A whole number.
    I32,
    /// A number.
    F32,
    /// `true` or `false`.
    Bool,
    /// A list of rectangles.
    Rects,
}

impl ParamType {
    const ALL: [Self; 5] = [Self::U32, Self::I32, Self::F32, Self::Bool, Self::Rects];

    fn name(self) -> &'static str {
        match self {
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::Rects => "rects",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rectangle in fractions of the picture as it is shown: the left upper corner is (0, 0), the right lower one (1, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge.
    pub right: f32,
    /// Lower edge.
    pub bottom: f32,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    /// A whole number from 0.
    U32(u32),
    /// A whole number.
    I32(i32),
    /// A number.
    F32(f32),
    /// A switch.
    Bool(bool),
    /// A list of rectangles.
    Rects(Vec<Rect>),
}

impl ParamValue {
    /// Its type.
    pub fn kind(&self) -> ParamType {
        match self {
            Self::U32(_) => ParamType::U32,
            Self::I32(_) => ParamType::I32,
            Self::F32(_) => ParamType::F32,
            Self::Bool(_) => ParamType::Bool,
            Self::Rects(_) => ParamType::Rects,
        }
    }

    /// Its value in an expression; a list counts its entries.
    pub(crate) fn number(&self) -> f64 {
        match self {
            Self::U32(value) => f64::from(*value),
            Self::I32(value) => f64::from(*value),
            Self::F32(value) => f64::from(*value),
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Rects(rects) => f64::from(u32::try_from(rects.len()).unwrap_or(u32::MAX)),
        }
    }
}

/// A hook's parameters by name, each with the value that holds.
pub type Params = BTreeMap<String, ParamValue>;

/// Reads the declarations of `hook.toml` and lets `params.toml`, if there is one, set values.
pub(super) fn read(
    hook: Document<'_>,
    declared: &BTreeMap<String, Spanned<file::Param>>,
    settings: Option<Document<'_>>,
) -> Result<Params, HookError> {
    let set = match settings {
        Some(document) => toml::from_str::<BTreeMap<String, Spanned<Value>>>(document.text)
            .map_err(|error| document.parse_error(&error))?,
        None => BTreeMap::new(),
    };
    let mut params = Params::new();
    for (name, param) in declared {
        let (span, param) = (param.span(), param.get_ref());
        super::check_identifier(hook, span, format!("params.{name}"), name, RESERVED_NAMES)?;
        let Some(kind) = ParamType::parse(param.kind.get_ref()) else {
            let key = format!("params.{name}.type");
            let known = ParamType::ALL.map(ParamType::name).join(", ");
            let remedy = format!("the types are {known}");
            return Err(hook.error(param.kind.span(), key, "is not a type", remedy));
        };
        let given = settings.and_then(|document| set.get(name).map(|value| (document, value)));
        let (document, value) = given.unwrap_or((hook, &param.default));
        let key = || if given.is_some() { name.clone() } else { format!("params.{name}.default") };
        let read = value_of(kind, value.get_ref())
            .and_then(|read| in_range(param, value.get_ref()).map(|()| read))
            .map_err(|(problem, remedy)| document.error(value.span(), key(), problem, remedy))?;
        params.insert(name.clone(), read);
    }
    if let Some(document) = settings
        && let Some((name, value)) = set.iter().find(|(name, _)| !declared.contains_key(*name))
    {
        let known: Vec<_> = declared.keys().map(String::as_str).collect();
        let remedy = format!("[params] of hook.toml declares: {}", known.join(", "));
        return Err(document.error(value.span(), name, "is not a parameter", remedy));
    }
    Ok(params)
}

type Complaint = (String, String);

fn value_of(kind: ParamType, value: &Value) -> Result<ParamValue, Complaint> {
    let wanted = || (format!("is not of type {kind}"), String::new());
    match kind {
        ParamType::U32 => whole(value).map(ParamValue::U32),
        ParamType::I32 => whole(value).map(ParamValue::I32),
        ParamType::F32 => number(value).map(ParamValue::F32).ok_or_else(wanted),
        ParamType::Bool => value.as_bool().map(ParamValue::Bool).ok_or_else(wanted),
        ParamType::Rects => rects(value).map(ParamValue::Rects),
    }
}

fn whole<T: TryFrom<i64>>(value: &Value) -> Result<T, Complaint> {
    value.as_integer().and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
        ("is not a whole number of this type".to_owned(), "write it without a point".to_owned())
    })
}

fn number(value: &Value) -> Option<f32> {
    let number = value.as_float().or_else(|| value.as_integer().map(|value| value as f64))?;
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what f32 means")]
    let number = number as f32;
    number.is_finite().then_some(number)
}

/// Compares the number as it is written: rounded to `f32`, a bound may lie outside of itself.
fn in_range(param: &file::Param, value: &Value) -> Result<(), Complaint> {
    let (number, what) = match value {
        Value::Integer(number) => (*number as f64, "value"),
        Value::Float(number) => (*number, "value"),
        Value::Array(list) => (list.len() as f64, "number of entries"),
        Value::String(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => {
            return Ok(());
        }
    };
    let (min, max) = (param.min.unwrap_or(f64::NEG_INFINITY), param.max.unwrap_or(f64::INFINITY));
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(("is out of range".to_owned(), format!("its {what} must be from {min} to {max}")))
}

fn rects(value: &Value) -> Result<Vec<Rect>, Complaint> {
    let remedy = "write a list of { x = 0.1, y = 0.2, width = 0.3, height = 0.4 }, in fractions of the picture";
    let list = value.as_array().ok_or_else(|| ("is not a list".to_owned(), remedy.to_owned()))?;
    if list.len() > RECTS_MAX {
        let problem = format!("has {} rectangles", list.len());
        return Err((problem, format!("{RECTS_MAX} are allowed")));
    }
    let rects = list.iter().enumerate().map(|(index, entry)| {
        rect(entry).ok_or_else(|| {
            let problem = format!("has no rectangle within the picture at position {}", index + 1);
            (problem, remedy.to_owned())
        })
    });
    rects.collect()
}

fn rect(value: &Value) -> Option<Rect> {
    let table = value.as_table()?;
    let [x, y, width, height] = ["x", "y", "width", "height"]
        .map(|key| table.get(key).and_then(number).filter(|value| (0.0..=1.0).contains(value)));
    let (left, top) = (x?, y?);
    let rect = Rect { left, top, right: left + width?, bottom: top + height? };
    // A sum such as 0.7 + 0.3 may come out a hair over 1.
    let inside = |edge: f32| edge <= 1.0 + 1e-5;
    let sound = table.len() == 4
        && rect.left < rect.right
        && rect.top < rect.bottom
        && inside(rect.right)
        && inside(rect.bottom);
    sound.then_some(rect)
}

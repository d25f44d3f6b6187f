//! What a program is told, in variables and in `/input.json`; the same for sandboxes and containers.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde_json::{Map, Value, json};

use super::{Change, Context};
use crate::hook::{Hook, OWN_VARIABLES, ParamValue, Rect, Work};

/// Where a program finds its hook's files.
pub(super) const HOOK: &str = "/hook";
/// The folder of the input file.
pub(super) const INPUT: &str = "/input";
/// What is told, as a file.
pub(super) const INPUT_JSON: &str = "/input.json";
/// Where it leaves what it has to say.
pub(super) const OUTPUT: &str = "/output";
/// In there: the fields of its result.
pub(super) const RESULT: &str = "result.json";

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
        }
    }
}

/// The last name of the path, which the input file has, too.
pub(super) fn file_name(context: &Context) -> OsString {
    let name = context.path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    match name {
        b"" | b"." | b".." => "file".into(),
        name => OsStr::from_bytes(name).to_owned(),
    }
}

/// The environment of a program: what fsd says, and the hook's own variables.
pub(super) fn variables(hook: &Hook, bytes: u64, context: &Context) -> Vec<(String, OsString)> {
    let bounds = match hook.work() {
        Work::Shaders(_) => None,
        Work::Command(command) => Some(&command.bounds),
        Work::Container(container) => Some(&container.bounds),
    };
    let fixed = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8")];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.into()));
    let own = bounds.iter().flat_map(|bounds| &bounds.environment);
    let own = own.map(|(name, value)| (name.clone(), value.into()));
    let input = [INPUT.as_bytes(), b"/", file_name(context).as_bytes()].concat();
    let told = [
        ("INPUT", OsString::from_vec(input)),
        ("OUTPUT", OUTPUT.into()),
        ("SHARE", context.share.clone().into()),
        ("PATH", context.path.clone()),
        ("HOOK", hook.name().into()),
        ("VERSION", hook.version().as_str().into()),
        ("BYTES", bytes.to_string().into()),
        ("CHANGE_TYPE", context.change.word().into()),
        ("PARAMS", params(hook).to_string().into()),
    ];
    let told = told.map(|(name, value)| (format!("{OWN_VARIABLES}{name}"), value));
    // The hook's own go before the fixed ones.
    let all: BTreeMap<_, _> = fixed.into_iter().chain(own).chain(told).collect();
    all.into_iter().collect()
}

/// The same as `/input.json`. Bytes of a name that are no UTF-8 are replaced: the variables have them.
pub(super) fn json(hook: &Hook, bytes: u64, context: &Context) -> Value {
    let input = format!("{INPUT}/{}", file_name(context).to_string_lossy());
    json!({
        "input": input,
        "output": OUTPUT,
        "share": context.share,
        "path": context.path.to_string_lossy(),
        "hook": hook.name(),
        "version": hook.version(),
        "bytes": bytes,
        "change_type": context.change.word(),
        "params": params(hook),
    })
}

fn params(hook: &Hook) -> Value {
    let params = hook.params().iter().map(|(name, value)| (name.clone(), param(value)));
    Value::Object(Map::from_iter(params))
}

fn param(value: &ParamValue) -> Value {
    match value {
        ParamValue::U32(value) => json!(value),
        ParamValue::I32(value) => json!(value),
        ParamValue::F32(value) => json!(value),
        ParamValue::Bool(value) => json!(value),
        ParamValue::Rects(rects) => rects.iter().map(rect).collect(),
    }
}

fn rect(Rect { left, top, right, bottom }: &Rect) -> Value {
    json!({ "left": left, "top": top, "right": right, "bottom": bottom })
}

//! The part of every shader that is generated from `hook.toml`: the structures and bindings. It is appended to the
//! user's source, so that line numbers in errors are the user's own and directives may stand at the top.

use std::fmt::Write as _;

use super::file;
use crate::hook::{FieldType, Hook, Kind, ParamType};

/// What a binding of group 0 is to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// One `File` for each file of the batch.
    Files,
    /// All decoded files, packed.
    Input,
    /// All derived pictures or tables, packed.
    Output,
    /// One `Report` for each file.
    Report,
    /// The scalar parameters.
    Params,
    /// The numbers of elements that one file has in each buffer.
    Batch,
    /// A list parameter, by position among the parameters.
    List(usize),
    /// A buffer, by position in [`Hook::buffers`].
    Buffer(usize),
}

/// How a shader sees a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Uniform,
    Read,
    ReadWrite,
}

/// A binding of group 0; its number is its position in the list.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) resource: Resource,
    pub(super) access: Access,
    element: String,
}

/// The bindings of a hook, in order of their numbers.
pub(super) fn bindings(hook: &Hook) -> Vec<Binding> {
    let binding = |name: &str, resource, access, element: String| Binding {
        name: name.to_owned(),
        resource,
        access,
        element,
    };
    let array = |element: &str| format!("array<{element}>");
    let mut bindings = vec![
        binding("files", Resource::Files, Access::Read, array("File")),
        binding("input", Resource::Input, Access::Read, array("u32")),
        binding("batch", Resource::Batch, Access::Uniform, "Batch".to_owned()),
    ];
    if hook.output().table.is_some() {
        bindings.push(binding("output", Resource::Output, Access::ReadWrite, array("Row")));
    }
    if hook.output().image.is_some() {
        bindings.push(binding("output", Resource::Output, Access::ReadWrite, array("u32")));
    }
    if !hook.output().fields.is_empty() {
        bindings.push(binding("report", Resource::Report, Access::ReadWrite, array("Report")));
    }
    if !hook.params().is_empty() {
        bindings.push(binding("params", Resource::Params, Access::Uniform, "Params".to_owned()));
    }
    for (index, (name, value)) in hook.params().iter().enumerate() {
        if value.kind() == ParamType::Rects {
            let list = Resource::List(index);
            bindings.push(binding(name, list, Access::Read, array("vec4<f32>")));
        }
    }
    for (index, buffer) in hook.buffers().iter().enumerate() {
        let resource = Resource::Buffer(index);
        let element = array(buffer.element.name());
        bindings.push(binding(&buffer.name, resource, Access::ReadWrite, element));
    }
    bindings
}

/// The generated source for a hook.
pub(super) fn source(hook: &Hook) -> String {
    let mut text = String::from("\n// Generated from hook.toml.\n");
    let members = file::members(hook);
    structure(&mut text, "File", members.map(|(name, kind)| ((*name).to_owned(), *kind)));
    let lens = hook.buffers().iter().map(|buffer| (format!("{}_len", buffer.name), "u32"));
    structure(&mut text, "Batch", std::iter::once(("files".to_owned(), "u32")).chain(lens));
    if !hook.params().is_empty() {
        let params = hook.params().iter().map(|(name, value)| match value.kind() {
            ParamType::U32 | ParamType::Bool => (name.clone(), "u32"),
            ParamType::I32 => (name.clone(), "i32"),
            ParamType::F32 => (name.clone(), "f32"),
            ParamType::Rects => (format!("{name}_count"), "u32"),
        });
        structure(&mut text, "Params", params);
    }
    if !hook.output().fields.is_empty() {
        let fields = hook.output().fields.iter().map(|(name, kind)| match kind {
            FieldType::U32 | FieldType::Bool => (name.clone(), "u32"),
            FieldType::I32 => (name.clone(), "i32"),
            FieldType::F32 => (name.clone(), "f32"),
        });
        structure(&mut text, "Report", fields);
    }
    if let Some(table) = &hook.output().table {
        let cells = table.columns.iter().map(|(name, kind)| (name.clone(), kind.wgsl()));
        structure(&mut text, "Row", cells);
    }
    for (number, Binding { name, access, element, .. }) in bindings(hook).iter().enumerate() {
        let space = match access {
            Access::Uniform => "uniform",
            Access::Read => "storage, read",
            Access::ReadWrite => "storage, read_write",
        };
        line(
            &mut text,
            format_args!("@group(0) @binding({number}) var<{space}> {name}: {element};"),
        );
    }
    for buffer in hook.buffers() {
        let name = &buffer.name;
        line(
            &mut text,
            format_args!("fn {name}_at(file: u32) -> u32 {{ return file * batch.{name}_len; }}"),
        );
    }
    text.push_str(accessor(hook.kind()));
    text
}

/// How a shader reads its input where that takes more than an index.
fn accessor(kind: &Kind) -> &'static str {
    match kind {
        Kind::Image | Kind::Table(_) => "",
        Kind::Audio(_) => {
            "fn sample(file: File, channel: u32, frame: u32) -> f32 \
             { return bitcast<f32>(input[file.offset + channel * file.frames + frame]); }\n"
        }
        Kind::Bytes => {
            "fn byte(file: File, index: u32) -> u32 \
             { return (input[file.offset + index / 4u] >> (index % 4u * 8u)) & 0xffu; }\n"
        }
    }
}

fn structure(text: &mut String, name: &str, fields: impl Iterator<Item = (String, &'static str)>) {
    let fields: Vec<_> = fields.map(|(name, kind)| format!("{name}: {kind}")).collect();
    line(text, format_args!("struct {name} {{ {} }}", fields.join(", ")));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

//! What a user's shader is looked at for before a driver sees it: that it is valid, that it touches what it says,
//! and that it is not a bomb. A driver's compiler cannot be interrupted and inlines every call.

use thiserror::Error;
use wgpu::naga;
use wgpu::naga::valid::{Capabilities, FunctionInfo, GlobalUse, ValidationFlags, Validator};

use super::prelude::{self, Access, Binding};
use crate::hook::{Hook, HookError, Pass};

/// Largest shader file.
pub(crate) const SHADER_BYTES_MAX: usize = 256 << 10;
/// Most statements and expressions of an entry point with every call inlined. Mesa took 5 s for about 80,000.
pub(crate) const SHADER_EXPANDED_MAX: u64 = 32_768;
/// Most memory that one invocation may have in variables: a driver keeps it in registers or spills it.
pub(crate) const INVOCATION_BYTES_MAX: u64 = 64 << 10;

/// Why a shader is not given to a driver.
#[derive(Debug, Error)]
pub(crate) enum ShaderError {
    #[error(transparent)]
    Source(#[from] HookError),
    #[error("{shader} has {bytes} bytes; {SHADER_BYTES_MAX} are allowed")]
    TooLong { shader: String, bytes: usize },
    #[error("{0}")]
    Invalid(String),
    #[error("{shader} has no compute entry point `{entry}`; it has {known}")]
    NoEntry { shader: String, entry: String, known: String },
    #[error(
        "{shader}: with its calls inlined, `{entry}` has {size} statements and expressions; \
         {SHADER_EXPANDED_MAX} are allowed: call the same function less often"
    )]
    TooComplex { shader: String, entry: String, size: u64 },
    #[error(
        "{shader}: `{entry}` keeps {bytes} bytes of variables in each invocation; \
         {INVOCATION_BYTES_MAX} are allowed: use [buffers]"
    )]
    TooMuchState { shader: String, entry: String, bytes: u64 },
    #[error(
        "{shader}: `{entry}` {does} `{name}`, but its pass in hook.toml does not say so: \
         add it to `{list}`"
    )]
    Undeclared {
        shader: String,
        entry: String,
        does: &'static str,
        name: String,
        list: &'static str,
    },
}

/// A shader that may be compiled.
#[derive(Debug)]
pub(super) struct Inspected {
    /// The user's source with the generated part.
    pub(super) source: String,
    /// The numbers of the bindings that the entry point uses.
    pub(super) bindings: Vec<usize>,
}

/// Looks at all shaders of a hook.
pub(crate) fn inspect_hook(hook: &Hook) -> Result<(), ShaderError> {
    let (prelude, bindings) = (prelude::source(hook), prelude::bindings(hook));
    hook.passes().iter().try_for_each(|pass| inspect(hook, pass, &prelude, &bindings).map(drop))
}

/// Looks at the shader of one pass.
pub(super) fn inspect(
    hook: &Hook,
    pass: &Pass,
    prelude: &str,
    bindings: &[Binding],
) -> Result<Inspected, ShaderError> {
    let (shader, entry) = (pass.shader.clone(), pass.entry.clone());
    let user = hook.source().text(&shader)?.unwrap_or_default();
    if user.len() > SHADER_BYTES_MAX {
        return Err(ShaderError::TooLong { shader, bytes: user.len() });
    }
    let source = format!("{user}\n{prelude}");
    let module = naga::front::wgsl::parse_str(&source)
        .map_err(|error| ShaderError::Invalid(error.emit_to_string_with_path(&source, &shader)))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|error| ShaderError::Invalid(error.emit_to_string_with_path(&source, &shader)))?;
    let compute = |entry: &&naga::EntryPoint| entry.stage == naga::ShaderStage::Compute;
    let position = module.entry_points.iter().position(|found| found.name == entry);
    let index =
        position.filter(|index| compute(&&module.entry_points[*index])).ok_or_else(|| {
            let known = module.entry_points.iter().filter(compute).map(|entry| entry.name.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            ShaderError::NoEntry { shader: shader.clone(), entry: entry.clone(), known }
        })?;
    let function = &module.entry_points[index].function;
    let size = Sizes::of(&module).expanded(function);
    if size > SHADER_EXPANDED_MAX {
        return Err(ShaderError::TooComplex { shader, entry, size });
    }
    let bytes = invocation_bytes(&module);
    if bytes > INVOCATION_BYTES_MAX {
        return Err(ShaderError::TooMuchState { shader, entry, bytes });
    }
    let used = used_bindings(&module, info.get_entry_point(index), pass, bindings)?;
    Ok(Inspected { source, bindings: used })
}

/// The size of each function with all its calls inlined.
struct Sizes {
    functions: Vec<u64>,
}

impl Sizes {
    /// WGSL has no recursion, and naga keeps a callee before its callers.
    fn of(module: &naga::Module) -> Self {
        let mut sizes = Self { functions: Vec::new() };
        for (_, function) in module.functions.iter() {
            let size = sizes.expanded(function);
            sizes.functions.push(size);
        }
        sizes
    }

    fn expanded(&self, function: &naga::Function) -> u64 {
        let own = u64::try_from(function.expressions.len()).unwrap_or(u64::MAX);
        own.saturating_add(self.block(&function.body))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other statements hold no block")]
    fn block(&self, block: &naga::Block) -> u64 {
        use naga::Statement;
        let statement = |statement: &Statement| -> u64 {
            match statement {
                Statement::Block(inner) => self.block(inner),
                Statement::If { accept, reject, .. } => {
                    self.block(accept).saturating_add(self.block(reject))
                }
                Statement::Switch { cases, .. } => cases
                    .iter()
                    .fold(0, |sum: u64, case| sum.saturating_add(self.block(&case.body))),
                Statement::Loop { body, continuing, .. } => {
                    self.block(body).saturating_add(self.block(continuing))
                }
                Statement::Call { function, .. } => {
                    self.functions.get(function.index()).copied().unwrap_or(u64::MAX)
                }
                _ => 0,
            }
        };
        block.iter().fold(0, |sum: u64, next| sum.saturating_add(1).saturating_add(statement(next)))
    }
}

/// What the private and function variables of a module take in each invocation, all together.
fn invocation_bytes(module: &naga::Module) -> u64 {
    let size = |ty: naga::Handle<naga::Type>| {
        let bytes = module.types[ty].inner.try_size(module.to_ctx());
        bytes.map_or(u64::MAX, u64::from)
    };
    let private = module.global_variables.iter().map(|(_, variable)| variable);
    let private = private.filter(|variable| variable.space == naga::AddressSpace::Private);
    let functions = module.functions.iter().map(|(_, function)| function);
    let entries = module.entry_points.iter().map(|entry| &entry.function);
    let locals = functions.chain(entries).flat_map(|function| function.local_variables.iter());
    let types = private.map(|variable| variable.ty).chain(locals.map(|(_, local)| local.ty));
    types.fold(0, |sum: u64, ty| sum.saturating_add(size(ty)))
}

/// The bindings that an entry point uses, which must be what its pass declares.
fn used_bindings(
    module: &naga::Module,
    info: &FunctionInfo,
    pass: &Pass,
    bindings: &[Binding],
) -> Result<Vec<usize>, ShaderError> {
    let mut used = Vec::new();
    for (handle, variable) in module.global_variables.iter() {
        let uses = info[handle];
        let Some(bound) = variable.binding.filter(|_| !uses.is_empty()) else { continue };
        let number = usize::try_from(bound.binding).ok().filter(|_| bound.group == 0);
        let name = variable.name.clone().unwrap_or_default();
        let known = number.filter(|number| bindings.get(*number).is_some_and(|b| b.name == name));
        let Some(number) = known else {
            let text = "fsd declares all bindings itself; remove this one";
            return Err(ShaderError::Invalid(format!("{}: `{name}`: {text}", pass.shader)));
        };
        used.push(number);
        let undeclared = |does, list| ShaderError::Undeclared {
            shader: pass.shader.clone(),
            entry: pass.entry.clone(),
            does,
            name: name.clone(),
            list,
        };
        let declared_read = pass.reads.contains(&name);
        let declared_write = pass.writes.contains(&name);
        let fixed = matches!(bindings[number].access, Access::Uniform)
            || (bindings[number].access == Access::Read && name != "input");
        if !fixed && uses.contains(GlobalUse::WRITE) && !declared_write {
            return Err(undeclared("writes", "writes"));
        }
        // A pass that writes a buffer may look at what it has written.
        if !fixed && uses.contains(GlobalUse::READ) && !declared_read && !declared_write {
            return Err(undeclared("reads", "reads"));
        }
    }
    used.sort_unstable();
    Ok(used)
}

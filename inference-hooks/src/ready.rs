//! The hooks that come with fsd, as the folders that a user would write.

use std::collections::BTreeMap;

use crate::hook::HookSource;

/// A hook that comes with fsd.
#[derive(Clone, Copy, Debug)]
pub struct ReadyHook {
    /// Its name and that of its folder.
    pub name: &'static str,
    /// Its files: name and text.
    pub files: &'static [(&'static str, &'static str)],
}

impl ReadyHook {
    /// Its files as a hook folder.
    ///
    /// ```
    /// use inference_hooks::{Hook, ready_hooks};
    ///
    /// for ready in ready_hooks() {
    ///     let hook = Hook::parse(ready.source())?;
    ///     assert_eq!(hook.name(), ready.name);
    /// }
    /// # Ok::<(), inference_hooks::HookError>(())
    /// ```
    pub fn source(&self) -> HookSource {
        let files = self.files.iter();
        let files = files.map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
        HookSource::new(BTreeMap::from_iter(files))
    }
}

macro_rules! ready_hook {
    ($name:literal: $($file:literal),+) => {
        ReadyHook {
            name: $name,
            files: &[$(($file, include_str!(concat!("../hooks/", $name, "/", $file)))),+],
        }
    };
}

const READY_HOOKS: &[ReadyHook] = &[
    ready_hook!("privacy-blur": "hook.toml", "params.toml", "blur.wgsl"),
    ready_hook!("sharpness": "hook.toml", "sharpness.wgsl"),
    ready_hook!("telemetry": "hook.toml", "telemetry.wgsl"),
    ready_hook!("thumbnail": "hook.toml", "thumbnail.wgsl"),
];

/// All hooks that come with fsd.
pub fn ready_hooks() -> &'static [ReadyHook] {
    READY_HOOKS
}

//! What a hook said becomes files and attributes: a sidecar, derived files, and an extended attribute of the file itself.

use std::sync::Arc;

use inference_hooks::{Hook, JobOutput};

use super::rules::{ResultsPlace, Rule, path_text};
use crate::meta::Inode;
use crate::types::{FileKind, Ino};
use crate::vfs::{Caller, Result, Share, Vfs, VfsError, XATTR_BYTES_MAX, XattrChange, XattrHow};

const XATTR_PREFIX: &str = "user.fsd.hook.";

/// Where the version is that a result is about, if it is not at its path: share and path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Elsewhere<'a> {
    /// Something took its place.
    Original(&'a str),
    /// It moved to another share.
    Routed(&'a str),
}

/// Writes the files that `output` says of version `inode` at `path`; doing it twice leaves the same. Returns the result as JSON.
///
/// # Errors
/// As the vfs.
pub(super) async fn apply(
    vfs: &Arc<Vfs>,
    rule: &Rule,
    share: &Share,
    inode: &Inode,
    path: &[Vec<u8>],
    output: JobOutput,
    is_at: Option<Elsewhere<'_>>,
) -> Result<serde_json::Value> {
    let caller = Caller { uid: inode.attr.uid, gid: inode.attr.gid, umask: 0 };
    let (name, folders) = path.split_last().ok_or(VfsError::NoEntry)?;
    let (root, mut names, prefix) = match &rule.results {
        ResultsPlace::Folder(folder) => {
            (share.root, vec![folder.clone()], path_text(std::slice::from_ref(folder)))
        }
        ResultsPlace::Share(id) => {
            let results = vfs.share(*id)?;
            (
                results.root,
                vec![share.name.clone().into_bytes()],
                format!("{}:{}", results.name, share.name),
            )
        }
    };
    names.extend(folders.iter().cloned());
    let folder = folder(vfs, root, &names, caller).await?;
    let mut json = output.to_json(&rule.hook);
    let mut derived_names = Vec::new();
    for derived in output.derived {
        let derived_name = [name.as_slice(), derived.suffix.as_bytes()].concat();
        let mut shown = vec![prefix.clone()];
        shown.extend(folders_text(folders));
        shown.push(lossy(&derived_name));
        let bytes = derived.read()?;
        vfs.put_file(folder, &derived_name, caller, &bytes).await?;
        derived_names.push(shown.join("/"));
    }
    json["derived"] = derived_names.into();
    json["path"] = path_text(path).into();
    match is_at {
        None => {}
        Some(Elsewhere::Original(place)) => json["original"] = place.into(),
        Some(Elsewhere::Routed(place)) => json["routed"] = place.into(),
    }
    let sidecar = sidecar_name(name, &rule.hook);
    let text = serde_json::to_vec_pretty(&json).map_err(std::io::Error::other)?;
    vfs.put_file(folder, &sidecar, caller, &text).await?;
    Ok(json)
}

/// What `rule` said, for the attributes of a file; what is too long for one takes away what was said before.
pub(super) fn mark(
    vfs: &Vfs,
    rule: &Rule,
    ino: Ino,
    fields: &serde_json::Map<String, serde_json::Value>,
) -> Result<XattrChange> {
    let attribute = format!("{XATTR_PREFIX}{}", rule.hook.name());
    let text = serde_json::to_vec(fields).map_err(std::io::Error::other)?;
    let value = Some(text.as_slice()).filter(|text| text.len() <= XATTR_BYTES_MAX);
    vfs.xattr_change(ino, attribute.as_bytes(), value, XattrHow::Any)
}

fn sidecar_name(name: &[u8], hook: &Hook) -> Vec<u8> {
    [name, b".", hook.name().as_bytes(), b".json"].concat()
}

/// The folder `names` below `root`, made where it is missing.
pub(super) async fn folder(
    vfs: &Arc<Vfs>,
    root: Ino,
    names: &[Vec<u8>],
    caller: Caller,
) -> Result<Ino> {
    let mut at = root;
    for name in names {
        at = match vfs.lookup(at, name).await {
            Ok(found) if found.attr.kind == FileKind::Dir => found.ino,
            Ok(_) => return Err(VfsError::NotDir),
            Err(VfsError::NoEntry) => match vfs.make_dir(at, name, 0o755, caller) {
                Ok(made) => {
                    vfs.announce_name(at, name);
                    made.ino
                }
                // Another hook's result goes there, too.
                Err(VfsError::Exists) => vfs.lookup(at, name).await?.ino,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
    }
    Ok(at)
}

fn folders_text(folders: &[Vec<u8>]) -> Vec<String> {
    folders.iter().map(|folder| lossy(folder)).collect()
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

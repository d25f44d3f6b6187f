//! What a hook said becomes files and attributes: a sidecar, derived files, and an extended attribute of the file itself.

use std::sync::Arc;

use inference_hooks::JobOutput;

use super::rules::{ResultsPlace, Rule, path_text};
use crate::meta::Inode;
use crate::types::{Attr, FileKind, Ino, NAME_BYTES_MAX, fnv1a};
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
    let (root, head, prefix) = match &rule.results {
        ResultsPlace::Folder(folder) => {
            (share.root, folder.clone(), path_text(std::slice::from_ref(folder)))
        }
        ResultsPlace::Share(id) => {
            let results = vfs.share(*id)?;
            let prefix = format!("{}:{}", results.name, share.name);
            (results.root, share.name.clone().into_bytes(), prefix)
        }
    };
    let folder = folder(vfs, (root, &head), share, folders).await?;
    // Whoever may not read the file may not read what was made of it.
    let perm = inode.attr.perm & 0o666 | 0o600;
    let mut json = output.to_json(&rule.hook);
    let mut derived_names = Vec::new();
    for derived in output.derived {
        let derived_name = followed(name, &derived.suffix);
        let mut shown = vec![prefix.clone()];
        shown.extend(folders_text(folders));
        shown.push(lossy(&derived_name));
        let bytes = derived.read()?;
        vfs.put_file(folder, &derived_name, (perm, caller), &bytes).await?;
        derived_names.push(shown.join("/"));
    }
    json["derived"] = derived_names.into();
    json["path"] = path_text(path).into();
    match is_at {
        None => {}
        Some(Elsewhere::Original(place)) => json["original"] = place.into(),
        Some(Elsewhere::Routed(place)) => json["routed"] = place.into(),
    }
    let sidecar = followed(name, &format!(".{}.json", rule.hook.name()));
    let text = serde_json::to_vec_pretty(&json).map_err(std::io::Error::other)?;
    vfs.put_file(folder, &sidecar, (perm, caller), &text).await?;
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

/// `name` with `suffix`; of a name that is too long with that, as much as fits, and a hash of all of it.
fn followed(name: &[u8], suffix: &str) -> Vec<u8> {
    if name.len() + suffix.len() <= NAME_BYTES_MAX {
        return [name, suffix.as_bytes()].concat();
    }
    let mark = format!("~{:016x}", fnv1a(name.iter().copied()));
    let mut fits = NAME_BYTES_MAX.saturating_sub(suffix.len() + mark.len()).min(name.len());
    // Not in the middle of a character of UTF-8.
    while fits > 0 && name[fits] & 0xc0 == 0x80 {
        fits -= 1;
    }
    [&name[..fits], mark.as_bytes(), suffix.as_bytes()].concat()
}

/// The folder `folders` below `head` below `root`, made where it is missing: for whom the folders of the share `from` are, for those.
pub(super) async fn folder(
    vfs: &Arc<Vfs>,
    (root, head): (Ino, &[u8]),
    from: &Share,
    folders: &[Vec<u8>],
) -> Result<Ino> {
    let (mut source, mut like) = (from.root, vfs.attr(from.root)?);
    let mut at = enter(vfs, root, head, &like).await?;
    for name in folders {
        // One that was moved meanwhile is for no more people than the one above it.
        if let Ok(found) = vfs.lookup(source, name).await {
            (source, like) = (found.ino, found.attr);
        }
        at = enter(vfs, at, name, &like).await?;
    }
    Ok(at)
}

/// The folder `name` in `at`, made if it is missing, for those that `like` is for.
async fn enter(vfs: &Arc<Vfs>, at: Ino, name: &[u8], like: &Attr) -> Result<Ino> {
    match vfs.lookup(at, name).await {
        Ok(found) if found.attr.kind == FileKind::Dir => return Ok(found.ino),
        Ok(_) => return Err(VfsError::NotDir),
        Err(VfsError::NoEntry) => {}
        Err(error) => return Err(error),
    }
    let caller = Caller { uid: like.uid, gid: like.gid, umask: 0 };
    match vfs.make_dir(at, name, like.perm, caller) {
        Ok(made) => {
            vfs.announce_name(at, name);
            Ok(made.ino)
        }
        // Another hook's result goes there, too.
        Err(VfsError::Exists) => Ok(vfs.lookup(at, name).await?.ino),
        Err(error) => Err(error),
    }
}

fn folders_text(folders: &[Vec<u8>]) -> Vec<String> {
    folders.iter().map(|folder| lossy(folder)).collect()
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_a_name_that_fits_and_two_long_names_have_two() {
        assert_eq!(followed(b"a.jpg", ".thumb.jpg"), b"a.jpg.thumb.jpg");
        let long = |end: &str| [&"ä".repeat(126), end].concat().into_bytes();
        let [one, other] = ["x", "y"].map(|end| followed(&long(end), ".sharpness.json"));
        for name in [&one, &other] {
            assert!(
                name.len() <= NAME_BYTES_MAX && name.ends_with(b".sharpness.json"),
                "{}",
                name.len()
            );
            assert!(std::str::from_utf8(name).is_ok());
        }
        assert_ne!(one, other);
    }
}

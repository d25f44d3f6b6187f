//! What to do next about an inode that differs from what the cloud has of it. Pure: from records to one step.
//!
//! A step is small and its outcome is stored before the next one is planned, so a crash anywhere only means planning again. What
//! the planner promises: no object is overwritten that is somebody's only copy, no version goes up that is not whole, and an
//! object that is replaced was the version we know.

use crate::meta::Inode;
use crate::remote::Condition;
use crate::types::{ETag, FileKind, Ino, Key, KeyError};

/// An inode whose object stands where the subject wants to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) ino: Ino,
    /// Where its object is.
    pub(super) key: Key,
    /// What its object is; a directory may have none.
    pub(super) etag: Option<ETag>,
    pub(super) kind: FileKind,
    /// Whether the place that it wants itself is free.
    pub(super) can_go_home: bool,
}

/// All records that a plan depends on.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// What it has to be in the cloud: of an alias, the file behind, with the alias's number and object.
    pub(super) inode: Inode,
    /// Whose content it is: its own but of an alias.
    pub(super) file: Ino,
    /// The key that its name asks for; none if it has no name any more.
    pub(super) wanted: Option<Result<Key, KeyError>>,
    /// Its object's key stands for its path already, be it in another tool's spelling.
    pub(super) at_home: bool,
    /// It is open for writing.
    pub(super) writing: bool,
    /// The uppermost directory above it that has another name than its record says: what is in it may have gone up under any of its names, and
    /// it does not know that any more once its record fits again.
    pub(super) above: Option<Ino>,
    /// Who is at `wanted`, if that is another inode; or where a directory above it has to be.
    pub(super) occupant: Option<Occupant>,
    /// The version of a deleted file's object that is still at `wanted`, be it that it is to stay until somebody else wants the place.
    pub(super) tombstone: Option<ETag>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It differs no more.
    Done,
    /// Its writer is not done.
    Wait,
    /// It can't be in the cloud under its name.
    Park(KeyError),
    /// Write content and attributes; afterwards an object left elsewhere is to be deleted.
    Put { key: Key, condition: Condition },
    /// Replace the attributes.
    SetMetadata { key: Key, expect: ETag },
    /// Copy the object to where its name says; afterwards the old one is to be deleted. `replacing`: a deleted file's object there.
    Move { from: Key, etag: ETag, to: Key, replacing: Option<ETag> },
    /// A directory has moved: let all that is in it move, and its marker.
    Descend,
    /// Somebody else must go first.
    First(Ino),
    /// Somebody else can't go where it wants, so its object stands aside meanwhile.
    Aside { ino: Ino, from: Key, etag: ETag, to: Key },
}

/// Where objects stand aside: below a name that no file of the share can have.
pub(super) fn aside_key(ino: Ino) -> Key {
    Key::from_raw(format!(".fsd/moving/{ino}"))
}

/// The next step for `subject`.
pub(super) fn plan(subject: &Subject) -> Step {
    let Subject { inode, file: _, wanted, at_home, writing, above, occupant, tombstone } = subject;
    let wanted = match wanted {
        None => return Step::Done,
        Some(_) if *writing => return Step::Wait,
        Some(Err(error)) => return Step::Park(error.clone()),
        Some(Ok(key)) => key,
    };
    if let Some(dir) = above {
        return Step::First(*dir);
    }
    let is_dir = inode.attr.kind == FileKind::Dir;
    let Some(object) = &inode.object else {
        if let Some(occupant) = occupant {
            return make_way(occupant);
        }
        let condition = if is_dir { Condition::Always } else { absent_or(tombstone.clone()) };
        return Step::Put { key: wanted.clone(), condition };
    };
    if is_dir && !at_home {
        return Step::Descend;
    }
    let differs = object.content != inode.content || (object.etag.is_none() && !is_dir);
    if !at_home {
        if let Some(occupant) = occupant {
            return make_way(occupant);
        }
        return match &object.etag {
            Some(etag) if !differs => Step::Move {
                from: object.key.clone(),
                etag: etag.clone(),
                to: wanted.clone(),
                replacing: tombstone.clone(),
            },
            Some(_) | None => {
                Step::Put { key: wanted.clone(), condition: absent_or(tombstone.clone()) }
            }
        };
    }
    let attrs_differ = object.attrs != inode.attrs;
    match (&object.etag, is_dir) {
        (_, true) if attrs_differ => {
            Step::Put { key: object.key.clone(), condition: Condition::Always }
        }
        (_, true) => Step::Done,
        (etag, false) if differs => {
            let condition = etag.clone().map_or(Condition::Absent, Condition::Match);
            Step::Put { key: object.key.clone(), condition }
        }
        (Some(etag), false) if attrs_differ => {
            Step::SetMetadata { key: object.key.clone(), expect: etag.clone() }
        }
        (_, false) => Step::Done,
    }
}

fn absent_or(etag: Option<ETag>) -> Condition {
    etag.map_or(Condition::Absent, Condition::Match)
}

/// Who stands where another wants to be goes home if that is free, and aside if not: two that want each other's place would wait for ever.
fn make_way(occupant: &Occupant) -> Step {
    let Occupant { ino, key, etag, kind, can_go_home } = occupant;
    match etag {
        // A directory's record moves without its content, so nothing can be in its way.
        _ if *kind == FileKind::Dir => Step::First(*ino),
        Some(etag) if !can_go_home => {
            Step::Aside { ino: *ino, from: key.clone(), etag: etag.clone(), to: aside_key(*ino) }
        }
        Some(_) | None => Step::First(*ino),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ObjectRecord;
    use crate::types::{Attr, ShareId, Time};

    fn inode(kind: FileKind, object: Option<(&str, Option<&str>, u64, u64)>) -> Inode {
        let time = Time::default();
        Inode {
            ino: Ino(7),
            share: ShareId(1),
            attr: Attr {
                kind,
                perm: 0o644,
                uid: 0,
                gid: 0,
                size: 3,
                atime: time,
                mtime: time,
                ctime: time,
                nlink: 1,
                rdev: 0,
            },
            target: None,
            content: 2,
            attrs: 5,
            backing: 1,
            attrs_known: true,
            object: object.map(|(key, etag, content, attrs)| ObjectRecord {
                key: Key::from_raw(key),
                etag: etag.map(|e| ETag(e.into())),
                content,
                attrs,
                digest: None,
            }),
        }
    }

    fn subject(inode: Inode, wanted: &str) -> Subject {
        let at_home = inode.object.as_ref().is_some_and(|o| o.key.as_str() == wanted);
        Subject {
            file: inode.ino,
            inode,
            wanted: Some(Ok(Key::from_raw(wanted))),
            at_home,
            writing: false,
            above: None,
            occupant: None,
            tombstone: None,
        }
    }

    fn key(key: &str) -> Key {
        Key::from_raw(key)
    }

    fn etag(etag: &str) -> ETag {
        ETag(etag.into())
    }

    const FILE: FileKind = FileKind::File;

    #[test]
    fn a_new_file_is_put_where_nothing_may_be() {
        let put = Step::Put { key: key("a"), condition: Condition::Absent };
        assert_eq!(plan(&subject(inode(FILE, None), "a")), put);
    }

    #[test]
    fn a_new_file_takes_the_place_of_the_very_version_that_was_deleted() {
        let mut new = subject(inode(FILE, None), "a");
        new.tombstone = Some(etag("old"));
        assert_eq!(
            plan(&new),
            Step::Put { key: key("a"), condition: Condition::Match(etag("old")) }
        );
    }

    #[test]
    fn a_changed_file_replaces_the_version_we_know() {
        let changed = subject(inode(FILE, Some(("a", Some("e"), 1, 5))), "a");
        assert_eq!(
            plan(&changed),
            Step::Put { key: key("a"), condition: Condition::Match(etag("e")) }
        );
    }

    #[test]
    fn only_attributes_go_up_when_only_they_differ() {
        let changed = subject(inode(FILE, Some(("a", Some("e"), 2, 4))), "a");
        assert_eq!(plan(&changed), Step::SetMetadata { key: key("a"), expect: etag("e") });
        assert_eq!(plan(&subject(inode(FILE, Some(("a", Some("e"), 2, 5))), "a")), Step::Done);
    }

    #[test]
    fn a_renamed_file_is_copied_and_a_renamed_and_changed_one_is_put() {
        let moved = subject(inode(FILE, Some(("a", Some("e"), 2, 5))), "b");
        let step = Step::Move { from: key("a"), etag: etag("e"), to: key("b"), replacing: None };
        assert_eq!(plan(&moved), step);
        let changed = subject(inode(FILE, Some(("a", Some("e"), 1, 5))), "b");
        assert_eq!(plan(&changed), Step::Put { key: key("b"), condition: Condition::Absent });
    }

    #[test]
    fn an_object_in_the_way_goes_home_first_or_stands_aside() {
        let mut moved = subject(inode(FILE, Some(("a", Some("e"), 2, 5))), "b");
        let occupant = Occupant {
            ino: Ino(8),
            key: key("b"),
            etag: Some(etag("f")),
            kind: FILE,
            can_go_home: true,
        };
        moved.occupant = Some(occupant.clone());
        assert_eq!(plan(&moved), Step::First(Ino(8)));
        moved.occupant = Some(Occupant { can_go_home: false, ..occupant });
        let aside =
            Step::Aside { ino: Ino(8), from: key("b"), etag: etag("f"), to: aside_key(Ino(8)) };
        assert_eq!(plan(&moved), aside);
        let mut new = subject(inode(FILE, None), "b");
        new.occupant = moved.occupant;
        assert_eq!(plan(&new), aside, "a new file never overwrites somebody's only copy");
    }

    #[test]
    fn a_directory_moves_by_what_is_in_it_and_then_gets_a_marker() {
        let moved = subject(inode(FileKind::Dir, Some(("a/", Some("e"), 2, 5))), "b/");
        assert_eq!(plan(&moved), Step::Descend);
        let new = subject(inode(FileKind::Dir, None), "b/");
        assert_eq!(plan(&new), Step::Put { key: key("b/"), condition: Condition::Always });
        let implied = subject(inode(FileKind::Dir, Some(("b/", None, 0, 5))), "b/");
        assert_eq!(plan(&implied), Step::Done);
    }

    #[test]
    fn what_is_open_for_writing_waits_and_what_has_no_name_is_done() {
        let mut open = subject(inode(FILE, None), "a");
        open.writing = true;
        assert_eq!(plan(&open), Step::Wait);
        open.wanted = None;
        assert_eq!(plan(&open), Step::Done);
    }

    #[test]
    fn a_path_without_a_key_is_parked() {
        let mut long = subject(inode(FILE, None), "a");
        long.wanted = Some(Err(KeyError::TooLong { bytes: 2000 }));
        assert_eq!(plan(&long), Step::Park(KeyError::TooLong { bytes: 2000 }));
    }
}

//! In objects' metadata: that an object is one of several names of a file, and which file that is.

use super::{Key, fnv1a};

/// Under which name it stands.
pub const NAME: &str = "fsdlink";

/// What the object `key` of the file `id` says. An object that somebody copies to another key is no further name, though its
/// metadata comes along: so the key counts.
#[must_use]
pub fn write(id: &str, key: &Key) -> String {
    format!("{id} {:016x}", hash(key))
}

/// The file that the object `key` is a name of, by what it says.
#[must_use]
pub fn read<'t>(text: &'t str, key: &Key) -> Option<&'t str> {
    let (id, hashed) = text.split_once(' ')?;
    (u64::from_str_radix(hashed, 16) == Ok(hash(key))).then_some(id)
}

fn hash(key: &Key) -> u64 {
    fnv1a(key.as_str().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_object_itself_is_a_name() {
        let text = write("gw-7-2", &Key::from_raw("a/b"));
        assert_eq!(read(&text, &Key::from_raw("a/b")), Some("gw-7-2"));
        assert_eq!(read(&text, &Key::from_raw("a/copy")), None);
        assert_eq!(read("nonsense", &Key::from_raw("a")), None);
    }
}

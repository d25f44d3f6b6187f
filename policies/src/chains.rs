//! Hooks whose output is an arrival for other hooks: such a chain must end.

/// What can be known of names that a hook writes or sees, without a list of them: how they begin and how they end. Small letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The share, by any number that is its own.
    pub share: u32,
    /// How paths in the share begin.
    pub head: String,
    /// How they end.
    pub tail: String,
}

impl Shape {
    /// The shapes of what a glob matches in a share: against the whole path if it has a slash, else against the last name. Alternatives in
    /// braces are shapes of their own.
    #[must_use]
    pub fn of_glob(share: u32, glob: &str) -> Vec<Self> {
        let shape = |glob: String| {
            let special = ['*', '?', '[', ']', '{', '}', '\\'];
            let tail = glob.rsplit(special).next().unwrap_or_default().to_owned();
            let head = match glob.contains('/') {
                true => glob.trim_start_matches('/').split(special).next().unwrap_or_default(),
                false => "",
            };
            Self { share, head: head.to_owned(), tail }
        };
        alternatives(&glob.to_lowercase()).into_iter().map(shape).collect()
    }

    /// Whether something may be of both. If not, nothing is.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let begins = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
        let ends = |a: &str, b: &str| a.ends_with(b) || b.ends_with(a);
        self.share == other.share
            && begins(&self.head, &other.head)
            && ends(&self.tail, &other.tail)
    }
}

/// A glob without its innermost braces, once for each alternative. What is nested deeply or has many is left as it is.
fn alternatives(glob: &str) -> Vec<String> {
    const MOST: usize = 256;
    let mut done = Vec::new();
    let mut open = vec![glob.to_owned()];
    while let Some(glob) = open.pop() {
        let end = glob.find('}');
        let begin = end.and_then(|end| glob[..end].rfind('{'));
        match (begin, end) {
            (Some(begin), Some(end)) if open.len() + done.len() < MOST => {
                let (head, tail) = (&glob[..begin], &glob[end + 1..]);
                let inner = glob[begin + 1..end].split(',');
                open.extend(inner.map(|part| format!("{head}{part}{tail}")));
            }
            _ => done.push(glob),
        }
    }
    done
}

/// A hook, as far as chains go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// What it may see.
    pub sees: Vec<Shape>,
    /// What it never sees: paths that begin so, in a share.
    pub never: Vec<(u32, String)>,
    /// What it may write.
    pub writes: Vec<Shape>,
}

impl Link {
    /// Whether what it writes may be an arrival for `other`.
    fn feeds(&self, other: &Self) -> bool {
        let is_hidden = |shape: &Shape| {
            other
                .never
                .iter()
                .any(|(share, head)| *share == shape.share && shape.head.starts_with(head.as_str()))
        };
        let seen = |shape: &Shape| other.sees.iter().any(|sees| sees.meets(shape));
        self.writes.iter().any(|shape| !is_hidden(shape) && seen(shape))
    }
}

/// Hooks that might look at each other's output for ever, by their numbers in `links`, in the order in which they would; none if every
/// chain ends.
#[must_use]
pub fn find_loop(links: &[Link]) -> Option<Vec<usize>> {
    let mut is_over = vec![false; links.len()];
    let mut path = Vec::new();
    (0..links.len()).find_map(|first| walk(links, first, &mut path, &mut is_over))
}

fn walk(
    links: &[Link],
    at: usize,
    path: &mut Vec<usize>,
    is_over: &mut [bool],
) -> Option<Vec<usize>> {
    if let Some(begin) = path.iter().position(|before| *before == at) {
        return Some(path[begin..].to_vec());
    }
    if is_over[at] {
        return None;
    }
    path.push(at);
    for next in 0..links.len() {
        if links[at].feeds(&links[next])
            && let Some(found) = walk(links, next, path, is_over)
        {
            return Some(found);
        }
    }
    path.pop();
    is_over[at] = true;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(globs: &[&str], folder: &str, suffixes: &[&str]) -> Link {
        let sees = globs.iter().flat_map(|glob| Shape::of_glob(1, glob)).collect();
        let shape =
            |tail: &&str| Shape { share: 1, head: format!("{folder}/"), tail: (*tail).into() };
        let writes = suffixes.iter().map(shape).collect();
        Link { sees, never: vec![(1, format!("{folder}/"))], writes }
    }

    #[test]
    fn a_shape_is_how_names_begin_and_end() {
        let shape =
            |head: &str, tail: &str| Shape { share: 1, head: head.into(), tail: tail.into() };
        assert_eq!(Shape::of_glob(1, "*.JPG"), [shape("", ".jpg")]);
        assert_eq!(Shape::of_glob(1, "raw/**/*.tif"), [shape("raw/", ".tif")]);
        assert_eq!(Shape::of_glob(1, "a[0-9]"), [shape("", "")]);
        let both = Shape::of_glob(1, "*.{jpg,{png,tif}}");
        for tail in [".jpg", ".png", ".tif"] {
            assert!(both.contains(&shape("", tail)), "{both:?}");
        }
        assert!(both.iter().all(|shape| shape.tail.len() == 4), "{both:?}");
        assert!(shape("", ".jpg").meets(&shape("out/", ".thumb.jpg")));
        assert!(!shape("raw/", ".jpg").meets(&shape("out/", ".jpg")));
        assert!(!shape("", ".png").meets(&shape("", ".jpg")));
        assert!(!Shape { share: 2, ..shape("", "") }.meets(&shape("", "")));
    }

    #[test]
    fn a_chain_ends_and_a_loop_is_found() {
        let thumbnail = link(&["*.jpg"], "thumbs", &[".thumb.jpg"]);
        let blur = link(&["*.jpg", "*.png"], "blurred", &[".blurred.png"]);
        let count = link(&["blurred/*.png"], "counts", &[".json"]);
        assert_eq!(find_loop(&[thumbnail.clone(), blur.clone(), count]), None, "one way");
        let again = link(&["*.png"], "again", &[".again.jpg"]);
        assert_eq!(find_loop(&[blur.clone(), again.clone()]), Some(vec![0, 1]));
        let stamp = link(&["*.tif"], "stamps", &[".stamp.jpg"]);
        assert_eq!(find_loop(&[stamp, blur, again]), Some(vec![1, 2]), "the loop alone");
        let same_folder = link(&["*.jpg"], "thumbs", &[".other.jpg"]);
        assert_eq!(find_loop(&[thumbnail, same_folder]), None, "none sees the common folder");
        assert_eq!(find_loop(&[]), None);
    }
}

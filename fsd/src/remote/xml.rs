//! The little XML that stores speak, read to the letter: a key's spaces are part of it.

use std::borrow::Cow;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

/// Deeper than any answer of a store.
const DEPTH_MAX: usize = 32;
/// Of a document with more names, as metadata can have, the further ones are not worth a search.
const NAMES_SHARED_MAX: usize = 32;

/// An element of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// Its name, without the namespace's prefix; elements of one name share it, a listing has thousands of them.
    pub(super) name: Arc<str>,
    /// Its own text.
    pub(super) text: Cow<'a, str>,
    /// The elements in it.
    pub(super) children: Vec<Element<'a>>,
    /// Whether it says `Encoded="true"`: the text is percent-encoded (Azure, for what XML can't hold).
    pub(super) encoded: bool,
}

/// Why a text is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum XmlError {
    #[error("the store's answer is not XML")]
    Syntax(#[from] quick_xml::Error),
    #[error("the store's answer is not UTF-8 text")]
    Encoding(#[from] quick_xml::encoding::EncodingError),
    #[error("the store's answer has an unknown entity &{0};")]
    Entity(String),
    #[error("the store's answer ends too early or is nested too deep")]
    Shape,
}

impl<'a> Element<'a> {
    /// Reads a document.
    pub(super) fn parse(document: &'a [u8]) -> Result<Self, XmlError> {
        let mut reader = Reader::from_reader(document);
        let mut names = Names::default();
        let mut open = vec![Self::default()];
        loop {
            let depth = open.len();
            let top = open.last_mut().ok_or(XmlError::Shape)?;
            match reader.read_event()? {
                Event::Start(start) if depth < DEPTH_MAX => {
                    open.push(Self::begin(&start, &mut names))
                }
                Event::Start(_) => return Err(XmlError::Shape),
                Event::Empty(start) => top.children.push(Self::begin(&start, &mut names)),
                Event::End(_) => {
                    let done = open.pop().ok_or(XmlError::Shape)?;
                    open.last_mut().ok_or(XmlError::Shape)?.children.push(done);
                }
                Event::Text(text) => top.text += text.decode()?,
                Event::CData(text) => top.text += text.decode()?,
                Event::GeneralRef(entity) => match entity.resolve_char_ref()? {
                    Some(ch) => top.text.to_mut().push(ch),
                    None => {
                        let name = entity.decode()?;
                        let text = resolve_predefined_entity(&name);
                        top.text += text.ok_or_else(|| XmlError::Entity(name.into()))?;
                    }
                },
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
                Event::Eof => break,
            }
        }
        match (open.pop().and_then(|mut top| top.children.pop()), open.is_empty()) {
            (Some(root), true) => Ok(root),
            (Some(_) | None, _) => Err(XmlError::Shape),
        }
    }

    /// The first element of that name in this one.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| *child.name == *name)
    }

    /// All elements of that name in this one.
    pub(super) fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Self> {
        self.children.iter().filter(move |child| *child.name == *name)
    }

    /// The text of the first element of that name; nothing if it is empty.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| &*child.text).filter(|text| !text.is_empty())
    }

    fn begin(start: &BytesStart<'_>, names: &mut Names) -> Self {
        let name = names.shared(&String::from_utf8_lossy(start.local_name().as_ref()));
        let encoded = start
            .try_get_attribute("Encoded")
            .is_ok_and(|value| value.is_some_and(|value| &*value.value == b"true"));
        Self { name, encoded, ..Self::default() }
    }
}

/// The few names that a document's elements have.
#[derive(Default)]
struct Names(Vec<Arc<str>>);

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        let known = self.0.iter().find(|known| ***known == *name);
        known.cloned().unwrap_or_else(|| {
            let new: Arc<str> = name.into();
            if self.0.len() < NAMES_SHARED_MAX {
                self.0.push(new.clone());
            }
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_to_the_letter() {
        let document =
            b"<?xml version=\"1.0\"?><L xmlns=\"x\"><K> a &amp;&#1;\xc3\xa4\r\n </K><E/>\
            <s3:K Encoded=\"true\"><![CDATA[<b>]]></s3:K></L>";
        let root = Element::parse(document).unwrap();
        assert_eq!(root.text_of("K"), Some(" a &\u{1}ä\r\n "));
        assert_eq!(root.text_of("E"), None);
        let second = root.all("K").nth(1).unwrap();
        assert_eq!((&*second.text, second.encoded), ("<b>", true));
    }

    #[test]
    fn what_is_no_document_is_an_error() {
        let deep = "<a>".repeat(100_000);
        for text in ["", "no", "<a><b></a>", "<a>&lol;</a>", "<a>", &deep] {
            assert!(Element::parse(text.as_bytes()).is_err(), "{text:.20}");
        }
    }
}

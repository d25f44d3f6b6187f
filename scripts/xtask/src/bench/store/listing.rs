//! Listings, and text in XML.

use std::fmt::Write;

use super::date;
use super::http::encoded;
use super::objects::Objects;

const PAGE_MAX: usize = 1000;

/// The page that the query `asked` is for, in the first or the second form of the call.
pub(super) fn page<'q>(asked: impl Fn(&str) -> Option<&'q str>, objects: &Objects) -> String {
    let query = |name| asked(name).unwrap_or_default();
    let is_v2 = query("list-type") == "2";
    let after = if is_v2 { "start-after" } else { "marker" };
    let after = asked("continuation-token").unwrap_or(query(after));
    let count = asked("max-keys").and_then(|count| count.parse().ok());
    let count = count.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let (prefix, delimiter) = (query("prefix"), query("delimiter"));
    let page = objects.list(prefix, delimiter, after, count);
    let is_encoded = query("encoding-type") == "url";
    let spelt = |text: &str| if is_encoded { encoded(text) } else { escaped(text) };
    let mut xml = String::with_capacity(256 * (1 + page.objects.len()));
    let _ = write!(
        xml,
        "<ListBucketResult><Prefix>{}</Prefix><Delimiter>{}</Delimiter><MaxKeys>{count}</MaxKeys>\
            <KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
        spelt(prefix),
        spelt(delimiter),
        page.objects.len() + page.prefixes.len(),
        page.next.is_some()
    );
    if is_encoded {
        xml.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some(next) = &page.next {
        let (tag, next) = match is_v2 {
            true => ("NextContinuationToken", escaped(next)),
            false => ("NextMarker", spelt(next)),
        };
        let _ = write!(xml, "<{tag}>{next}</{tag}>");
    }
    for (key, object) in &page.objects {
        let _ = write!(
            xml,
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag>\
                <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            spelt(key),
            date::iso(object.modified),
            object.etag,
            object.body.len()
        );
    }
    for prefix in &page.prefixes {
        let prefix = spelt(prefix);
        let _ = write!(xml, "<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>");
    }
    xml.push_str("</ListBucketResult>");
    xml
}

pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

pub(super) fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&#34;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

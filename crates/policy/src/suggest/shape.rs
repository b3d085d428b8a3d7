//! The shape of a path behind a `**`: which segments are fixed, which are any.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// More different segments than this in one place, everything before them the same, are a
/// parameter.
pub(super) const VARIANTS_MAX: usize = 16;

/// The segments of a path, each fixed, or `None` for any that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shape(pub(super) Vec<Option<String>>);

/// The shape of each path, by path. `pattern` is the route's: its parameters are any segment.
pub(super) fn shapes<'p>(pattern: &str, paths: impl Iterator<Item = &'p str>) -> HashMap<&'p str, Shape> {
    let parameters: BTreeSet<usize> = segments(pattern)
        .enumerate()
        .filter(|(_, segment)| segment.starts_with('{') && segment.ends_with('}'))
        .map(|(place, _)| place)
        .collect();
    let mut found: HashMap<&str, Shape> = HashMap::new();
    for path in paths {
        found.entry(path).or_insert_with(|| {
            if path.is_empty() {
                return Shape::default();
            }
            let place = segments(path).enumerate();
            Shape(
                place
                    .map(|(place, segment)| {
                        let any = !segment.is_empty()
                            && (parameters.contains(&place) || reads_like_an_identifier(segment));
                        (!any).then(|| segment.to_owned())
                    })
                    .collect(),
            )
        });
    }
    widen(&mut found);
    found
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// From the left: where too many segments stand behind the same ones, any does.
fn widen(found: &mut HashMap<&str, Shape>) {
    let longest = found.values().map(|shape| shape.0.len()).max().unwrap_or_default();
    for place in 0..longest {
        let mut variants: BTreeMap<(Vec<Option<String>>, usize), BTreeSet<String>> = BTreeMap::new();
        for shape in found.values() {
            if let (Some(before), Some(Some(segment))) = (shape.0.get(..place), shape.0.get(place))
                && !segment.is_empty()
            {
                variants.entry((before.to_vec(), shape.0.len())).or_default().insert(segment.clone());
            }
        }
        variants.retain(|_, segments| segments.len() > VARIANTS_MAX);
        for shape in found.values_mut() {
            let Some(before) = shape.0.get(..place) else { continue };
            let is_wide = variants.contains_key(&(before.to_vec(), shape.0.len()));
            if let Some(segment) = shape.0.get_mut(place).filter(|_| is_wide)
                && segment.as_ref().is_some_and(|segment| !segment.is_empty())
            {
                *segment = None;
            }
        }
    }
}

/// A number, a UUID, hexadecimal digits with a number among them, or a long random word.
fn reads_like_an_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let all = |fits: fn(&u8) -> bool| segment.bytes().all(|byte| fits(&byte));
    let hexadecimal = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    digits > 0
        && (all(u8::is_ascii_digit)
            || (segment.len() >= 8 && all(hexadecimal))
            || (segment.len() >= 16 && digits >= 4 && all(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(pattern: &str, path: &str) -> String {
        let found = shapes(pattern, std::iter::once(path));
        let parts = found[path].0.iter().map(|part| part.as_deref().unwrap_or("{}"));
        parts.collect::<Vec<_>>().join("/")
    }

    #[test]
    fn parameters_and_identifiers_are_any_and_words_stay() {
        for (pattern, path, expected) in [
            ("/**", "/charges", "charges"),
            ("/**", "/charges/", "charges/"),
            ("/**", "/charges/17/refund", "charges/{}/refund"),
            ("/**", "/v2/charges", "v2/charges"),
            ("/**", "/c/018f3a7e-1111-7abc-8def-0123456789ab", "c/{}"),
            ("/**", "/c/deadbeef", "c/deadbeef"),
            ("/**", "/c/dead0eef", "c/{}"),
            ("/**", "/c/ch_1a2B3c4D5e6F7g", "c/{}"),
            ("/orders/{owner}/**", "/orders/alice/items", "orders/{}/items"),
            ("/orders/{owner}/**", "/orders//items", "orders//items"),
        ] {
            assert_eq!(shape(pattern, path), expected, "{path}");
        }
    }

    #[test]
    fn too_many_different_segments_are_a_parameter() {
        let few: Vec<String> = (0..VARIANTS_MAX).map(|n| format!("/a/{}/x", word(n))).collect();
        let found = shapes("/**", few.iter().map(String::as_str));
        assert!(found.values().all(|shape| shape.0[1].is_some()));
        let many: Vec<String> = (0..=VARIANTS_MAX).map(|n| format!("/a/{}/x", word(n))).collect();
        let other = "/b/one/x".to_owned();
        let found = shapes("/**", many.iter().chain([&other]).map(String::as_str));
        assert!(many.iter().all(|path| found[path.as_str()].0[1].is_none()));
        assert_eq!(found[other.as_str()].0[1].as_deref(), Some("one"));
    }

    fn word(number: usize) -> String {
        String::from_utf8(vec![b'a' + u8::try_from(number).unwrap(); 3]).unwrap()
    }
}

//! Path templates, and which of them a path is.

use std::collections::HashMap;

use crate::form::Raw;
use crate::percent::decode;

/// Deepest path template, in segments.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// This text.
    Literal(String),
    /// A parameter, perhaps with text before and behind it in the same segment.
    Parameter { name: String, before: String, behind: String },
}

/// Takes a template apart. `None` when a segment holds more than one parameter.
pub(crate) fn template(text: &str) -> Option<Vec<Segment>> {
    let text = text.strip_prefix('/')?;
    let segments: Vec<Segment> = text.split('/').map(segment).collect::<Option<_>>()?;
    (segments.len() <= SEGMENTS_MAX).then_some(segments)
}

fn segment(text: &str) -> Option<Segment> {
    let Some((before, rest)) = text.split_once('{') else {
        return (!text.contains('}')).then(|| Segment::Literal(text.to_owned()));
    };
    let (name, behind) = rest.split_once('}')?;
    let honest = !name.is_empty() && ![before, name, behind].iter().any(|part| part.contains(['{', '}']));
    honest.then(|| Segment::Parameter {
        name: name.to_owned(),
        before: before.to_owned(),
        behind: behind.to_owned(),
    })
}

/// Templates by segment.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    literals: HashMap<String, Paths>,
    /// Text before and behind the parameter; the longest text first, so that what says
    /// more is tried first.
    parameters: Vec<(String, String, Paths)>,
    /// The number of the path that ends here.
    end: Option<usize>,
}

impl Paths {
    /// Adds a template; the number of another of the same shape when there is one.
    pub(crate) fn add(&mut self, segments: &[Segment], number: usize) -> Result<(), usize> {
        let Some((first, below)) = segments.split_first() else {
            return match self.end {
                Some(other) => Err(other),
                None => {
                    self.end = Some(number);
                    Ok(())
                }
            };
        };
        match first {
            Segment::Literal(text) => self.literals.entry(text.clone()).or_default().add(below, number),
            Segment::Parameter { before, behind, .. } => {
                let known = self.parameters.iter().position(|(b, e, _)| b == before && e == behind);
                let at = known.unwrap_or_else(|| {
                    let length = before.len() + behind.len();
                    let at = self.parameters.partition_point(|(b, e, _)| b.len() + e.len() >= length);
                    self.parameters.insert(at, (before.clone(), behind.clone(), Self::default()));
                    at
                });
                self.parameters.get_mut(at).map_or(Ok(()), |(.., paths)| paths.add(below, number))
            }
        }
    }

    /// The path that a request asks for, and what its parameters hold, in their order.
    /// Literal text is compared decoded, as services compare it.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<(usize, Vec<Raw<'p>>)> {
        let segments: Vec<(&str, String)> = path
            .strip_prefix('/')?
            .split('/')
            .map(|segment| decode(segment.as_bytes(), false).map(|text| (segment, text)))
            .collect::<Option<_>>()?;
        if segments.len() > SEGMENTS_MAX {
            return None;
        }
        let mut values = Vec::new();
        self.walk(&segments, &mut values).map(|number| (number, values))
    }

    fn walk<'p>(&self, segments: &[(&'p str, String)], values: &mut Vec<Raw<'p>>) -> Option<usize> {
        let Some(((raw, text), below)) = segments.split_first() else { return self.end };
        if let Some(found) = self.literals.get(text).and_then(|paths| paths.walk(below, values)) {
            return Some(found);
        }
        for (before, behind, paths) in &self.parameters {
            let inner =
                text.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(behind.as_str()));
            let Some(inner) = inner.filter(|inner| !inner.is_empty()) else { continue };
            values.push(if inner.len() == text.len() {
                Raw::path(raw)
            } else {
                Raw::decoded(inner.to_owned())
            });
            if let Some(found) = paths.walk(below, values) {
                return Some(found);
            }
            values.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(templates: &[&str]) -> Paths {
        let mut paths = Paths::default();
        for (number, text) in templates.iter().enumerate() {
            paths.add(&template(text).unwrap(), number).unwrap();
        }
        paths
    }

    #[test]
    fn the_path_that_says_more_wins() {
        let all = paths(&["/a/{id}", "/a/me", "/a/{id}/b", "/a/{id}:cancel", "/a/x-{id}", "/"]);
        for (path, found) in [
            ("/a/5", Some(0)),
            ("/a/me", Some(1)),
            ("/a/m%65", Some(1)),
            ("/a/me/b", Some(2)),
            ("/a/5:cancel", Some(3)),
            ("/a/5%3Acancel", Some(3)),
            ("/a/:cancel", Some(0)),
            ("/a/x-5", Some(4)),
            ("/", Some(5)),
            ("/a", None),
            ("/a/", None),
            ("/a/5/", None),
            ("/a/5/b/c", None),
            ("/A/5", None),
        ] {
            assert_eq!(all.find(path).map(|(number, _)| number), found, "{path}");
        }
        let (_, values) = all.find("/a/5:cancel").unwrap();
        assert_eq!(values[0].decode().as_deref(), Some("5"));
    }

    #[test]
    fn two_templates_of_one_shape_are_told() {
        let mut all = paths(&["/a/{id}"]);
        assert_eq!(all.add(&template("/a/{name}").unwrap(), 1), Err(0));
        for wrong in ["a", "/{a}{b}", "/{", "/}", "/{}", "/{a}/{b"] {
            assert_eq!(template(wrong), None, "{wrong}");
        }
    }
}

//! Pairs of names and values: queries, cookies and forms.

use std::cell::Cell;

use crate::parameter::Unread;
use crate::percent::decode;
use crate::request::QUERY_PAIRS_MAX;

/// A text as it was sent, and how it is decoded.
#[derive(Clone, Debug)]
pub(crate) struct Raw<'t> {
    text: std::borrow::Cow<'t, str>,
    percent: bool,
    plus: bool,
}

impl<'t> Raw<'t> {
    /// From a query or form: percent-encoded, `+` is a space.
    pub(crate) fn query(text: &'t str) -> Self {
        Self { text: text.into(), percent: true, plus: true }
    }

    /// From a path: percent-encoded.
    pub(crate) fn path(text: &'t str) -> Self {
        Self { text: text.into(), percent: true, plus: false }
    }

    /// From a cookie: percent-encoded, as OpenAPI's form style writes it.
    pub(crate) fn cookie(text: &'t str) -> Self {
        Self { text: text.into(), percent: true, plus: false }
    }

    /// As it is: header fields, parts of a multipart body.
    pub(crate) fn plain(text: &'t str) -> Self {
        Self { text: text.into(), percent: false, plus: false }
    }

    /// The same of a text that is owned.
    pub(crate) fn decoded(text: String) -> Self {
        Self { text: text.into(), percent: false, plus: false }
    }

    pub(crate) fn decode(&self) -> Option<String> {
        if self.percent {
            decode(self.text.as_bytes(), self.plus)
        } else {
            Some(self.text.clone().into_owned())
        }
    }

    fn part(&self, text: &str) -> Raw<'t> {
        Raw { text: text.to_owned().into(), ..*self }
    }

    /// What follows a prefix.
    pub(crate) fn after(&self, prefix: &str) -> Option<Raw<'t>> {
        self.text.strip_prefix(prefix).map(|rest| self.part(rest))
    }

    pub(crate) fn split_once(&self, delimiter: &str) -> Option<(Raw<'t>, Raw<'t>)> {
        self.text.split_once(delimiter).map(|(left, right)| (self.part(left), self.part(right)))
    }

    /// The parts between any of the delimiters.
    pub(crate) fn split(&self, delimiters: &[&str]) -> std::vec::IntoIter<Raw<'t>> {
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < self.text.len() {
            let rest = self.text.get(at..).unwrap_or_default();
            match delimiters.iter().find(|delimiter| rest.starts_with(**delimiter)) {
                Some(delimiter) => {
                    parts.push(self.part(self.text.get(start..at).unwrap_or_default()));
                    at += delimiter.len();
                    start = at;
                }
                None => at += rest.chars().next().map_or(1, char::len_utf8),
            }
        }
        parts.push(self.part(self.text.get(start..).unwrap_or_default()));
        parts.into_iter()
    }
}

/// Whether some reader of forms takes one name for another: Express, PHP and Rails read `a[]` and
/// `a[b]` into `a`, PHP has `_` for dots and blanks, takes none before a name and ends it at a NUL,
/// Django takes none around that of a part.
pub(crate) fn reads_as(name: &str, other: &str) -> bool {
    let letter = |letter| if matches!(letter, '.' | ' ') { '_' } else { letter };
    let is_other = |name: &str| name.trim().chars().map(letter).eq(other.trim().chars().map(letter));
    name != other && (is_other(name) || name.split_once(['[', '\0']).is_some_and(|(stem, _)| is_other(stem)))
}

#[derive(Debug)]
struct Pair<'t> {
    name: String,
    value: Raw<'t>,
    taken: Cell<bool>,
}

/// Pairs in their order, each taken by the parameter that knows its name.
#[derive(Debug, Default)]
pub(crate) struct Pairs<'t> {
    list: Vec<Pair<'t>>,
    /// Names that begin a pair to those who part them at semicolons too (Rack 2, Perl's CGI).
    behind_semicolons: Vec<String>,
}

impl<'t> Pairs<'t> {
    /// From `a=1&b=2`.
    ///
    /// # Errors
    /// A name cannot be decoded, or there are too many pairs, be it to those who part them at
    /// semicolons.
    pub(crate) fn read(text: &'t str) -> Result<Self, Unread> {
        let mut pairs = Self::default();
        for pair_text in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair_text.split_once('=').unwrap_or((pair_text, ""));
            let name = decode(name.as_bytes(), true).ok_or("encoding")?;
            pairs.push(name, Raw::query(value))?;
            for (name, _) in pair_text.split(';').skip(1).filter_map(|piece| piece.split_once('=')) {
                if pairs.behind_semicolons.len() >= QUERY_PAIRS_MAX {
                    return Err("too many pairs");
                }
                pairs.behind_semicolons.extend(decode(name.as_bytes(), true));
            }
        }
        Ok(pairs)
    }

    /// One more.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn push(&mut self, name: String, value: Raw<'t>) -> Result<(), Unread> {
        if self.list.len() >= QUERY_PAIRS_MAX {
            return Err("too many pairs");
        }
        self.list.push(Pair { name, value, taken: Cell::new(false) });
        Ok(())
    }

    /// The values of a name.
    pub(crate) fn take<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Raw<'t>> + 's {
        self.list.iter().filter(move |pair| pair.name == name).map(|pair| {
            pair.taken.set(true);
            pair.value.clone()
        })
    }

    /// Names and values of those whose name fits and that nobody took.
    pub(crate) fn take_where(&self, fits: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, Raw<'t>)> {
        self.list.iter().filter(move |pair| !pair.taken.get() && fits(&pair.name)).map(|pair| {
            pair.taken.set(true);
            (pair.name.as_str(), pair.value.clone())
        })
    }

    /// The values of all whose name fits, taken or not.
    pub(crate) fn values(&self, fits: impl Fn(&str) -> bool) -> impl Iterator<Item = &Raw<'t>> {
        self.list.iter().filter(move |pair| fits(&pair.name)).map(|pair| &pair.value)
    }

    /// Whether some readers find a pair whose name fits behind a semicolon.
    pub(crate) fn has_behind_semicolon(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.behind_semicolons.iter().any(|name| fits(name))
    }

    /// Whether there is a pair of a name, taken or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|pair| pair.name == name)
    }

    /// Whether there is a pair whose name fits and that nobody took.
    pub(crate) fn has_left(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.list.iter().any(|pair| !pair.taken.get() && fits(&pair.name))
    }
}

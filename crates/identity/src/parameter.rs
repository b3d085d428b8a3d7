//! Request parameters (RFC 6749 §3.1, §3.2 and appendix B), read strictly.

use std::borrow::Cow;

use crate::refusal::{Answer, Code, Refusal};

/// Largest body or query that is read, bytes.
pub(crate) const PARAMETERS_BYTES_MAX: usize = 64 * 1024;
/// Most parameters of one request.
pub(crate) const PARAMETERS_COUNT_MAX: usize = 64;
/// Longest value, bytes; client assertions and tokens are the long ones.
pub(crate) const PARAMETER_BYTES_MAX: usize = 32 * 1024;

/// Parameters that may be repeated: RFC 8707 §2, RFC 8693 §2.1.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The parameters of one request, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// Names and values, decoded, one behind the other.
    text: String,
    /// Where in it each name begins, where its value does and where that ends.
    places: Vec<[usize; 3]>,
    /// The names that were there again, where that is noted and not refused.
    again: Option<Vec<String>>,
}

impl Parameters {
    /// Reads `application/x-www-form-urlencoded` text. A parameter without a value counts
    /// as left out (RFC 6749 §3.1); one that is there twice refuses the request.
    pub(crate) fn parse(text: &[u8]) -> Answer<Self> {
        Self::read(text, None)
    }

    /// The same, but of what is there again the first counts until [`Self::check_once`] refuses it:
    /// what nobody knows is ignored, however often it is there (RFC 6749 §3.1).
    pub(crate) fn parse_noting(text: &[u8]) -> Answer<Self> {
        Self::read(text, Some(Vec::new()))
    }

    fn read(text: &[u8], again: Option<Vec<String>>) -> Answer<Self> {
        let refused = |why: String| Refusal::plain(Code::InvalidRequest, why);
        if text.len() > PARAMETERS_BYTES_MAX {
            return Err(refused(format!("more than {PARAMETERS_BYTES_MAX} bytes of parameters")));
        }
        let mut read = Self { text: String::with_capacity(text.len()), places: Vec::with_capacity(8), again };
        // Bytes that are no text are refused in the pair in which they stand.
        let whole = std::str::from_utf8(text).ok();
        let mut begin = 0;
        for end in memchr::memchr_iter(b'&', text).chain([text.len()]) {
            let pair = text.get(begin..end).unwrap_or_default();
            read.add(pair, whole.and_then(|whole| whole.get(begin..end)))?;
            begin = end + 1;
        }
        Ok(read)
    }

    /// Adds one pair as it was sent, and the same as text where it is some.
    fn add(&mut self, pair: &[u8], text: Option<&str>) -> Answer<()> {
        let refused = |why: String| Err(Refusal::plain(Code::InvalidRequest, why));
        if pair.is_empty() {
            return Ok(());
        }
        if self.places.len() + self.again.as_ref().map_or(0, Vec::len) == PARAMETERS_COUNT_MAX {
            return refused(format!("more than {PARAMETERS_COUNT_MAX} parameters"));
        }
        let plain = text.filter(|_| is_plain(pair));
        let (name, value) = match plain {
            Some(text) => {
                let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
                let of = |range| Cow::Borrowed(text.get(range).unwrap_or_default());
                (of(0..end), of(pair.len().min(end + 1)..pair.len()))
            }
            None => form_urlencoded::parse(pair).next().unwrap_or_default(),
        };
        if value.len() > PARAMETER_BYTES_MAX {
            return refused(format!("a parameter of more than {PARAMETER_BYTES_MAX} bytes"));
        }
        // U+FFFD is what the decoder makes of bytes that are not UTF-8.
        // One after the other: each is found many bytes at a time.
        let strange = |text: &str| text.contains('\0') || (!text.is_ascii() && text.contains('\u{fffd}'));
        if plain.is_none() && (strange(&name) || strange(&value)) {
            return refused("a parameter is not UTF-8, or has a NUL in it".to_owned());
        }
        let known = self.pairs().any(|(known, _)| known == name);
        if known && !REPEATABLE.contains(&name.as_ref()) {
            let Some(again) = &mut self.again else { return Err(twice(&name)) };
            again.push(name.into_owned());
            return Ok(());
        }
        self.push(&name, &value);
        Ok(())
    }

    fn push(&mut self, name: &str, value: &str) {
        let begin = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.places.push([begin, middle, self.text.len()]);
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |begin: usize, end: usize| self.text.get(begin..end).unwrap_or_default();
        self.places.iter().map(move |&[begin, middle, end]| (text(begin, middle), text(middle, end)))
    }

    /// Refuses these where one of them was there again.
    pub(crate) fn check_once(&self, names: &[&str]) -> Answer<()> {
        let found = self.again.iter().flatten().find(|name| names.contains(&name.as_str()));
        found.map_or(Ok(()), |name| Err(twice(name)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs().find(|(known, _)| *known == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The values of a parameter that may be repeated; empty ones left out.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.pairs().filter(move |(known, _)| *known == name);
        named.map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    pub(crate) fn require(&self, name: &'static str) -> Answer<&str> {
        self.get(name)
            .ok_or_else(|| Refusal::plain(Code::InvalidRequest, format!("parameter `{name}` is missing")))
    }

    /// The pairs without the one named, for keeping.
    pub(crate) fn without(&self, names: &[&str]) -> Self {
        let mut kept = Self::default();
        for (name, value) in self.pairs().filter(|(name, _)| !names.contains(name)) {
            kept.push(name, value);
        }
        kept
    }

    pub(crate) fn to_text(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish()
    }
}

fn twice(name: &str) -> Box<Refusal> {
    let told = format!("parameter `{}` is there twice", keys::encoding::quote(name));
    Refusal::plain(Code::InvalidRequest, told)
}

/// Whether a pair says what it means: ASCII without a NUL and without anything that is encoded. Every
/// byte is looked at, whatever came before: so the compiler takes many at once.
fn is_plain(pair: &[u8]) -> bool {
    pair.iter().fold(true, |plain, &byte| plain & byte.is_ascii() & !matches!(byte, 0 | b'%' | b'+'))
}

/// `address` with these parameters behind whatever query it has.
pub(crate) fn with_query(address: &str, pairs: &[(&str, &str)]) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{}", encoded(pairs))
}

/// `address`, which has no fragment, with these as one.
pub(crate) fn with_fragment(address: &str, pairs: &[(&str, &str)]) -> String {
    format!("{address}#{}", encoded(pairs))
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_is_left_out_and_twice_is_refused() {
        let read = |text: &str| Parameters::parse(text.as_bytes());
        let found = read("a=1&b=&resource=x&resource=y&c=%C3%A4+%26").unwrap();
        assert_eq!((found.get("a"), found.get("b"), found.get("c")), (Some("1"), None, Some("ä &")));
        assert_eq!(found.all("resource").collect::<Vec<_>>(), ["x", "y"]);
        for wrong in
            ["a=1&a=1", "a=&a=1", "%61=1&a=2", "a=%ff", "a=%00", "%ff=1", "a=\0", "\0=1", "a=\u{fffd}"]
        {
            assert_eq!(read(wrong).unwrap_err().code, Code::InvalidRequest, "{wrong}");
        }
        for wrong in [&b"a=1&b=\xff"[..], b"a=1&\xff=2&c=3", b"\xe4&b=1"] {
            assert_eq!(Parameters::parse(wrong).unwrap_err().code, Code::InvalidRequest, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_there_again_is_noted_where_it_is_asked_for() {
        let found = Parameters::parse_noting(b"a=1&a=2&b=&b=3&resource=x&resource=y&c=4").unwrap();
        assert_eq!((found.get("a"), found.get("b"), found.get("c")), (Some("1"), None, Some("4")));
        assert!(found.check_once(&["c", "resource", "d"]).is_ok());
        for again in ["a", "b"] {
            assert_eq!(found.check_once(&["c", again]).unwrap_err().code, Code::InvalidRequest);
        }
        let many = |count: usize| vec!["a=1"; count].join("&");
        assert!(Parameters::parse_noting(many(PARAMETERS_COUNT_MAX).as_bytes()).is_ok());
        assert!(Parameters::parse_noting(many(PARAMETERS_COUNT_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn limits_hold_at_the_limit_and_one_past_it() {
        let many = |count: usize| (0..count).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert!(Parameters::parse(many(PARAMETERS_COUNT_MAX).as_bytes()).is_ok());
        assert!(Parameters::parse(many(PARAMETERS_COUNT_MAX + 1).as_bytes()).is_err());
        let long = |bytes: usize| format!("a={}", "x".repeat(bytes));
        assert!(Parameters::parse(long(PARAMETER_BYTES_MAX).as_bytes()).is_ok());
        assert!(Parameters::parse(long(PARAMETER_BYTES_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_query_goes_behind_the_one_that_is_there() {
        assert_eq!(with_query("https://a/b", &[("c", "d e")]), "https://a/b?c=d+e");
        assert_eq!(with_query("https://a/b?x=1", &[("c", "&")]), "https://a/b?x=1&c=%26");
        assert_eq!(with_fragment("https://a/b?x=1", &[("c", "#&")]), "https://a/b?x=1#c=%23%26");
    }

    proptest! {
        #[test]
        fn reads_as_the_decoder_of_forms_does(text in "[a-c=&%+0-4\u{0}\u{e4}]{0,40}") {
            let known: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
            if let Ok(found) = Parameters::parse(text.as_bytes()) {
                let found: Vec<_> = found.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                prop_assert_eq!(found, known);
            }
        }

        #[test]
        fn never_panics_and_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(found) = Parameters::parse(&bytes) {
                prop_assert_eq!(Parameters::parse(found.to_text().as_bytes()).unwrap(), found);
            }
        }
    }
}

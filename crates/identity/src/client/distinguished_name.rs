//! Distinguished names as texts (RFC 4514) and in certificates, compared attribute by attribute
//! (RFC 4517 §4.2.15), as RFC 8705 §2.1.2 wants it.

use x509_parser::asn1_rs::{Tag, ToDer as _};
use x509_parser::objects::oid_registry;
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// What attributes are called: those of RFC 4514 §3, and those that OpenSSL and Java print.
const KINDS: [(&str, &str); 27] = [
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("S", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("T", "2.5.4.12"),
    ("title", "2.5.4.12"),
    ("description", "2.5.4.13"),
    ("businessCategory", "2.5.4.15"),
    ("postalCode", "2.5.4.17"),
    ("name", "2.5.4.41"),
    ("GN", "2.5.4.42"),
    ("givenName", "2.5.4.42"),
    ("initials", "2.5.4.43"),
    ("generationQualifier", "2.5.4.44"),
    ("dnQualifier", "2.5.4.46"),
    ("pseudonym", "2.5.4.65"),
    ("organizationIdentifier", "2.5.4.97"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("E", "1.2.840.113549.1.9.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
];

/// A distinguished name: its relative ones in the order of the certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DistinguishedName(Vec<Vec<Attribute>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    /// Its object identifier, with dots.
    kind: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// A text as it is compared: without case, and without blanks that mean nothing (RFC 4518).
    Text(String),
    /// What is no text, or was written as `#` and the digits of its DER.
    Der(Vec<u8>),
}

impl DistinguishedName {
    /// Reads the text of one (RFC 4514 §3; blanks around separators and values in quotes as RFC 2253
    /// §4 takes them).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text };
        let mut parts = vec![Vec::new()];
        loop {
            let attribute = reader.attribute()?;
            if let Some(part) = parts.last_mut() {
                part.push(attribute);
            }
            match reader.next() {
                None => break,
                Some(',') => parts.push(Vec::new()),
                // Nothing else ends a value.
                Some(_) => {}
            }
        }
        parts.reverse();
        Ok(Self::of(parts))
    }

    /// The subject of a certificate.
    pub(super) fn of_certificate(subject: &X509Name<'_>) -> Result<Self, String> {
        let part = |part: &RelativeDistinguishedName<'_>| part.iter().map(attribute).collect();
        Ok(Self::of(subject.iter_rdn().map(part).collect::<Result<_, String>>()?))
    }

    /// Attributes of one relative name have no order.
    fn of(mut parts: Vec<Vec<Attribute>>) -> Self {
        parts.iter_mut().for_each(|part| part.sort_unstable());
        Self(parts)
    }

    /// Whether this, as it was registered, is the name of a certificate. Where no attribute stands
    /// there twice, what is first in the certificate may be written first too, as OpenSSL prints it:
    /// the attributes are the same.
    pub(super) fn is(&self, found: &Self) -> bool {
        *self == *found || self.has_an_order_of_its_own() && self.0.iter().rev().eq(&found.0)
    }

    fn has_an_order_of_its_own(&self) -> bool {
        let mut kinds: Vec<&str> = self.0.iter().flatten().map(|attribute| attribute.kind.as_str()).collect();
        let count = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len() == count
    }
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Result<Attribute, String> {
    let value = attribute.attr_value();
    let is_text = matches!(
        value.tag(),
        Tag::Utf8String
            | Tag::PrintableString
            | Tag::Ia5String
            | Tag::NumericString
            | Tag::VisibleString
            | Tag::GeneralString
            | Tag::GraphicString
            | Tag::T61String
            | Tag::VideotexString
            | Tag::ObjectDescriptor
            | Tag::BmpString
    );
    let value = if is_text {
        let alone = RelativeDistinguishedName::new(vec![attribute.clone()]);
        let alone = X509Name::new(vec![alone], &[]).to_string_with_registry(oid_registry());
        let alone = alone.map_err(|error| format!("subject: {error}"))?;
        Value::Text(prepared(alone.split_once('=').unwrap_or_default().1))
    } else {
        Value::Der(value.to_der_vec().map_err(|error| format!("subject: {error}"))?)
    };
    Ok(Attribute { kind: attribute.attr_type().to_id_string(), value })
}

/// A text as it is compared (RFC 4517 §4.2.11, RFC 4518 §2.6.1): without case, without blanks at
/// its ends, and one where there are several.
fn prepared(text: &str) -> String {
    text.to_lowercase().split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What is left to read.
struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let next = letters.next();
        self.rest = letters.as_str();
        next
    }

    /// An attribute, up to the `,` or `+` behind it.
    fn attribute(&mut self) -> Result<Attribute, String> {
        let rest = self.rest;
        let expected = "expected attributes such as CN=orders,O=Example";
        let (name, value) = rest.split_once('=').ok_or_else(|| expected.to_owned())?;
        let name = name.trim();
        let number = name.get(..4).filter(|prefix| prefix.eq_ignore_ascii_case("OID."));
        let number = number.map_or(name, |prefix| name.get(prefix.len()..).unwrap_or_default());
        let is_number = number.contains('.')
            && number.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()));
        let known = KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let kind = match known {
            Some((_, kind)) => *kind,
            None if is_number => number,
            None => {
                let name = keys::encoding::quote(name);
                return Err(format!("unknown attribute \"{name}\": write its object identifier, 2.5.4.3=…"));
            }
        };
        let kind = kind.to_owned();
        self.rest = value.trim_start_matches(' ');
        let value = match self.rest.chars().next() {
            Some('#') => self.der()?,
            Some('"') => self.quoted()?,
            _ => self.text()?,
        };
        Ok(Attribute { kind, value })
    }

    /// `#` and the digits of a value's DER (RFC 4514 §2.4).
    fn der(&mut self) -> Result<Value, String> {
        let end = self.rest.find([',', '+']).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest;
        let digits = digits.trim_start_matches('#').trim_end_matches(' ').as_bytes();
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        bytes.map(Value::Der).ok_or_else(|| "expected pairs of hexadecimal digits behind #".to_owned())
    }

    /// A text in quotes, of which only quotes and backslashes are escaped (RFC 2253 §3).
    fn quoted(&mut self) -> Result<Value, String> {
        let mut bytes = Vec::new();
        self.next();
        loop {
            match self.next() {
                None => return Err("a quote has no end".to_owned()),
                Some('"') => break,
                Some('\\') => self.escaped(&mut bytes)?,
                Some(letter) => push(&mut bytes, letter),
            }
        }
        self.rest = self.rest.trim_start_matches(' ');
        if self.rest.is_empty() || self.rest.starts_with([',', '+']) {
            return text_of(bytes);
        }
        Err("expected `,` or `+` behind a quote".to_owned())
    }

    fn text(&mut self) -> Result<Value, String> {
        let mut bytes = Vec::new();
        while let Some(letter) = self.rest.chars().next().filter(|letter| !matches!(letter, ',' | '+')) {
            self.next();
            match letter {
                '\\' => self.escaped(&mut bytes)?,
                '"' | ';' | '<' | '>' | '\0' => {
                    return Err(format!("{letter:?} in a value is written with a backslash before it"));
                }
                _ => push(&mut bytes, letter),
            }
        }
        text_of(bytes)
    }

    /// What stands behind a backslash: a special character, or a byte as two digits.
    fn escaped(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let pair = self.rest.as_bytes().get(..2).and_then(byte);
        match (pair, self.rest.chars().next()) {
            (Some(byte), _) => {
                bytes.push(byte);
                self.next();
                self.next();
            }
            (None, Some(letter)) if r##" "#+,;<=>\"##.contains(letter) => {
                bytes.push(u8::try_from(letter).unwrap_or_default());
                self.next();
            }
            _ => return Err("expected a special character or two hexadecimal digits behind \\".to_owned()),
        }
        Ok(())
    }
}

fn push(bytes: &mut Vec<u8>, letter: char) {
    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

fn text_of(bytes: Vec<u8>) -> Result<Value, String> {
    let text = String::from_utf8(bytes).map_err(|_| "the bytes of a value are no UTF-8".to_owned())?;
    Ok(Value::Text(prepared(&text)))
}

/// The byte of two hexadecimal digits.
fn byte(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is(one: &str, two: &str) -> bool {
        let parse = |text| DistinguishedName::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        parse(one).is(&parse(two))
    }

    #[test]
    fn names_are_compared_by_their_attributes() {
        for (one, two) in [
            ("CN=orders,O=Example", "cn=Orders, o = example"),
            ("CN=orders,O=Example", "2.5.4.3=orders,OID.2.5.4.10=EXAMPLE"),
            ("CN=a  b ,O=x", "CN=a b,O=\\20x"),
            ("CN=a+OU=b,O=x", "OU=b + CN=a, O=x"),
            ("O=\"Example, Inc.\"", "O=Example\\, Inc."),
            ("O=Example\\, Inc.", "O=Example\\2C Inc."),
            ("CN=Lu\\C4\\8Di\\C4\\87", "CN=Lučić"),
            ("CN=KÄSE", "CN=käse"),
            ("CN=a=b", "CN=a\\=b"),
            ("1.2.3=#0401FF", "1.2.3=#0401ff"),
            ("emailAddress=a@b.example", "E=a@b.example"),
            // What OpenSSL prints: the first of the certificate first.
            ("O=Example, CN=orders", "CN=orders,O=Example"),
        ] {
            assert!(is(one, two) && is(two, one), "{one} {two}");
        }
        for (one, two) in [
            ("CN=orders,O=Example", "CN=orders"),
            ("CN=orders,O=Example", "CN=orders+O=Example"),
            ("CN=orders,O=Example", "CN=orders,OU=Example"),
            ("CN=orders\\,O=Example", "CN=orders,O=Example"),
            ("CN=ab", "CN=a b"),
            ("CN=#0C0161", "CN=a"),
            // Its parts are not the same, whichever is first.
            ("DC=example,DC=org", "DC=org,DC=example"),
            ("CN=a,OU=b,OU=c", "OU=c,OU=b,CN=a"),
        ] {
            assert!(!is(one, two) && !is(two, one), "{one} {two}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            " ",
            "orders",
            "CN=a,",
            "CN=a,,O=b",
            "=a",
            "CN",
            "XY=a",
            "1..2=a",
            "2=a",
            "CN=a;O=b",
            "CN=\"a",
            "CN=\"a\"b",
            "CN=a\\",
            "CN=\\zz",
            "CN=#",
            "CN=#0",
            "CN=#0g",
            "CN=\\ff",
            "CN=a\"b",
            "CN=<a>",
        ] {
            assert!(DistinguishedName::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn fuzz_smoke_any_text_is_a_name_or_refused(text in "[A-Za-z0-9=,+\"\\\\# ;ä.]{0,40}") {
            if let Ok(name) = DistinguishedName::parse(&text) {
                prop_assert!(name.is(&name));
            }
        }
    }
}

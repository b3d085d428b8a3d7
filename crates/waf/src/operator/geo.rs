//! `@geoLookup`: the place of an address by a database of MaxMind (GeoIP2, GeoLite2), or
//! any other in its format. The file is read once, at load.

use super::{Argument, Found, OperatorFault};
use maxminddb::{Reader, geoip2};
use std::net::IpAddr;

pub(super) struct Places(Reader<Vec<u8>>);

impl Places {
    /// The argument is the path that `SecGeoLookupDb` names.
    pub(super) fn from_file(argument: &Argument<'_>) -> Result<Self, OperatorFault> {
        if argument.text.is_empty() {
            let message = "no database is named: write SecGeoLookupDb before this rule".to_owned();
            return Err(OperatorFault::Argument { message, offset: 0 });
        }
        let (path, bytes) = argument.read(argument.text)?;
        match Reader::from_source(bytes) {
            Ok(reader) => Ok(Self(reader)),
            Err(error) => {
                Err(OperatorFault::File { path, message: format!("this is no MaxMind database: {error}") })
            }
        }
    }

    /// Matches when the database knows the address; what it knows goes to `found`.
    pub(super) fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        let Some(address) =
            std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<IpAddr>().ok())
        else {
            return false;
        };
        let Ok(record) = self.0.lookup(address.to_canonical()) else { return false };
        let city: geoip2::City<'_> = match record.decode() {
            Ok(Some(city)) => city,
            Ok(None) => return false,
            Err(error) => return found.fail(error.to_string()),
        };
        let texts = [
            ("COUNTRY_CODE", city.country.iso_code),
            ("COUNTRY_NAME", city.country.names.english),
            ("COUNTRY_CONTINENT", city.continent.code),
            ("REGION", city.subdivisions.first().and_then(|region| region.iso_code)),
            ("CITY", city.city.names.english),
            ("POSTAL_CODE", city.postal.code),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                found.add_place(name, text.as_bytes().to_vec());
            }
        }
        let numbers = [("LATITUDE", city.location.latitude), ("LONGITUDE", city.location.longitude)];
        for (name, number) in numbers {
            if let Some(number) = number {
                found.add_place(name, format!("{number:.6}").into_bytes());
            }
        }
        if let Some(code) = city.location.metro_code {
            found.add_place("DMA_CODE", code.to_string().into_bytes());
        }
        found.matched(0..value.len());
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{Files, compile};
    use super::*;
    use proptest::prelude::*;

    /// A value of MaxMind's format, of fewer than 29 bytes or entries.
    fn text(value: &str) -> Vec<u8> {
        [&[0x40 | u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    }

    fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0xe0 | u8::try_from(entries.len()).unwrap()];
        for (key, value) in entries {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        bytes
    }

    fn short(value: u16) -> Vec<u8> {
        [&[0xa2], &value.to_be_bytes()[..]].concat()
    }

    fn double(value: f64) -> Vec<u8> {
        [&[0x68], &value.to_be_bytes()[..]].concat()
    }

    /// A database of one node: addresses from 128.0.0.0 on are known.
    pub(crate) fn database() -> Vec<u8> {
        let record = map(&[
            ("city", map(&[("names", map(&[("en", text("Sampletown"))]))])),
            ("continent", map(&[("code", text("EU"))])),
            ("country", map(&[("iso_code", text("XA")), ("names", map(&[("en", text("Sampleland"))]))])),
            (
                "location",
                map(&[("latitude", double(51.5)), ("longitude", double(-0.25)), ("metro_code", short(77))]),
            ),
            ("postal", map(&[("code", text("12345"))])),
            ("subdivisions", [vec![0x01, 0x04], map(&[("iso_code", text("R1"))])].concat()),
        ]);
        let metadata = map(&[
            ("binary_format_major_version", short(2)),
            ("binary_format_minor_version", short(0)),
            ("build_epoch", vec![0x01, 0x02, 0x01]),
            ("database_type", text("Test-City")),
            ("description", map(&[])),
            ("ip_version", short(4)),
            ("languages", vec![0x00, 0x04]),
            ("node_count", vec![0xc1, 1]),
            ("record_size", short(24)),
        ]);
        [&[0, 0, 1, 0, 0, 17][..], &[0; 16], &record, b"\xab\xcd\xefMaxMind.com", &metadata].concat()
    }

    #[test]
    fn an_address_has_a_place() {
        let bytes = database();
        let files = Files(&[("rules/city.mmdb", &bytes)]);
        let operator = compile("geoLookup", "city.mmdb", &files).unwrap();
        let mut found = Found::default();
        for address in [&b"203.0.113.9"[..], b"::ffff:203.0.113.9"] {
            assert!(
                operator.evaluate(address, None, &mut found),
                "{}: {:?}",
                address.escape_ascii(),
                found.fault()
            );
            let place: Vec<(&str, &str)> = found
                .place()
                .iter()
                .map(|(name, value)| (*name, std::str::from_utf8(value).unwrap()))
                .collect();
            assert_eq!(
                place,
                [
                    ("COUNTRY_CODE", "XA"),
                    ("COUNTRY_NAME", "Sampleland"),
                    ("COUNTRY_CONTINENT", "EU"),
                    ("REGION", "R1"),
                    ("CITY", "Sampletown"),
                    ("POSTAL_CODE", "12345"),
                    ("LATITUDE", "51.500000"),
                    ("LONGITUDE", "-0.250000"),
                    ("DMA_CODE", "77"),
                ]
            );
        }
        for address in [&b"10.0.0.1"[..], b"", b"x", b"2001:db8::1"] {
            assert!(!operator.evaluate(address, None, &mut found), "{}", address.escape_ascii());
            assert!(found.place().is_empty());
        }
    }

    #[test]
    fn a_database_is_needed_and_must_be_one() {
        let files = Files(&[("rules/text.mmdb", b"no database")]);
        assert!(matches!(compile("geoLookup", "", &files), Err(OperatorFault::Argument { .. })));
        for path in ["gone.mmdb", "text.mmdb"] {
            assert!(matches!(compile("geoLookup", path, &files), Err(OperatorFault::File { .. })), "{path}");
        }
    }

    proptest! {
        /// A damaged database makes nothing panic.
        #[test]
        fn fuzz_smoke_databases(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
            let mut bytes = database();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let cut = cut.index(bytes.len() * 4).min(bytes.len());
            let files = Files(&[("rules/city.mmdb", bytes.get(..cut).unwrap())]);
            if let Ok(operator) = compile("geoLookup", "city.mmdb", &files) {
                operator.evaluate(b"203.0.113.9", None, &mut Found::default());
            }
        }
    }
}

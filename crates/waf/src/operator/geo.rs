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

//! Numbers that are judged as they are written: integers of 64 bits, and what a double (IEEE
//! 754 binary64) holds as it is written. A schema is held against the integer or the double,
//! the service reads the text; where the text says more, `maximum: 5` would take
//! `5.00000000000000001`.
//!
//! Not every reader reads them alike: integers beyond 2^53 are exact here and to services that
//! read integers, and one that reads doubles (JavaScript) takes 9007199254740993 for its even
//! neighbour. To refuse them would refuse the 64-bit ids that many services send.

/// Most significant digits that a number may have. What is written from a double and is
/// longer says nothing more.
const DIGITS_MAX: usize = 40;
/// Decimals of so many significant digits are all told apart by doubles (C's `DBL_DIG`).
const DIGITS_ALWAYS: usize = 15;

/// The doubles in a JSON text, in its order, each the nearest to what is written.
///
/// # Errors
/// Where one stands that a double does not hold as it is written.
pub(crate) fn doubles(text: &[u8]) -> Result<Vec<f64>, usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let end = match byte {
            b'"' => end_of_text(text, at),
            b'-' | b'0'..=b'9' => end_of_number(text, at),
            _ => at + 1,
        };
        if byte != b'"'
            && let Some(number) = text.get(at..end).and_then(|token| std::str::from_utf8(token).ok())
            && !is_whole(number)
            && let Ok(value) = number.parse::<f64>()
        {
            if !holds(value, number) {
                return Err(at);
            }
            found.push(value);
        }
        at = end;
    }
    Ok(found)
}

/// Whether a double is what is written: the digits are those of the double, as many as there
/// are.
pub(crate) fn holds(value: f64, written: &str) -> bool {
    // No number of JSON's at all, which its reader says.
    if value.is_infinite() {
        return true;
    }
    let Some((digits, exponent)) = normal(written) else { return false };
    if digits.is_empty() {
        return true;
    }
    if digits.len() <= DIGITS_ALWAYS && value.is_normal() {
        return true;
    }
    if digits.len() > DIGITS_MAX {
        return false;
    }
    let held = format!("{:.*e}", digits.len() - 1, value.abs());
    normal(&held) == Some((digits, exponent))
}

/// Whether it is a number that is read as an integer of 64 bits.
fn is_whole(number: &str) -> bool {
    if number.starts_with('-') {
        number != "-0" && number.parse::<i64>().is_ok()
    } else {
        number.parse::<u64>().is_ok()
    }
}

/// The significant digits of a number, and the power of ten that the first stands for.
fn normal(number: &str) -> Option<(String, i64)> {
    let number = number.strip_prefix('-').unwrap_or(number);
    let (decimal, exponent) = match number.split_once(['e', 'E']) {
        Some((decimal, exponent)) => (decimal, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (before, after) = decimal.split_once('.').unwrap_or((decimal, ""));
    let digits = format!("{before}{after}");
    let significant = digits.trim_start_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let places = i64::try_from(before.len()).ok()?;
    let first = exponent.checked_add(places)?.checked_sub(zeros)?.checked_sub(1)?;
    Some((significant.trim_end_matches('0').to_owned(), first))
}

/// Behind the text that begins at a place.
fn end_of_text(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return at + 1,
            Some(_) => at += 1,
        }
    }
}

/// Behind the number that begins at a place.
fn end_of_number(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    start + rest.iter().take_while(|byte| is_part(byte)).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_held(text: &str) -> bool {
        doubles(text.as_bytes()).is_ok()
    }

    #[test]
    fn a_number_is_what_a_double_holds() {
        for held in [
            "0",
            "-0",
            "0.0",
            "0e5",
            "0.1",
            "1.10",
            "1e3",
            "1.0",
            "-2.50",
            "1E+2",
            "0.30000000000000004",
            "123456789012345.6",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "1e22",
            "1e23",
            "1.7976931348623157e308",
            "2.2250738585072014E-308",
            "5e-324",
            "4.9E-324",
            // Written with 17 digits, as C does, and with all of them.
            "0.10000000000000001",
            "0.1000000000000000055511151231257827",
            "3.141592653589793",
            "3.141592653589793116",
            "[1.50,\"5.00000000000000001\",\"\\\"5.00000000000000001\"]",
            "5.0000000000000000000000000000000000000000000000000",
        ] {
            assert!(is_held(held), "{held}");
        }
        for other in [
            "5.00000000000000001",
            "5.0000000000000001",
            "-5.00000000000000001",
            "3.141592653589793238",
            "9007199254740993.0",
            "18446744073709551617",
            "1e-400",
            "1.00000000000000000000000001e5",
            "0.1000000000000000000000000000000000000000000000001",
            "[\"\\\\\",5.00000000000000001]",
            "{\"a\":[1,5.00000000000000001]}",
            "1e-99999999999999999999",
        ] {
            assert!(!is_held(other), "{other}");
        }
        assert_eq!(doubles(b"[1.5, 5.00000000000000001]"), Err(6));
    }

    proptest! {
        /// Whatever is written from a double is held, at its shortest and with 17 digits.
        #[test]
        fn what_is_written_from_a_double_is_held(value in any::<f64>().prop_filter("JSON", |v| v.is_finite())) {
            for text in [format!("{value}"), format!("{value:e}"), format!("{value:.16e}")] {
                prop_assert!(holds(value, &text), "{}", text);
            }
        }

        /// The doubles are found that a reader comes to, wherever they stand.
        #[test]
        fn doubles_are_found_where_a_reader_finds_them(
            values in prop::collection::vec((any::<f64>(), any::<i64>(), "[0-9\\\\\"e.-]{0,6}"), 0..8)
        ) {
            let texts = values.iter().map(|(double, whole, text)| {
                let double = if double.is_finite() { *double } else { -0.0 };
                serde_json::json!([text, double, { text: whole }, double]).to_string()
            });
            let text = format!("[{}]", texts.collect::<Vec<_>>().join(" ,"));
            let expected: Vec<f64> = values.iter()
                .map(|(double, ..)| if double.is_finite() { *double } else { -0.0 })
                .flat_map(|double| [double, double]).collect();
            prop_assert_eq!(doubles(text.as_bytes()), Ok(expected.clone()));
            let read = crate::json::read(text.as_bytes(), crate::json::Numbers::Exact).unwrap();
            let read: Vec<f64> = read.as_array().unwrap().iter()
                .flat_map(|one| [one[1].as_f64().unwrap(), one[3].as_f64().unwrap()]).collect();
            prop_assert_eq!(read, expected);
        }
    }
}

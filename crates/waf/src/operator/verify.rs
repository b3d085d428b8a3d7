//! `@verifyCC`, `@verifySSN`, `@verifyCPF` and `@verifySVNR`: a number of a person or a
//! card, found by a regular expression and confirmed by its check digits.

use regex_automata::Input;

use super::{Found, OperatorFault, rx::Pattern};

/// Most bytes of overlapping matches that are looked at, per byte of the value. Past it
/// matches no longer overlap, so that an expression such as `\d+` stays linear.
const WORK_PER_BYTE_MAX: usize = 64;

/// Whose number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// A payment card (ISO/IEC 7812-1, Luhn's check digit).
    Card,
    /// A social security number of the United States.
    Ssn,
    /// A Cadastro de Pessoas Físicas of Brazil.
    Cpf,
    /// A Sozialversicherungsnummer of Austria.
    Svnr,
}

pub(super) struct Verify {
    pattern: Pattern,
    number: Number,
}

impl Verify {
    pub(super) fn new(argument: &str, number: Number) -> Result<Self, OperatorFault> {
        Ok(Self { pattern: Pattern::new(argument, false)?, number })
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    pub(super) fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        let regex = match self.pattern.regex() {
            Ok(regex) => regex,
            Err(error) => return found.fail(error.to_owned()),
        };
        // A match that fails the check may hide a good one that starts inside of it.
        let mut start = 0;
        let mut work = WORK_PER_BYTE_MAX.saturating_mul(value.len());
        while start <= value.len() {
            let Some(matched) = regex.find(Input::new(value).range(start..)) else { break };
            if self.number.is_valid(value.get(matched.range()).unwrap_or_default()) {
                found.matched(matched.range());
                return true;
            }
            work = work.saturating_sub(matched.len());
            start = if work > 0 { matched.start() + 1 } else { matched.end().max(matched.start() + 1) };
        }
        false
    }
}

impl Number {
    fn is_valid(self, text: &[u8]) -> bool {
        // More digits than any of these numbers has are none of them.
        let digits: Vec<u32> = text
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| u32::from(byte - b'0'))
            .take(65)
            .collect();
        match self {
            Self::Card => luhn(&digits),
            Self::Ssn => ssn(&digits),
            Self::Cpf => cpf(&digits),
            Self::Svnr => svnr(&digits),
        }
    }
}

fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, twice) => twice / 10 + twice % 10,
        })
        .sum();
    digits.len() > 1 && digits.len() <= 64 && sum.is_multiple_of(10)
}

fn ssn(digits: &[u32]) -> bool {
    let [a, b, c, d, e, f, g, h, i] = digits else { return false };
    let counts_up = digits.iter().zip(digits.iter().skip(1)).all(|(one, next)| *next == one + 1);
    let area = a * 100 + b * 10 + c;
    let (group, serial) = (d * 10 + e, f * 1_000 + g * 100 + h * 10 + i);
    !same(digits) && !counts_up && area != 0 && area != 666 && area < 740 && group != 0 && serial != 0
}

fn cpf(digits: &[u32]) -> bool {
    let check = |count: usize| {
        let weights = (2..=count as u32 + 1).rev();
        let sum: u32 = digits.iter().take(count).zip(weights).map(|(digit, weight)| digit * weight).sum();
        digits.get(count) == Some(&(sum * 10 % 11 % 10))
    };
    digits.len() == 11 && !same(digits) && check(9) && check(10)
}

fn svnr(digits: &[u32]) -> bool {
    // The fourth digit checks the nine others.
    const WEIGHTS: [u32; 10] = [3, 7, 9, 0, 5, 8, 4, 2, 1, 6];
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum();
    digits.len() == 10 && digits.first() != Some(&0) && digits.get(3) == Some(&(sum % 11))
}

fn same(digits: &[u32]) -> bool {
    digits.iter().all(|digit| Some(digit) == digits.first())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, fault_of, finds};
    use super::*;

    #[test]
    fn cards_are_confirmed_by_luhn() {
        let pattern = r"\d{4}-?\d{4}-?\d{2}-?\d{2}-?\d{4}";
        expect(
            "verifyCC",
            pattern,
            &[b"4111111111111111", b"x 5500-0000-0000-0004 y"],
            &[b"4111111111111112", b"411111111111111", b""],
        );
        assert_eq!(
            finds("verifyCC", r"\d{13,16}", b"n=14111111111111111"),
            Some(b"4111111111111111".to_vec())
        );
        expect("verifyCC", r"\d{16}", &[b"91234111111111111111"], &[b"91234111111111111112"]);
        assert!(matches!(fault_of("verifyCC", "(?=a)"), OperatorFault::Argument { .. }));
    }

    #[test]
    fn social_security_numbers_are_confirmed() {
        let pattern = r"\d{3}-?\d{2}-?\d{4}";
        expect(
            "verifySSN",
            pattern,
            &[b"078-05-1120", b"078051120"],
            &[
                b"000-12-3456",
                b"666-12-3456",
                b"740-12-3456",
                b"123-00-4567",
                b"123-45-0000",
                b"111-11-1111",
                b"123456789",
            ],
        );
    }

    #[test]
    fn brazilian_numbers_are_confirmed() {
        let pattern = r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}";
        expect(
            "verifyCPF",
            pattern,
            &[b"529.982.247-25", b"52998224725"],
            &[b"529.982.247-26", b"111.111.111-11", b"529.982.247-15"],
        );
    }

    #[test]
    fn austrian_numbers_are_confirmed() {
        expect(
            "verifySVNR",
            r"\d{4}\s?\d{6}",
            &[b"1237 010180"],
            &[b"1238 010180", b"0237 010180", b"1237 010181"],
        );
    }

    #[test]
    fn long_rows_of_digits_end() {
        let digits = vec![b'7'; 20_000];
        expect("verifyCC", r"\d{13,16}", &[], &[&digits]);
    }
}

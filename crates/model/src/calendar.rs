//! Days of the Gregorian calendar, counted as Unix time counts them.

/// Days from 0000-03-01 to 1970-01-01.
const MARCH_TO_EPOCH: i64 = 719_468;
/// Days of 400 years, after which leap days come again as before.
const ERA: i64 = 146_097;

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

impl Date {
    /// The day that many days after 1970-01-01 (Hinnant's `civil_from_days`). Years are counted from
    /// March, so that leap days come last.
    #[must_use]
    pub fn of_day(days: i64) -> Self {
        let shifted = days + MARCH_TO_EPOCH;
        let (era, day_of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
        }
    }

    /// How many days after 1970-01-01 it is. Of a day that does not exist, such as 02-30, those of
    /// one after it.
    #[must_use]
    pub fn days(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let from_march = (self.month + 9) % 12;
        let day_of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let year_of_era = year.rem_euclid(400);
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        year.div_euclid(400) * ERA + day_of_era - MARCH_TO_EPOCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        let date = |year, month, day| Date { year, month, day };
        for (days, known) in [
            (0, date(1970, 1, 1)),
            (-1, date(1969, 12, 31)),
            (59, date(1970, 3, 1)),
            (11_016, date(2000, 2, 29)),
            (20_779, date(2026, 11, 22)),
            (47_541, date(2100, 3, 1)),
            (-719_529, date(-1, 12, 31)),
        ] {
            assert_eq!((Date::of_day(days), known.days()), (known, days));
        }
        for days in (-800_000..800_000).step_by(97) {
            assert_eq!(Date::of_day(days).days(), days);
            assert!(Date::of_day(days) < Date::of_day(days + 1));
        }
    }
}

//! The TIME_… variables: a moment's parts in UTC.

/// A moment, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// 1 to 31.
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    /// 0 is Sunday.
    pub(super) weekday: i64,
}

impl Moment {
    /// From milliseconds since 1970. The civil calendar in eras of 400 years, which begin in March.
    pub(super) fn new(unix_ms: i64) -> Self {
        let seconds = unix_ms.div_euclid(1_000);
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
        }
    }

    /// `HH:MM:SS`.
    pub(super) fn clock(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_apart() {
        let show = |ms| {
            let at = Moment::new(ms);
            format!("{}-{}-{} {} {}", at.year, at.month, at.day, at.clock(), at.weekday)
        };
        assert_eq!(show(0), "1970-1-1 00:00:00 4");
        assert_eq!(show(951_827_696_000), "2000-2-29 12:34:56 2");
        assert_eq!(show(1_735_689_599_999), "2024-12-31 23:59:59 2");
        assert_eq!(show(-1_000), "1969-12-31 23:59:59 3");
    }
}

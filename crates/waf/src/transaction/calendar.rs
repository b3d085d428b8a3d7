//! The TIME_… variables: a moment's parts in UTC.

use model::Date;

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
    /// From milliseconds since 1970.
    pub(super) fn new(unix_ms: i64) -> Self {
        let seconds = unix_ms.div_euclid(1_000);
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400);
        let Date { year, month, day } = Date::of_day(days);
        Self {
            year,
            month,
            day,
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

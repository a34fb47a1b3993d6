//! Units: figures as people write them.

/// A whole number with a comma between thousands: `138,125`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of something: `1 film`, `1,204 films`.
pub fn many(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number as u64))
}

/// A quantity with three digits, or more before the point: `1.84`, `18.4`, `1,840`.
pub fn figure(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => count(n.round() as u64),
    }
}

/// A size in the units of disks: `1.42 GB`.
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return many(bytes as usize, "byte");
    }
    let mut size = bytes as f64 / 1e3;
    for unit in ["kB", "MB", "GB"] {
        if size < 999.5 {
            return format!("{} {unit}", figure(size));
        }
        size /= 1e3;
    }
    format!("{} TB", figure(size))
}

/// The length of a film or of the work on it as a clock has it, `1:32:05`; with tenths below ten seconds: `4.2 s`.
pub fn clock(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1} s", seconds.max(0.));
    }
    let whole = seconds.round() as u64;
    format!(
        "{}:{:02}:{:02}",
        count(whole / 3600),
        whole / 60 % 60,
        whole % 60
    )
}

/// A length of many films: `48 s`, `12 min`, `3.42 h`, `1,204 h`.
pub fn hours(seconds: f64) -> String {
    match seconds {
        s if s < 59.5 => format!("{:.0} s", s.max(0.)),
        s if s < 3570. => format!("{:.0} min", s / 60.),
        s => format!("{} h", figure(s / 3600.)),
    }
}

/// A time in seconds since 1970 as `2026-03-01 12:34 UTC`.
pub fn date(time: u64) -> String {
    let (year, month, day) = day(time / 86_400);
    let (hour, minute) = (time / 3600 % 24, time / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Year, month and day from days since 1970 (H. Hinnant, civil_from_days): years begin in March, so that leap days are
/// last.
fn day(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_write_them() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(many(1, "film"), "1 film");
        assert_eq!(many(1204, "film"), "1,204 films");
        assert_eq!(
            [0.5, 9.999, 99.99, 1840.2].map(figure),
            ["0.50", "10.0", "100", "1,840"]
        );
    }

    #[test]
    fn sizes_never_have_a_thousand_of_a_unit() {
        let sizes = [1, 999, 1000, 999_700, 1_420_000_000, 4_000_000_000_000_000];
        let words = [
            "1 byte",
            "999 bytes",
            "1.00 kB",
            "1.00 MB",
            "1.42 GB",
            "4,000 TB",
        ];
        assert_eq!(sizes.map(size), words);
    }

    #[test]
    fn lengths_carry_over() {
        assert_eq!(
            [4.24, 9.97, 59.6, 3599.5, 5525.2, 360_000.].map(clock),
            [
                "4.2 s",
                "0:00:10",
                "0:01:00",
                "1:00:00",
                "1:32:05",
                "100:00:00"
            ]
        );
        assert_eq!(
            [48., 59.6, 720., 3599., 12_312., 4_334_400.].map(hours),
            ["48 s", "1 min", "12 min", "1.00 h", "3.42 h", "1,204 h"]
        );
        assert_eq!(clock(f64::NAN), "0:00:00");
        assert_eq!(clock(-1.), "0.0 s");
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_772_323_200), "2026-03-01 00:00 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }
}

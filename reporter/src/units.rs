//! Numbers as people read them.

/// Bytes in binary units, with as many digits as matter.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64)
}

/// The same of a difference, always with its sign.
pub fn signed_bytes(bytes: i64) -> String {
    format!("{}{}", sign(bytes < 0), scaled(bytes.unsigned_abs() as f64))
}

/// Bytes per second; what is slow, per hour.
pub fn rate(per_second: f64) -> String {
    let size = per_second.abs();
    let (size, unit) = if size >= 10.0 || size == 0.0 { (size, "s") } else { (size * 3600.0, "h") };
    format!("{}{}/{unit}", sign(per_second < 0.0), scaled(size))
}

fn sign(negative: bool) -> char {
    if negative { '−' } else { '+' }
}

fn scaled(bytes: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes, 0);
    // What would be rounded to 1024 of one unit is 1 of the next.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"B");
    if unit > 0 && value < 9.95 {
        format!("{value:.1} {name}")
    } else {
        format!("{value:.0} {name}")
    }
}

/// A count, its digits in groups of three.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A count of something that has a plural with s.
pub fn counted(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {what}{ending}", count(number))
}

/// Part of a whole.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// A time in nanoseconds.
pub fn nanoseconds(ns: u64) -> String {
    milliseconds(ns / 1_000_000)
}

/// A time in milliseconds.
pub fn milliseconds(ms: u64) -> String {
    // Rounded first: 59.96 s is a minute.
    let seconds = (ms + 500) / 1000;
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=9_949 => format!("{:.1} s", ms as f64 / 1e3),
        _ if seconds < 60 => format!("{seconds} s"),
        _ if seconds < 3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A moment in UTC, in ISO form.
pub fn moment(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years (Hinnant's `civil_from_days`).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let milli = unix_ns / 1_000_000 % 1000;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_sensible_digits() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (9_800, "9.6 KiB"),
            (10_189, "10 KiB"),
            (1_048_000, "1023 KiB"),
            (1_048_575, "1.0 MiB"),
            (402 << 20, "402 MiB"),
            (2_040_109_466, "1.9 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(signed_bytes(-2048), "−2.0 KiB");
        assert_eq!(signed_bytes(i64::MIN), "−8.0 EiB");
    }

    #[test]
    fn rates_choose_their_time() {
        assert_eq!(rate(629_145.6), "+614 KiB/s");
        assert_eq!(rate(-20.0), "−20 B/s");
        assert_eq!(rate(0.5), "+1.8 KiB/h");
        assert_eq!(rate(0.0), "+0 B/s");
    }

    #[test]
    fn counts_and_shares() {
        assert_eq!(count(41_210), "41 210");
        assert_eq!(count(7), "7");
        assert_eq!(count(1_000_000), "1 000 000");
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(counted(0, "block"), "0 blocks");
        assert_eq!(share(0.24), "24 %");
        assert_eq!(share(0.004), "0.4 %");
        assert_eq!(share(0.0), "0 %");
    }

    #[test]
    fn times_are_human() {
        for (ms, text) in [
            (7, "7 ms"),
            (3_200, "3.2 s"),
            (59_400, "59 s"),
            (59_960, "1 min 00 s"),
            (724_000, "12 min 04 s"),
            (7_500_000, "2 h 05 min"),
            (273_600_000, "3 d 04 h"),
        ] {
            assert_eq!(milliseconds(ms), text);
        }
        assert!(milliseconds(u64::MAX / 2).ends_with('h'));
    }

    #[test]
    fn moments_are_iso() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(moment(1_709_294_400_123_000_000), "2024-03-01T12:00:00.123Z");
        assert!(moment(u64::MAX).starts_with("2554-"));
    }
}

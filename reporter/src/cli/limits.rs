//! Sizes, counts, speeds and parts, as they are given on the command line.

use crate::analyze::diff::result::{Limit, Metric};

/// What can be asked of `--max-increase`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increase {
    /// Of what; `None`: of all that the limit can mean.
    pub metric: Option<Metric>,
    /// How much.
    pub limit: Limit,
}

/// Bytes, such as `10MiB`; without a unit, too.
pub fn size(text: &str) -> Result<u64, String> {
    match parse(text) {
        Some((number, unit, "")) => bytes(number, unit.unwrap_or("B")),
        _ => None,
    }
    .ok_or_else(|| "a size, such as 512KiB, 10MiB or 1.5GiB".to_owned())
}

/// A size, or a number of blocks.
pub fn size_or_count(text: &str) -> Result<Limit, String> {
    let limit = match parse(text) {
        Some((number, None, "")) => blocks(number),
        Some((number, Some(unit), "")) => bytes(number, unit).map(Limit::Bytes),
        _ => None,
    };
    limit.ok_or_else(|| "a size such as 10MiB, or a number of blocks such as 5000".to_owned())
}

/// Bytes per time, such as `1MiB/s`.
pub fn speed(text: &str) -> Result<f64, String> {
    rate(text).ok_or_else(|| "a size per s, min or h, such as 10KiB/s or 1MiB/h".to_owned())
}

/// `[METRIC=]LIMIT`.
pub fn increase(text: &str) -> Result<Increase, String> {
    let (metric, limit) = match text.split_once('=') {
        None => (None, text),
        Some((name, limit)) => {
            let metrics = Metric::HEAP.into_iter().chain([Metric::Mapped]);
            let names: Vec<&str> = metrics.clone().map(Metric::name).collect();
            let metric = metrics.into_iter().find(|metric| metric.name() == name);
            let metric = metric.ok_or_else(|| format!("{name} is none of {}", names.join(", ")))?;
            (Some(metric), limit)
        }
    };
    let wrong = || {
        "a part such as 10%, a size such as 1MiB, a number of blocks such as 5000, or for growth a speed such as 1KiB/s, each also as METRIC=LIMIT".to_owned()
    };
    let limit = match limit.strip_suffix('%') {
        Some(percent) => number(percent.trim_end()).map(Limit::Percent).ok_or_else(wrong)?,
        None => match (size_or_count(limit), rate(limit)) {
            (Ok(limit), _) => limit,
            (_, Some(rate)) => Limit::Rate(rate),
            _ => return Err(wrong()),
        },
    };
    fits(metric, limit)?;
    Ok(Increase { metric, limit })
}

/// Bytes limit bytes, blocks limit blocks.
fn fits(metric: Option<Metric>, limit: Limit) -> Result<(), String> {
    use crate::analyze::diff::result::Unit;
    let Some(metric) = metric else { return Ok(()) };
    let example = match (metric.unit(), limit) {
        (_, Limit::Percent(_))
        | (Unit::Bytes, Limit::Bytes(_))
        | (Unit::Blocks, Limit::Blocks(_))
        | (Unit::Rate, Limit::Rate(_)) => return Ok(()),
        (Unit::Bytes, _) => "a size such as 1MiB",
        (Unit::Blocks, _) => "a number of blocks such as 5000",
        (Unit::Rate, _) => "a speed such as 1KiB/s",
    };
    Err(format!("{} takes {example}, or a part such as 10%", metric.name()))
}

fn rate(text: &str) -> Option<f64> {
    let (number, unit, per) = parse(text)?;
    let seconds = match per {
        "/s" => 1.0,
        "/min" => 60.0,
        "/h" => 3600.0,
        "" if number == 0.0 => 1.0,
        _ => return None,
    };
    let shift = unit.map_or(Some(0), shift)?;
    Some(number * (1u64 << shift) as f64 / seconds)
}

fn blocks(number: f64) -> Option<Limit> {
    (number.fract() == 0.0 && number < 1e15).then_some(Limit::Blocks(number as u64))
}

fn bytes(number: f64, unit: &str) -> Option<u64> {
    let bytes = number * (1u64 << shift(unit)?) as f64;
    (bytes < 1e18).then_some(bytes.round() as u64)
}

fn shift(unit: &str) -> Option<u32> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    })
}

/// A number, its unit, and what follows from a slash on.
fn parse(text: &str) -> Option<(f64, Option<&str>, &str)> {
    let slash = text.find('/').unwrap_or(text.len());
    let (size, per) = text.split_at(slash);
    let digits = size.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(size.len());
    let (digits, unit) = size.split_at(digits);
    Some((number(digits.trim_end())?, Some(unit).filter(|unit| !unit.is_empty()), per))
}

/// Digits with at most one point; what else Rust takes for a number (`inf`, `1e9`, `+1`) is a typo.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("10MiB", 10 << 20), ("1.5k", 1536), ("7B", 7), ("2 GiB", 2 << 30), ("10", 10)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1MiB", "MiB", "1e3KiB", "1MiB/s", "infB", "10 monkeys", "1..5k"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_alone_counts_blocks() {
        assert_eq!(size_or_count("5000"), Ok(Limit::Blocks(5000)));
        assert_eq!(size_or_count("5000B"), Ok(Limit::Bytes(5000)));
        assert!(size_or_count("1.5").is_err());
    }

    #[test]
    fn speeds_choose_their_time() {
        assert_eq!(speed("1KiB/s"), Ok(1024.0));
        assert_eq!(speed("60MiB/min"), Ok(1_048_576.0));
        assert_eq!(speed("0"), Ok(0.0));
        for text in ["1KiB", "1KiB/d", "/s", "5"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn increases_may_name_what_they_are_of() {
        let of = |text| increase(text).map(|it| (it.metric, it.limit));
        assert_eq!(of("10%"), Ok((None, Limit::Percent(10.0))));
        assert_eq!(of("0.5 %"), Ok((None, Limit::Percent(0.5))));
        assert_eq!(of("allocated=1MiB"), Ok((Some(Metric::Allocated), Limit::Bytes(1 << 20))));
        assert_eq!(of("growth=1KiB/s"), Ok((Some(Metric::Growth), Limit::Rate(1024.0))));
        assert_eq!(of("surviving-blocks=5"), Ok((Some(Metric::SurvivingBlocks), Limit::Blocks(5))));
        for text in ["growth=1KiB", "peak=5", "speed=10%", "ten%", "-5%", "%", "NaN%"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}

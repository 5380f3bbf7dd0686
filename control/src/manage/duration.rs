//! Durations as routers print them.

/// `hh:mm:ss` below a day, then `1d02h`, from a week on `1w2d`, from a year (52 weeks) on `1y3w`.
pub(super) fn age(milliseconds: u64) -> String {
    const DAY: u64 = 86_400;
    let seconds = milliseconds / 1000;
    let (hours, days) = (seconds / 3600, seconds / DAY);
    let weeks = days / 7;
    if days == 0 {
        format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
    } else if weeks == 0 {
        format!("{days}d{:02}h", hours % 24)
    } else if weeks < 52 {
        format!("{weeks}w{}d", days % 7)
    } else {
        format!("{}y{}w", weeks / 52, weeks % 52)
    }
}

/// `1 week, 2 days, 3 hours, 4 minutes`, as after `uptime is`.
pub(super) fn uptime(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000;
    let parts = [
        (minutes / (60 * 24 * 7), "week"),
        (minutes / (60 * 24) % 7, "day"),
        (minutes / 60 % 24, "hour"),
    ];
    let word = |n: u64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    let mut words: Vec<String> = parts
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| word(n, unit))
        .collect();
    words.push(word(minutes % 60, "minute"));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{age, uptime};

    #[test]
    fn ages_change_their_units_where_routers_do() {
        let second = 1000;
        let day = 86_400 * second;
        for (milliseconds, text) in [
            (0, "00:00:00"),
            (999, "00:00:00"),
            (1903 * second, "00:31:43"),
            (day - 1, "23:59:59"),
            (day, "1d00h"),
            (day + 2 * 3600 * second, "1d02h"),
            (7 * day - 1, "6d23h"),
            (7 * day, "1w0d"),
            (9 * day, "1w2d"),
            (364 * day - 1, "51w6d"),
            (364 * day, "1y0w"),
        ] {
            assert_eq!(age(milliseconds), text);
        }
    }

    #[test]
    fn uptime_leaves_out_what_is_zero_but_never_the_minutes() {
        assert_eq!(uptime(59_000), "0 minutes");
        assert_eq!(uptime(60_000), "1 minute");
        assert_eq!(uptime(2 * 3_600_000), "2 hours, 0 minutes");
        assert_eq!(
            uptime((9 * 24 * 60 + 61) * 60_000),
            "1 week, 2 days, 1 hour, 1 minute"
        );
    }
}

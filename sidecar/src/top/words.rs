//! How `ringlane top` writes numbers: short, with the unit that suits them.

/// A time.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        120_000_000_000..7_200_000_000_000 => format!("{} min", ns / 60_000_000_000),
        7_200_000_000_000..172_800_000_000_000 => format!("{:.1} h", ns as f64 / 3.6e12),
        _ => format!("{} days", ns / 86_400_000_000_000),
    }
}

/// A number in three digits and a power.
pub fn quantity(value: f64) -> String {
    match value {
        value if value >= 1e12 => format!("{:.2} T", value / 1e12),
        value if value >= 1e9 => format!("{:.2} G", value / 1e9),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// Bytes.
pub fn bytes(value: f64) -> String {
    match value {
        value if value >= 1e12 => format!("{:.2} TB", value / 1e12),
        value if value >= 1e9 => format!("{:.2} GB", value / 1e9),
        value if value >= 1e6 => format!("{:.1} MB", value / 1e6),
        value if value >= 1e3 => format!("{:.1} kB", value / 1e3),
        value => format!("{value:.0} B"),
    }
}

/// A bar of at most `columns`, in eighths of one.
pub fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (columns * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_that_suits_them() {
        assert_eq!([999, 1_500, 2_500_000, 90_000_000_000].map(duration), ["999 ns", "1.5 us", "2.5 ms", "90.0 s"]);
        assert_eq!([600_000_000_000, 9_000_000_000_000, 200_000_000_000_000].map(duration), ["10 min", "2.5 h", "2 days"]);
        assert_eq!([7.0, 9_999.0, 12_345.0, 4.56e6, 7.8e9].map(quantity), ["7", "9999", "12.3 k", "4.56 M", "7.80 G"]);
        assert_eq!([512.0, 65_200.0, 65.2e6, 34.4e9].map(bytes), ["512 B", "65.2 kB", "65.2 MB", "34.40 GB"]);
    }

    #[test]
    fn bars_grow_by_eighths() {
        assert_eq!([0.0, 0.5, 1.0, 7.0].map(|share| bar(share, 2)), ["", "█", "██", "██"]);
        assert_eq!(bar(0.0625, 2), "▏");
    }
}

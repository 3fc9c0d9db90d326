//! The two texts in which metrics travel: OpenMetrics for those who ask for it, and Prometheus' older one for everybody else.

use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::families::Families;

/// The metrics of the sidecar at an address, and their content type. A board that cannot be read gives an empty text.
pub fn exposition(address: &str, open_metrics: bool) -> (&'static str, String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families { address: address.to_owned() }));
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        text.clear();
    }
    if open_metrics {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", older(&text))
    }
}

/// OpenMetrics as the older text: families are called as their samples, and units are no lines of their own.
fn older(text: &str) -> String {
    let (mut out, mut help) = (String::with_capacity(text.len()), None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            let words = help.take().map_or("", |(_, words)| words);
            let _ = writeln!(out, "# HELP {name}{suffix} {words}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::older;

    #[test]
    fn the_older_text_names_families_as_their_samples() {
        let open = "# HELP a_bytes Sum.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 1\n# HELP b Info.\n# TYPE b info\n\
                    b_info{x=\"# y\"} 1\n# EOF\n";
        let expected = "# HELP a_bytes_total Sum.\n# TYPE a_bytes_total counter\na_bytes_total 1\n# HELP b_info Info.\n\
                        # TYPE b_info gauge\nb_info{x=\"# y\"} 1\n";
        assert_eq!(older(open), expected);
    }
}

//! Charts as SVG: each line and bar has its numbers in words beside it, so that nobody needs colour.

use maud::{Markup, html};

/// One line of a chart.
pub struct Line<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// A value a step; none where nothing was measured.
    pub values: Vec<Option<f64>>,
}

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 100.0;
const TOP: f64 = 16.0;

/// Lines over time, the first drawn through, the second dashed. `places` is where each step stands, from 0 to 1;
/// `ends` is what the left and the right end say.
pub fn lines(title: &str, unit: &str, places: &[f64], lines: &[Line<'_>], ends: (&str, &str)) -> Markup {
    let highest = lines.iter().flat_map(|line| &line.values).flatten().fold(0.0_f64, |highest, value| highest.max(*value));
    let y = |value: f64| TOP + (HEIGHT - TOP) * (1.0 - value / highest.max(f64::MIN_POSITIVE));
    let point = |place: f64, value: f64| format!("{:.1},{:.1}", WIDTH * place, y(value));
    html! {
        figure {
            figcaption { (title) }
            svg class="chart" role="img" aria-label=(format!("{title}, at most {} {unit}", number(highest))) viewBox=(format!("0 0 {WIDTH} {}", HEIGHT + 18.0)) {
                line class="axis" x1="0" y1=(TOP) x2=(WIDTH) y2=(TOP) {}
                text class="faint" x="0" y=(TOP - 4.0) { (number(highest)) " " (unit) }
                line class="axis" x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
                @for (n, line) in lines.iter().enumerate() {
                    @let points: Vec<String> = places.iter().zip(&line.values).filter_map(|(place, value)| Some(point(*place, (*value)?))).collect();
                    polyline class=(if n == 0 { "line" } else { "line dashed" }) points=(points.join(" ")) {}
                    // One step alone is no line.
                    @if let [only] = &points[..] { @let (x, y) = only.split_once(',').unwrap_or_default(); circle class="dot" cx=(x) cy=(y) r="2.5" {} }
                }
                text class="faint" x="0" y=(HEIGHT + 14.0) { (ends.0) }
                text class="faint" x=(WIDTH) y=(HEIGHT + 14.0) text-anchor="end" { (ends.1) }
            }
            ul class="legend" {
                @for (n, line) in lines.iter().enumerate() {
                    li {
                        svg class="key" viewBox="0 0 24 8" aria-hidden="true" { line class=(if n == 0 { "line" } else { "line dashed" }) x1="0" y1="4" x2="24" y2="4" {} }
                        " " (line.name) @if let Some(last) = line.values.iter().flatten().next_back() { ": " (number(*last)) " " (unit) " last" }
                    }
                }
            }
        }
    }
}

/// A bar each, by its share of all, with the number beside it.
pub fn shares(label: &str, counts: &[(String, f64)]) -> Markup {
    let total: f64 = counts.iter().map(|(_, count)| count).sum();
    html! {
        svg class="chart" role="img" aria-label=(label) viewBox={ "0 0 400 " (counts.len() * 28) } {
            @for (n, (name, count)) in counts.iter().enumerate() {
                text x="0" y=(n * 28 + 18) { (name) }
                rect class="track" x="120" y=(n * 28 + 5) width="150" height="18" rx="3" {}
                rect class="bar" x="120" y=(n * 28 + 5) width=(format!("{:.1}", 150.0 * count / total.max(1.0))) height="18" rx="3" {}
                text x="278" y=(n * 28 + 18) { (format!("{count:.0} · {:.2} %", 100.0 * count / total.max(1.0))) }
            }
        }
    }
}

/// As short as it is still true.
fn number(value: f64) -> String {
    if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

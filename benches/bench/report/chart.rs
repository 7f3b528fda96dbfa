//! The charts, drawn as SVG by hand: a picture of bars or of lines is a few lines of text.

use std::fmt::Write as _;

use super::{Ledger, Row, tables};
use crate::run::Name;

const WIDTH: f64 = 860.0;
const FONT: &str = "font-family=\"system-ui, sans-serif\"";
const OURS: &str = "#2563eb";
const THEIRS: &str = "#94a3b8";
const FLOOR: &str = "#d97706";
const TEXT: &str = "#334155";

/// Bars: every system's rate at each workload. `None` where nothing was measured.
pub(crate) fn peers(ledger: &Ledger) -> Option<String> {
    let mut panels = Vec::new();
    for (workload, title) in
        [("a", "1 client, 1 a batch"), ("b", "64 clients, 1 a batch"), ("c", "4 clients, 100 a batch")]
    {
        let rows = ledger.of(Name::Peers).filter(|row| row.is(Name::Peers, workload, "both"));
        let mut bars: Vec<(&Row, f64)> =
            rows.filter_map(|row| Some((row, row.figure("messages_per_second")?))).collect();
        bars.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        if !bars.is_empty() {
            panels.push((title, bars));
        }
    }
    if panels.is_empty() {
        return None;
    }
    let mut body =
        heading("Messages per second, 1 KiB: submitted, taken, completed; every step on the disk", 28.0);
    let mut at = 62.0;
    for (title, bars) in panels {
        let _ = write!(
            body,
            "<text x=\"20\" y=\"{at}\" font-size=\"15\" font-weight=\"600\" fill=\"{TEXT}\">{title}</text>"
        );
        at += 10.0;
        let most = bars.first().map_or(1.0, |(_, rate)| *rate);
        for (row, rate) in bars {
            bar(&mut body, row, rate, most, at);
            at += 24.0;
        }
        at += 32.0;
    }
    Some(picture(&body, at - 10.0))
}

fn bar(body: &mut String, row: &Row, rate: f64, most: f64, at: f64) {
    const LEFT: f64 = 190.0;
    const LONGEST: f64 = 560.0;
    let colour = if row.is_peer() {
        THEIRS
    } else if row.is_floor() {
        FLOOR
    } else {
        OURS
    };
    let length = (rate / most * LONGEST).max(2.0);
    let name = tables::title(row).replace('*', "");
    let y = at + 15.0;
    let _ = write!(
        body,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"13\" text-anchor=\"end\" fill=\"{TEXT}\">{name}</text>\
         <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"17\" rx=\"2\" fill=\"{colour}\"/>\
         <text x=\"{end:.1}\" y=\"{y}\" font-size=\"13\" fill=\"{TEXT}\">{}</text>",
        tables::grouped(rate),
        x = LEFT - 8.0,
        top = at + 2.0,
        end = LEFT + length + 6.0,
    );
}

/// Lines: latency over the rate that more and more clients reach. `None` where nothing was measured.
pub(crate) fn load(ledger: &Ledger) -> Option<String> {
    let points = |name: &str, figure: &str| {
        let rows = ledger.of(Name::Store).filter(|row| row.text("workload") == "load" && row.name == name);
        let mut points: Vec<(f64, f64)> = rows
            .filter_map(|row| Some((row.figure("messages_per_second")?, row.figure(figure)? / 1_000.0)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let lines = [
        ("pillarbox p50", OURS, "", points("journal", "submit_p50_us")),
        ("pillarbox p99", OURS, "6 4", points("journal", "submit_p99_us")),
        ("bare log p50", FLOOR, "", points("ring", "submit_p50_us")),
        ("bare log p99", FLOOR, "6 4", points("ring", "submit_p99_us")),
    ];
    let all = || lines.iter().flat_map(|line| line.3.iter());
    let right = all().map(|point| point.0).fold(0.0, f64::max);
    let low = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|point| point.1).fold(0.0, f64::max);
    if right <= 0.0 || !low.is_finite() || low <= 0.0 {
        return None;
    }
    let scale = Scale { right: right * 1.05, low: low.log10().floor(), high: high.log10().ceil() };
    let mut body = heading("Submit latency over load: 1 KiB, 1 a batch, 1 to 128 clients", 28.0);
    scale.axes(&mut body);
    for (place, (name, colour, dash, points)) in (0_u32..).zip(&lines) {
        let path: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", scale.x(point.0), scale.y(point.1))).collect();
        let _ = write!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>",
            path.join(" ")
        );
        for point in points {
            let _ = write!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>",
                scale.x(point.0),
                scale.y(point.1)
            );
        }
        let y = 62.0 + f64::from(place) * 20.0;
        let _ = write!(
            body,
            "<line x1=\"90\" y1=\"{y}\" x2=\"126\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>\
             <text x=\"134\" y=\"{}\" font-size=\"13\" fill=\"{TEXT}\">{name}</text>",
            y + 4.0
        );
    }
    Some(picture(&body, Scale::BOTTOM + 60.0))
}

/// Rates to the right, latencies in powers of ten upwards.
struct Scale {
    right: f64,
    low: f64,
    high: f64,
}

impl Scale {
    const LEFT: f64 = 70.0;
    const TOP: f64 = 50.0;
    const BOTTOM: f64 = 420.0;

    fn x(&self, rate: f64) -> f64 {
        Self::LEFT + rate / self.right * (WIDTH - Self::LEFT - 30.0)
    }

    fn y(&self, millis: f64) -> f64 {
        let part = (millis.log10() - self.low) / (self.high - self.low).max(1.0);
        Self::BOTTOM - part * (Self::BOTTOM - Self::TOP)
    }

    fn axes(&self, body: &mut String) {
        let mut power = self.low;
        while power <= self.high {
            let y = self.y(10_f64.powf(power));
            let label = tables::plain(Some(10_f64.powf(power)));
            let _ = write!(
                body,
                "<line x1=\"{}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#e2e8f0\"/>\
                 <text x=\"{}\" y=\"{:.1}\" font-size=\"12\" text-anchor=\"end\" fill=\"{TEXT}\">{label} ms</text>",
                Self::LEFT,
                WIDTH - 30.0,
                Self::LEFT - 8.0,
                y + 4.0
            );
            power += 1.0;
        }
        for part in [0.25, 0.5, 0.75, 1.0] {
            let rate = self.right * part;
            let _ = write!(
                body,
                "<text x=\"{:.1}\" y=\"{}\" font-size=\"12\" text-anchor=\"middle\" fill=\"{TEXT}\">{}</text>",
                self.x(rate),
                Self::BOTTOM + 20.0,
                tables::grouped(rate)
            );
        }
        let _ = write!(
            body,
            "<text x=\"{}\" y=\"{}\" font-size=\"13\" text-anchor=\"middle\" fill=\"{TEXT}\">messages per second, submitted and completed</text>",
            WIDTH / 2.0,
            Self::BOTTOM + 44.0
        );
    }
}

fn heading(text: &str, y: f64) -> String {
    format!("<text x=\"20\" y=\"{y}\" font-size=\"17\" font-weight=\"700\" fill=\"{TEXT}\">{text}</text>")
}

fn picture(body: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" {FONT}><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>{body}</svg>\n"
    )
}

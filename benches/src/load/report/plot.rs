//! One plot as SVG: lines over the offered load, each with its confidence band.
//!
//! Does: axes with round numbers, linear or logarithmic; a tooltip on every point without a
//! script. Colours are classes, which the page defines for light and dark.

use std::fmt::Write;

use super::chapter::Estimate;
use crate::load::figure::digits;

/// Size of the drawing, in its own units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;

/// Room around the axes: left, right, top, bottom.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;

/// Steps on an axis, roughly.
const STEPS: f64 = 5.0;

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What the vertical axis shows.
    pub title: String,
    /// Its unit.
    pub unit: String,
    /// Whether it is logarithmic.
    pub logarithmic: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// Which colour it has: the index of the server.
    pub colour: usize,
    /// Offered load in Mbit/s, and what was measured there; ascending.
    pub points: Vec<(f64, Estimate)>,
}

/// An axis: from where to where, and where its marks are.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    marks: Vec<f64>,
    logarithmic: bool,
}

impl Axis {
    /// From zero to a round number above `most`.
    fn linear(most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / STEPS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let mut marks = vec![0.0];
        while marks.last().is_some_and(|last| *last < most - step * 1e-9) {
            marks.push(step * marks.len() as f64);
        }
        let high = marks.last().copied().unwrap_or(most);
        Self { low: 0.0, high, marks, logarithmic: false }
    }

    /// From a power of ten to another.
    fn logarithmic(least: f64, most: f64) -> Self {
        let least = if least > 0.0 { least } else { most.max(1.0) / 1_000.0 };
        let low = 10_f64.powf(least.log10().floor());
        let mut marks = vec![low];
        while marks.last().is_some_and(|last| *last < most) {
            marks.push(marks.last().copied().unwrap_or(low) * 10.0);
        }
        if marks.len() == 1 {
            marks.push(low * 10.0);
        }
        let high = marks.last().copied().unwrap_or(most);
        Self { low, high, marks, logarithmic: true }
    }

    /// Where `value` is, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        if self.logarithmic {
            let value = value.max(self.low);
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

impl Plot {
    /// The plot as an `svg` element.
    #[must_use]
    pub fn render(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most_x = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let most_y = points().map(|(_, y)| y.high).fold(0.0, f64::max);
        let least_y = points().map(|(_, y)| y.low).filter(|low| *low > 0.0);
        let least_y = least_y.fold(f64::INFINITY, f64::min).min(most_y);
        let across = Axis::linear(most_x);
        let up = if self.logarithmic {
            Axis::logarithmic(least_y, most_y)
        } else {
            Axis::linear(most_y)
        };
        let place = Place { across: &across, up: &up };

        let mut out = String::new();
        // Writing to a string does not fail.
        let mut draw = |text: std::fmt::Arguments<'_>| out.write_fmt(text).unwrap_or_default();
        draw(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\" aria-label=\"{}\">\n",
            escape(&self.title)
        ));
        for mark in &up.marks {
            let y = place.y(*mark);
            draw(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                mark_text(*mark)
            ));
        }
        for mark in &across.marks {
            draw(format_args!(
                "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                place.x(*mark),
                HEIGHT - BOTTOM + 18.0,
                mark_text(*mark)
            ));
        }
        draw(format_args!(
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">offered, Mbit/s\
             </text>\n",
            WIDTH - RIGHT,
            HEIGHT - 6.0
        ));
        for line in &self.lines {
            draw(format_args!(
                "<polygon class=\"band c{}\" points=\"{}\"/>\n",
                line.colour,
                place.band(line)
            ));
        }
        for line in &self.lines {
            draw(format_args!(
                "<polyline class=\"line c{}\" points=\"{}\"/>\n",
                line.colour,
                place.path(line)
            ));
            for (x, y) in &line.points {
                draw(format_args!(
                    "<circle class=\"dot c{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}, \
                     offered {} Mbit/s: {} {} ({} runs)</title></circle>\n",
                    line.colour,
                    place.x(*x),
                    place.y(y.mean),
                    escape(&line.name),
                    digits(*x),
                    y.text(),
                    escape(&self.unit),
                    y.runs
                ));
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

/// Where values are in the drawing.
struct Place<'a> {
    across: &'a Axis,
    up: &'a Axis,
}

impl Place<'_> {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.across.part(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.up.part(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, line: &Line) -> String {
        join(line.points.iter().map(|(x, y)| (self.x(*x), self.y(y.mean))))
    }

    /// Along the upper end and back along the lower one.
    fn band(&self, line: &Line) -> String {
        let there = line.points.iter().map(|(x, y)| (self.x(*x), self.y(y.high)));
        let back = line.points.iter().rev().map(|(x, y)| (self.x(*x), self.y(y.low)));
        join(there.chain(back))
    }
}

fn join(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// A mark's number: thousands as such, and no more digits than it has.
fn mark_text(value: f64) -> String {
    if value >= 1_000_000.0 {
        format!("{}M", value / 1_000_000.0)
    } else if value >= 10_000.0 {
        format!("{}k", value / 1_000.0)
    } else {
        // Steps are 1, 2, 2.5 or 5 times a power of ten; sums of them are not exact.
        format!("{}", (value * 1e6).round() / 1e6)
    }
}

/// `text` inside an element or attribute.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (most, high, count) in [
            (400.0, 400.0, 5),
            (1_600.0, 2_000.0, 5),
            (0.0, 1.0, 6),
            (7.0, 8.0, 5),
            (1e-3, 1e-3, 6),
        ] {
            let axis = Axis::linear(most);
            assert!((axis.high - high).abs() < high * 1e-9, "{most}: {axis:?}");
            assert_eq!(axis.marks.len(), count, "{most}: {axis:?}");
        }
        assert_eq!(Axis::logarithmic(80.0, 3_000.0).marks, [10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(Axis::logarithmic(100.0, 100.0).marks, [100.0, 1_000.0]);
    }

    #[test]
    fn a_plot_is_well_formed_whatever_it_shows() {
        let point = |mean: f64| Estimate { mean, low: mean / 2.0, high: mean * 2.0, runs: 3 };
        let line = |name: &str, points: Vec<(f64, Estimate)>| Line {
            name: name.to_owned(),
            colour: 0,
            points,
        };
        for logarithmic in [false, true] {
            let plot = Plot {
                title: "a < b & \"c\"".to_owned(),
                unit: "µs".to_owned(),
                logarithmic,
                lines: vec![
                    line("<ours>", vec![(100.0, point(5.0)), (200.0, point(0.0))]),
                    line("empty", Vec::new()),
                ],
            };
            let svg = plot.render();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let circles = document.descendants().filter(|node| node.has_tag_name((SVG, "circle")));
            for circle in circles.clone() {
                for name in ["cx", "cy"] {
                    let at: f64 = circle.attribute(name).unwrap().parse().unwrap();
                    assert!((0.0..=WIDTH).contains(&at), "{name} {at}");
                }
            }
            assert_eq!(circles.count(), 2);
        }
    }

    const SVG: &str = "http://www.w3.org/2000/svg";
}

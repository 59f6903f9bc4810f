//! Small figures as SVG, written by hand: no script, no font file, no colour alone.
//!
//! Every figure is drawn [`NARROW`] units wide, so that it is read unscaled on a 400-pixel screen and
//! enlarged on paper. Colours are those of Okabe and Ito (2008), told apart by all common kinds of
//! colour vision; where two series share a figure they also differ in shape or place. A figure's title
//! is a sentence that says what was found. What is worth drawing is the report's decision.

pub mod bars;
pub mod lanes;
pub mod lines;
pub mod ranges;
mod scale;

pub use scale::{Scale, byte_unit, bytes, number};

use std::fmt::Write as _;

/// Paper, ink, grids and greys at night, the one series that is too dark for it, and the one next to it. Rules of style win over the colours
/// that are written into the shapes, and programs that know no styles keep those.
const NIGHT: &str = r##"<style>@media screen and (prefers-color-scheme: dark) {
svg[fill="#000000"], svg [fill="#000000"] { fill: #e8e8e8 } svg [stroke="#000000"] { stroke: #e8e8e8 }
svg [fill="#ffffff"] { fill: #171717 } svg [stroke="#BBBBBB"] { stroke: #4a4a4a } svg [fill="#333333"] { fill: #c4c4c4 }
svg [fill="#0072B2"] { fill: #2e86d6 } svg [stroke="#0072B2"] { stroke: #2e86d6 } svg [fill="#56B4E9"] { fill: #9bd8ff }
svg [fill="#444444"] { fill: #a0a0a0 } svg [fill="#E6E6E6"] { fill: #3c3c3c } svg [fill="#F4F4F4"] { fill: #262626 }
}</style>"##;

/// Width of a figure in its own units.
pub const NARROW: f64 = 400.0;
/// Size of letters in the same units.
pub const LETTER: f64 = 11.0;

/// Okabe and Ito's colours.
pub mod colour {
    /// Axes, text.
    pub const BLACK: &str = "#000000";
    /// The first series.
    pub const BLUE: &str = "#0072B2";
    /// The second series.
    pub const ORANGE: &str = "#E69F00";
    /// What went wrong.
    pub const VERMILION: &str = "#D55E00";
    /// What went well.
    pub const GREEN: &str = "#009E73";
    /// Light blue.
    pub const SKY: &str = "#56B4E9";
    /// Reddish purple.
    pub const PURPLE: &str = "#CC79A7";
    /// Rules and grids; no series.
    pub const GREY: &str = "#BBBBBB";
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Begins there.
    Start,
    /// Is centred there.
    Middle,
    /// Ends there.
    End,
}

/// A figure under construction. The origin is at the top left, `y` grows downwards.
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Svg {
    /// A figure with its title at the top. Returns it with the height that the title takes.
    pub fn titled(width: f64, title: &str) -> (Self, f64) {
        let mut svg = Self {
            width,
            height: 0.0,
            title: title.to_owned(),
            body: String::new(),
        };
        let mut y = 4.0;
        // Bold letters are a tenth wider.
        for line in wrapped(title, (width - 8.0) / 1.1, LETTER + 1.0) {
            y += LETTER + 5.0;
            let text = escaped(&line);
            let size = LETTER + 1.0;
            let _ = writeln!(
                svg.body,
                r#"<text x="4" y="{y:.1}" font-size="{size}" font-weight="bold">{text}</text>"#
            );
        }
        (svg, y + 8.0)
    }

    /// Its width.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// A filled rectangle.
    pub fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str) {
        if w > 0.0 && h > 0.0 {
            let _ = writeln!(
                self.body,
                r#"<rect x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}" fill="{fill}"/>"#
            );
        }
    }

    /// A filled rectangle that lets through what is below it.
    pub fn veil(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.2}" y="{y:.2}" width="{w:.2}" height="{h:.2}" fill="{fill}" fill-opacity="0.35"/>"#
        );
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            r#"<line x1="{x1:.2}" y1="{y1:.2}" x2="{x2:.2}" y2="{y2:.2}" stroke="{stroke}" stroke-width="{width}"/>"#
        );
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[(f64, f64)], stroke: &str) {
        let at = |(x, y): &(f64, f64)| format!("{x:.2},{y:.2}");
        let points: Vec<String> = points.iter().map(at).collect();
        let points = points.join(" ");
        let _ = writeln!(
            self.body,
            r#"<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="1.8"/>"#
        );
    }

    /// A mark of one of the series' shapes.
    pub fn mark(&mut self, shape: Shape, (x, y): (f64, f64), fill: &str) {
        let _ = match shape {
            Shape::Circle => writeln!(
                self.body,
                r#"<circle cx="{x:.2}" cy="{y:.2}" r="3" fill="{fill}"/>"#
            ),
            Shape::Square => writeln!(
                self.body,
                r#"<rect x="{:.2}" y="{:.2}" width="8" height="8" fill="{fill}"/>"#,
                x - 4.0,
                y - 4.0
            ),
            Shape::Diamond => writeln!(
                self.body,
                r#"<path d="M{x:.2} {:.2}l4 4l-4 4l-4 -4z" fill="{fill}"/>"#,
                y - 4.0
            ),
        };
    }

    /// A text.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, text: &str) {
        self.text_of(at, anchor, text, LETTER, colour::BLACK);
    }

    /// A text of another size or colour.
    pub fn text_of(
        &mut self,
        (x, y): (f64, f64),
        anchor: Anchor,
        text: &str,
        size: f64,
        fill: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.2}" y="{y:.2}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{text}</text>"#
        );
    }

    /// A text that is read from below, centred at a point: the label of a vertical axis.
    pub fn upright(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            r#"<text transform="translate({x:.2} {y:.2}) rotate(-90)" font-size="{LETTER}" text-anchor="middle">{text}</text>"#
        );
    }

    /// Rows of colour patches with their names, from `y` on. Returns the height that they take.
    pub fn legend(&mut self, y: f64, entries: &[(Option<Shape>, &str, &str)]) -> f64 {
        let (mut x, mut row) = (4.0, y + LETTER);
        for (shape, fill, name) in entries {
            let takes = 28.0 + text_width(name, LETTER);
            if x + takes > self.width && x > 4.0 {
                x = 4.0;
                row += LETTER + 5.0;
            }
            match shape {
                Some(shape) => self.mark(*shape, (x + 5.0, row - 4.0), fill),
                None => self.rect((x, row - 9.0), (10.0, 10.0), fill),
            }
            self.text((x + 14.0, row), Anchor::Start, name);
            x += takes;
        }
        row - y + 8.0
    }

    /// Vertical grid lines with their numbers below, and the axis' label.
    pub fn horizontal_axis(&mut self, scale: &Scale, (top, bottom): (f64, f64), axis: &Axis<'_>) {
        for tick in scale.ticks(6) {
            let x = scale.at(tick);
            self.line((x, top), (x, bottom), colour::GREY, 0.5);
            let number = (axis.format)(tick);
            self.text((x, bottom + LETTER + 3.0), Anchor::Middle, &number);
        }
        // A label wider than its axis is moved inwards rather than cut.
        let half = text_width(axis.label, LETTER) / 2.0;
        let middle = scale.at((scale.low + scale.high) / 2.0);
        let middle = middle
            .min(self.width - half - 4.0)
            .max(half.min(self.width / 2.0));
        let below = bottom + 2.0 * LETTER + 8.0;
        self.text((middle, below), Anchor::Middle, axis.label);
    }

    /// The file, `height` units high.
    pub fn finish(mut self, height: f64) -> String {
        self.height = height;
        let Self {
            width,
            height,
            title,
            body,
        } = self;
        let title = escaped(&title);
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" role="img" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif" fill="#000000">
<title>{title}</title>
{NIGHT}
<rect width="{width:.0}" height="{height:.0}" fill="#ffffff"/>
{body}</svg>
"##
        )
    }
}

/// The mark of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Round.
    Circle,
    /// Square.
    Square,
    /// On its tip.
    Diamond,
}

/// How an axis is labelled.
pub struct Axis<'a> {
    /// What is measured, with its unit.
    pub label: &'a str,
    /// How its numbers are written.
    pub format: fn(f64) -> String,
}

/// Text as SVG and HTML take it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// Roughly how wide a text of this size is: no font is at hand to ask, so a generous mean is taken.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}

/// A text in lines that fit.
fn wrapped(text: &str, width: f64, size: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let together = match line.is_empty() {
            true => word.to_owned(),
            false => format!("{line} {word}"),
        };
        match text_width(&together, size) <= width || line.is_empty() {
            true => *line = together,
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_title_is_broken_between_words_and_loses_none() {
        let title = "one two three four five six seven eight nine ten eleven twelve";
        let lines = wrapped(title, 120.0, 12.0);
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|l| text_width(l, 12.0) <= 120.0));
        assert_eq!(lines.join(" "), title);
    }

    #[test]
    fn names_from_a_scenario_cannot_break_out_of_a_figure() {
        let (mut svg, y) = Svg::titled(NARROW, "<script>&\"");
        svg.text((0.0, y), Anchor::Start, "</svg>");
        let file = svg.finish(10.0);
        assert!(!file.contains("<script>"));
        assert_eq!(file.matches("</svg>").count(), 1);
    }
}

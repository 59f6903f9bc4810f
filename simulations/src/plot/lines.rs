//! Series over a whole-numbered axis, each point with a range where it has one.

use super::{Anchor, Axis, LETTER, NARROW, Scale, Shape, Svg, colour, text_width};

/// One series.
pub struct Series<'a> {
    /// For the legend.
    pub name: &'a str,
    /// Its colour.
    pub colour: &'a str,
    /// Its mark.
    pub shape: Shape,
    /// Place, value, and the ends of its range.
    pub points: Vec<Point>,
}

/// One point of a series.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// On the horizontal axis.
    pub at: f64,
    /// On the vertical axis.
    pub value: f64,
    /// Lower and upper end of its range.
    pub range: Option<(f64, f64)>,
}

/// Draws the series. The vertical axis begins at zero, because a loss has a natural zero and a cut axis makes small
/// differences look large, or it is logarithmic and says so.
pub fn draw(title: &str, series: &[Series<'_>], across: &str, upwards: &Axis<'_>) -> String {
    let (mut svg, mut top) = Svg::titled(NARROW, title);
    let legend: Vec<_> = (series.iter())
        .map(|s| (Some(s.shape), s.colour, s.name))
        .collect();
    top += svg.legend(top, &legend);
    let bottom = top + 190.0;
    let points = || series.iter().flat_map(|s| &s.points);
    let heights = points().flat_map(|p| [p.value, p.range.map_or(p.value, |r| r.1)]);
    let all = points().flat_map(|p| [p.value, p.range.map_or(p.value, |r| r.0)]);
    let place = (bottom, top + 6.0);
    let up = Scale::logarithmic(all.chain(heights.clone()), place)
        .unwrap_or_else(|| Scale::around_zero(heights, place));
    let labels: Vec<(f64, String)> = (up.ticks(6).into_iter())
        .map(|tick| (tick, (upwards.format)(tick)))
        .collect();
    let widest = (labels.iter()).map(|(_, text)| text_width(text, LETTER));
    let left = 26.0 + widest.fold(0.0, f64::max);
    let (first, last) = points().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.at), h.max(p.at)));
    let right = Scale::new((first, last), (left + 10.0, NARROW - 14.0));
    for (tick, text) in &labels {
        let y = up.at(*tick);
        svg.line((left, y), (NARROW - 4.0, y), colour::GREY, 0.5);
        svg.text((left - 4.0, y + 4.0), Anchor::End, text);
    }
    svg.upright((12.0, (top + bottom) / 2.0), &up.label(upwards.label));
    for tick in right.ticks(10).into_iter().filter(|t| t.fract() == 0.0) {
        let x = right.at(tick);
        svg.line((x, bottom), (x, bottom + 3.0), colour::BLACK, 1.0);
        svg.text(
            (x, bottom + LETTER + 4.0),
            Anchor::Middle,
            &format!("{tick:.0}"),
        );
    }
    svg.line((left, bottom), (NARROW - 4.0, bottom), colour::BLACK, 1.0);
    let middle = (left + NARROW) / 2.0;
    svg.text(
        (middle, bottom + 2.0 * LETTER + 10.0),
        Anchor::Middle,
        across,
    );
    for one in series {
        let place = |p: &Point| (right.at(p.at), up.at(p.value));
        for point in &one.points {
            if let Some((low, high)) = point.range {
                let x = right.at(point.at);
                svg.line((x, up.at(low)), (x, up.at(high)), one.colour, 1.2);
            }
        }
        let places: Vec<(f64, f64)> = one.points.iter().map(place).collect();
        svg.polyline(&places, one.colour);
        for at in places {
            svg.mark(one.shape, at, one.colour);
        }
    }
    svg.finish(bottom + 2.0 * LETTER + 18.0)
}

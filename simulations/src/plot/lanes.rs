//! A lane per participant over virtual time: what it was doing and what happened to it.

use super::{Anchor, Axis, LETTER, Scale, Shape, Svg, colour, text_width};

/// A stretch of a lane.
pub struct Stretch {
    /// From, to, in seconds.
    pub span: (f64, f64),
    /// Its colour.
    pub fill: &'static str,
}

/// One lane.
pub struct Lane {
    /// Name at the left.
    pub name: String,
    /// What fills it.
    pub stretches: Vec<Stretch>,
    /// When it was cut off from the others.
    pub apart: Vec<(f64, f64)>,
    /// When it crashed.
    pub crashes: Vec<f64>,
}

/// A moment that concerns all: a line over all lanes with a name above it.
pub struct Milestone {
    /// When, in seconds.
    pub at: f64,
    /// Its name.
    pub name: String,
}

const LANE: f64 = 11.0;

/// Draws the lanes from top to bottom.
pub fn draw(
    width: f64,
    title: &str,
    lanes: &[Lane],
    milestones: &[Milestone],
    legend: &[(Option<Shape>, &str, &str)],
) -> String {
    let (mut svg, mut top) = Svg::titled(width, title);
    top += svg.legend(top, legend) + LETTER + 2.0;
    let widest = lanes
        .iter()
        .map(|lane| text_width(&lane.name, LETTER - 1.0));
    let left = 8.0 + widest.fold(0.0, f64::max);
    let bottom = top + LANE * lanes.len() as f64 + 4.0;
    let ends = lanes.iter().flat_map(|lane| &lane.stretches);
    let end = ends.map(|s| s.span.1).fold(0.0, f64::max);
    let time = Scale::new((0.0, end), (left + 2.0, width - 10.0));
    let axis = Axis {
        label: "virtual time (s)",
        format: super::number,
    };
    svg.horizontal_axis(&time, (top, bottom), &axis);
    for (nth, lane) in lanes.iter().enumerate() {
        let y = top + LANE * nth as f64 + 2.0;
        let name = (left - 2.0, y + LANE - 2.5);
        svg.text_of(name, Anchor::End, &lane.name, LETTER - 1.0, colour::BLACK);
        for stretch in &lane.stretches {
            let (from, to) = (time.at(stretch.span.0), time.at(stretch.span.1));
            svg.rect((from, y + 1.0), (to - from, LANE - 2.0), stretch.fill);
        }
        for (from, to) in &lane.apart {
            let (from, to) = (time.at(*from), time.at(*to));
            svg.line((from, y + LANE / 2.0), (to, y + LANE / 2.0), "#000000", 2.0);
        }
        for at in &lane.crashes {
            svg.mark(
                Shape::Diamond,
                (time.at(*at), y + LANE / 2.0),
                colour::VERMILION,
            );
        }
    }
    let mut free = left;
    for milestone in milestones {
        let x = time.at(milestone.at);
        svg.line((x, top - 3.0), (x, bottom), colour::BLACK, 1.0);
        let half = text_width(&milestone.name, LETTER) / 2.0;
        // A name that would touch the one before is left out; the line stays.
        if x - half >= free {
            let x = x.min(width - half);
            svg.text((x, top - 5.0), Anchor::Middle, &milestone.name);
            free = x + half + 3.0;
        }
    }
    svg.finish(bottom + 2.0 * LETTER + 16.0)
}

//! Horizontal bars: stacked to one side, or to both sides of a middle line.

use super::{Anchor, Axis, LETTER, NARROW, Scale, Svg, colour, text_width, wrapped};

/// One row of stacked pieces.
pub struct Row {
    /// Name at the left.
    pub name: String,
    /// Lengths to the left of the middle line, from it outwards; empty for one-sided bars.
    pub left: Vec<f64>,
    /// Lengths to the right.
    pub right: Vec<f64>,
    /// What stands below the bar; nothing when empty.
    pub note: String,
}

/// What the pieces mean.
pub struct Pieces<'a> {
    /// Colour and name of each, as stacked.
    pub legend: &'a [(&'a str, &'a str)],
    /// What is left and right of the middle line, when bars go both ways.
    pub sides: Option<(&'a str, &'a str)>,
}

const BAR: f64 = 11.0;
const NOTE: f64 = 13.0;

/// Draws the rows from top to bottom.
pub fn draw(title: &str, rows: &[Row], pieces: &Pieces<'_>, axis: &Axis<'_>) -> String {
    let (mut svg, mut top) = Svg::titled(NARROW, title);
    let legend: Vec<_> = (pieces.legend.iter())
        .map(|(fill, name)| (None, *fill, *name))
        .collect();
    top += svg.legend(top, &legend);
    if pieces.sides.is_some() {
        top += LETTER + 4.0;
    }
    let widest = rows.iter().map(|row| text_width(&row.name, LETTER));
    let left = 12.0 + widest.fold(0.0, f64::max);
    // Notes may run on to further lines.
    let room = NARROW - left - 14.0;
    let notes: Vec<Vec<String>> = (rows.iter())
        .map(|row| match row.note.is_empty() {
            true => Vec::new(),
            false => wrapped(&row.note, room, LETTER - 1.5),
        })
        .collect();
    let step = |notes: &Vec<String>| BAR + 4.0 + NOTE * notes.len() as f64;
    let bottom = top + notes.iter().map(step).sum::<f64>() + 4.0;
    let lengths = rows.iter().flat_map(|row| {
        let (left, right): (f64, f64) = (row.left.iter().sum(), row.right.iter().sum());
        [-left, right]
    });
    let scale = Scale::around_zero(lengths, (left + 4.0, NARROW - 24.0));
    svg.horizontal_axis(&scale, (top, bottom), axis);
    let middle = scale.at(0.0);
    let mut y = top + 3.0;
    for (row, notes) in rows.iter().zip(&notes) {
        svg.text((left - 2.0, y + BAR - 1.5), Anchor::End, &row.name);
        stack(&mut svg, &row.right, pieces, y, |sum, length| {
            (scale.at(sum), scale.at(sum + length))
        });
        stack(&mut svg, &row.left, pieces, y, |sum, length| {
            (scale.at(-sum - length), scale.at(-sum))
        });
        for (nth, line) in notes.iter().enumerate() {
            let at = (left + 6.0, y + BAR + NOTE * (nth as f64 + 1.0) - 3.0);
            svg.text_of(at, Anchor::Start, line, LETTER - 1.5, "#333333");
        }
        y += step(notes);
    }
    svg.line((middle, top), (middle, bottom), colour::BLACK, 1.0);
    if let Some((before, after)) = pieces.sides {
        svg.text((middle - 5.0, top - 4.0), Anchor::End, before);
        svg.text((middle + 5.0, top - 4.0), Anchor::Start, after);
    }
    svg.finish(bottom + 2.0 * LETTER + 16.0)
}

/// Draws one side's pieces; `ends` says where a piece after `sum` begins and ends.
fn stack(
    svg: &mut Svg,
    lengths: &[f64],
    pieces: &Pieces<'_>,
    y: f64,
    ends: impl Fn(f64, f64) -> (f64, f64),
) {
    let mut sum = 0.0;
    for (length, (fill, _)) in lengths.iter().zip(pieces.legend) {
        let (from, to) = ends(sum, *length);
        svg.rect((from, y), (to - from, BAR), fill);
        sum += length;
    }
}

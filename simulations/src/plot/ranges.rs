//! One row per name: a value and the interval around it, beside a common zero where the axis has one.

use super::{Anchor, Axis, LETTER, NARROW, Scale, Shape, Svg, colour, text_width};

/// One row.
pub struct Row {
    /// Name at the left.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Lower and upper end of its interval.
    pub range: (f64, f64),
    /// Drawn as the exception: another colour and another mark.
    pub stands_out: bool,
}

/// Rows are this high, so that names do not touch.
const ROW: f64 = 15.0;
/// Names wider than this share of the figure stand above their rows.
const WIDEST_NAME: f64 = 0.35;

/// Draws the rows from top to bottom. With `legend` empty no legend is drawn.
pub fn draw(
    title: &str,
    rows: &[Row],
    legend: &[(Option<Shape>, &str, &str)],
    axis: &Axis<'_>,
) -> String {
    let (mut svg, mut top) = Svg::titled(NARROW, title);
    if !legend.is_empty() {
        top += svg.legend(top, legend);
    }
    let widest = rows.iter().map(|row| text_width(&row.name, LETTER));
    let widest = widest.fold(0.0, f64::max);
    let beside = widest <= NARROW * WIDEST_NAME;
    let (left, step) = match beside {
        true => (12.0 + widest, ROW),
        false => (8.0, 2.0 * ROW),
    };
    let bottom = top + step * rows.len() as f64 + 6.0;
    let ends = rows.iter().flat_map(|r| [r.value, r.range.0, r.range.1]);
    let place = (left + 6.0, NARROW - 18.0);
    let scale =
        Scale::logarithmic(ends.clone(), place).unwrap_or_else(|| Scale::around_zero(ends, place));
    let label = scale.label(axis.label);
    let axis = Axis {
        label: &label,
        format: axis.format,
    };
    svg.horizontal_axis(&scale, (top, bottom), &axis);
    if !scale.is_log() {
        let zero = scale.at(0.0);
        svg.line((zero, top), (zero, bottom), colour::BLACK, 1.0);
    }
    for (nth, row) in rows.iter().enumerate() {
        let y = top + step * (nth as f64 + 1.0) - ROW / 2.0 + 3.0;
        match beside {
            true => svg.text((left - 2.0, y + 4.0), Anchor::End, &row.name),
            false => svg.text((left + 10.0, y - 8.0), Anchor::Start, &row.name),
        }
        interval(&mut svg, &scale, row, y);
    }
    svg.finish(bottom + 2.0 * LETTER + 16.0)
}

fn interval(svg: &mut Svg, scale: &Scale, row: &Row, y: f64) {
    let (fill, shape) = match row.stands_out {
        true => (colour::VERMILION, Shape::Diamond),
        false => (colour::BLUE, Shape::Circle),
    };
    let (low, high) = (scale.at(row.range.0), scale.at(row.range.1));
    svg.line((low, y), (high, y), fill, 1.4);
    for end in [low, high] {
        svg.line((end, y - 3.0), (end, y + 3.0), fill, 1.4);
    }
    svg.mark(shape, (scale.at(row.value), y), fill);
}

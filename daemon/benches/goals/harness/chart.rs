//! Curves in one SVG: nothing behind them, and colours that differ on white and on black.

use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const COLUMNS: usize = 3;

/// The size of one panel, in pixels.
const PANEL: (u32, u32) = (320, 230);

const INK: RGBColor = RGBColor(128, 136, 144);

/// Colours of the curves, soramode's first.
const COLOURS: [RGBColor; 2] = [RGBColor(47, 129, 247), RGBColor(224, 108, 52)];

const FONT: (&str, u32) = ("sans-serif", 13);

/// Contents of one picture, over a common axis.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// One or two curves.
    pub(crate) curves: Vec<Vec<(f64, f64)>>,
}

/// Division of both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear division from zero.
    Even,
    /// Each step ten times the one before.
    Tens,
}

/// Draws the panels, and what the curves are called.
pub(crate) fn draw(file: &Path, panels: &[Panel], names: &[&str], scale: Scale) {
    let rows = (panels.len() + usize::from(names.len() > 1)).div_ceil(COLUMNS);
    let size = (
        PANEL.0 * u32::try_from(COLUMNS).unwrap(),
        PANEL.1 * u32::try_from(rows).unwrap(),
    );
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let areas = root.split_evenly((rows, COLUMNS));
        for (area, panel) in areas.iter().zip(panels) {
            draw_panel(area, panel, scale);
        }
        if names.len() > 1 {
            draw_legend(&areas[panels.len()], names);
        }
        root.present().unwrap();
    }
    fs::write(file, text).unwrap();
}

fn draw_panel(area: &Area<'_>, panel: &Panel, scale: Scale) {
    let curves: Vec<Vec<(f64, f64)>> = panel
        .curves
        .iter()
        .map(|curve| {
            curve
                .iter()
                .map(|(x, y)| (scale.place(*x), scale.place(*y)))
                .collect()
        })
        .collect();
    let points = || curves.iter().flatten();
    let (across, up) = (
        scale.range(points().map(|point| point.0)),
        scale.span(points().map(|point| point.1)),
    );
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, FONT.into_font().color(&INK))
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(44)
        .build_cartesian_2d(across, up)
        .unwrap();
    configure_mesh(&mut chart, scale);
    for (curve, colour) in curves.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(
                curve.iter().copied(),
                colour.stroke_width(2),
            ))
            .unwrap();
        if scale == Scale::Tens {
            chart
                .draw_series(
                    curve
                        .iter()
                        .map(|point| Circle::new(*point, 3, colour.filled())),
                )
                .unwrap();
        }
    }
}

fn configure_mesh(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    scale: Scale,
) {
    let label = |value: &f64| scale.label(*value);
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.3))
        .axis_style(INK.mix(0.6));
    mesh.label_style((FONT.0, FONT.1 - 2).into_font().color(&INK));
    mesh.x_labels(4)
        .y_labels(5)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()
        .unwrap();
}

fn draw_legend(area: &Area<'_>, names: &[&str]) {
    for ((name, colour), line) in names.iter().zip(COLOURS).zip(0..) {
        let top = 80 + 28 * line;
        area.draw(&PathElement::new(
            [(60, top), (90, top)],
            colour.stroke_width(3),
        ))
        .unwrap();
        area.draw(&Text::new(
            (*name).to_owned(),
            (100, top - 7),
            FONT.into_font().color(&INK),
        ))
        .unwrap();
    }
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Even => value,
            Self::Tens => value.log10(),
        }
    }

    fn range(self, values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        match self {
            Self::Even => 0.0..high.max(f64::MIN_POSITIVE),
            Self::Tens => low..high,
        }
    }

    /// With room above, and whole tens.
    fn span(self, values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
        let range = self.range(values);
        match self {
            Self::Even => 0.0..range.end * 1.2,
            Self::Tens => range.start.floor()..range.end.ceil().max(range.start.floor() + 1.0),
        }
    }

    fn label(self, place: f64) -> String {
        let value = match self {
            Self::Even => place,
            // Between two tens there is no line worth a number.
            Self::Tens if (place - place.round()).abs() > 0.01 => return String::new(),
            Self::Tens => 10_f64.powf(place.round()),
        };
        match value {
            1e6.. => format!("{} M", value / 1e6),
            1e3.. => format!("{} k", value / 1e3),
            _ => format!("{}", (value * 1e4).round() / 1e4),
        }
    }
}

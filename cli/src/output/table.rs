//! A table that fits: columns are left out and values cut so that no line is wider than the terminal.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::cell::Cell;
use super::color::Emphasis;
use super::column::{Column, Kind};
use super::{cells, escape};

/// Cells between two columns.
const GAP: usize = 2;

/// Layout of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Width of the terminal; `None` for any width.
    pub(super) width: Option<usize>,
    pub(super) has_header: bool,
    pub(super) uses_color: bool,
}

/// Collected rows: a column is as wide as its widest value.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

/// A cell, escaped.
#[derive(Debug)]
struct Value {
    long: String,
    short: Option<String>,
    emphasis: Option<Emphasis>,
}

/// A cell, wrapped.
struct Fitted<'v> {
    lines: Vec<Cow<'v, str>>,
    emphasis: Option<Emphasis>,
}

/// A shown column and its width.
#[derive(Clone, Copy, Debug)]
struct Shown {
    place: usize,
    kind: Kind,
    order: u8,
    comfortable: usize,
    /// Width without cutting.
    natural: usize,
    width: usize,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, cells: &[Cell<'_>]) {
        let value = |cell: &Cell<'_>| Value {
            long: escape::escape(&cell.text).into_owned(),
            short: cell
                .short
                .as_deref()
                .map(|short| escape::escape(short).into_owned()),
            emphasis: cell.emphasis,
        };
        self.rows.push(cells.iter().map(value).collect());
    }

    pub(super) fn lines(&self, shape: Shape) -> Vec<String> {
        let Some(width) = shape.width else {
            return self.print(&self.measure(Form::Long), Form::Long, shape);
        };
        let long = self.measure(Form::Long);
        if total(&long, |column| column.natural) <= width {
            return self.print(&long, Form::Long, shape);
        }
        let mut shown = self.measure(Form::Short);
        while total(&shown, Shown::comfortable) > width {
            let Some(least) = shown
                .iter()
                .enumerate()
                .filter(|(_, it)| it.order > 0)
                .max_by_key(|(_, it)| it.order)
            else {
                break;
            };
            shown.remove(least.0);
        }
        shrink(&mut shown, width);
        self.print(&shown, Form::Short, shape)
    }

    fn measure(&self, form: Form) -> Vec<Shown> {
        let measured = self.columns.iter().enumerate().map(|(place, column)| {
            let widest = self
                .rows
                .iter()
                .filter_map(|row| row.get(place))
                .map(|value| cells::width(form.of(value)))
                .max();
            let natural = widest.unwrap_or_default().max(cells::width(column.name));
            // A column without values is left out first.
            let order = if widest == Some(0) && column.order > 0 {
                u8::MAX
            } else {
                column.order
            };
            Shown {
                place,
                kind: column.kind,
                order,
                comfortable: column.comfortable,
                natural,
                width: natural,
            }
        });
        measured.collect()
    }

    fn print(&self, shown: &[Shown], form: Form, shape: Shape) -> Vec<String> {
        let emphasis = |emphasis: Option<Emphasis>| emphasis.filter(|_| shape.uses_color);
        let header = shown.iter().map(|it| {
            let name = self
                .columns
                .get(it.place)
                .map_or(Cow::Borrowed(""), |column| {
                    cells::cut(column.name, it.width)
                });
            Fitted {
                lines: vec![name],
                emphasis: emphasis(Some(Emphasis::Heading)),
            }
        });
        let header = shape
            .has_header
            .then(|| line_up(shown, &header.collect::<Vec<_>>()));
        let alike: Vec<BTreeSet<String>> = shown.iter().map(|it| self.alike(it, form)).collect();
        let rows = self.rows.iter().map(|row| {
            let columns = shown.iter().zip(&alike);
            let values = columns.map(|(it, alike)| match row.get(it.place) {
                Some(value) => Fitted {
                    lines: it.fit(form.of(value), alike),
                    emphasis: emphasis(value.emphasis),
                },
                None => Fitted {
                    lines: Vec::new(),
                    emphasis: None,
                },
            });
            let values: Vec<Fitted<'_>> = values.collect();
            line_up(shown, &values)
        });
        header.into_iter().chain(rows).flatten().collect()
    }
}

impl Table {
    /// Returns the cut values of a column of ids that stand for more than one id.
    fn alike(&self, column: &Shown, form: Form) -> BTreeSet<String> {
        let mut ids: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        if column.kind == Kind::Id && (2..column.natural).contains(&column.width) {
            for value in self.rows.iter().filter_map(|row| row.get(column.place)) {
                let cut = cells::cut_middle(form.of(value), column.width);
                ids.entry(cut.into_owned())
                    .or_default()
                    .insert(form.of(value));
            }
        }
        let alike = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
        alike.map(|(cut, _)| cut).collect()
    }
}

/// The form of the values.
#[derive(Clone, Copy, Debug)]
enum Form {
    Long,
    Short,
}

impl Form {
    fn of(self, value: &Value) -> &str {
        match self {
            Self::Long => &value.long,
            Self::Short => value.short.as_ref().unwrap_or(&value.long),
        }
    }
}

impl Shown {
    fn comfortable(&self) -> usize {
        match self.kind {
            Kind::Word => self.natural,
            Kind::Id | Kind::Text => self.natural.min(self.comfortable),
        }
    }

    /// Cuts or wraps a value. An id that would look like another one is wrapped.
    fn fit<'v>(&self, value: &'v str, alike: &BTreeSet<String>) -> Vec<Cow<'v, str>> {
        match self.kind {
            Kind::Word => vec![cells::cut(value, self.width)],
            Kind::Id => match cells::cut_middle(value, self.width) {
                cut if alike.contains(cut.as_ref()) => cells::divided(value, self.width),
                cut => vec![cut],
            },
            Kind::Text => cells::wrap(value, self.width)
                .into_iter()
                .map(Cow::Owned)
                .collect(),
        }
    }
}

/// Returns the width of a line.
fn total(shown: &[Shown], cells: impl Fn(&Shown) -> usize) -> usize {
    shown.iter().map(cells).sum::<usize>() + GAP * shown.len().saturating_sub(1)
}

/// Takes cells from the widest column, ids and text before words, until the line fits.
fn shrink(shown: &mut [Shown], width: usize) {
    /// Least useful width of a value.
    const MIN: usize = 8;
    for _ in width..total(shown, |it| it.width) {
        let takes = |it: &&mut Shown| it.kind != Kind::Word && it.width > MIN;
        let widest = match shown.iter_mut().filter(takes).max_by_key(|it| it.width) {
            Some(widest) => Some(widest),
            None => shown.iter_mut().max_by_key(|it| it.width),
        };
        if let Some(widest) = widest {
            widest.width = widest.width.saturating_sub(1);
        }
    }
}

/// Puts wrapped values side by side.
fn line_up(shown: &[Shown], values: &[Fitted<'_>]) -> Vec<String> {
    let height = values
        .iter()
        .map(|value| value.lines.len())
        .max()
        .unwrap_or_default();
    let line = |number: usize| {
        let row = shown.iter().zip(values).map(|(it, value)| {
            let text = value.lines.get(number).map_or("", AsRef::as_ref);
            let gap = it.width.saturating_sub(cells::width(text));
            match value.emphasis.filter(|_| !text.is_empty()) {
                Some(emphasis) => format!("{}{:gap$}", emphasis.on(text), ""),
                None => format!("{text}{:gap$}", ""),
            }
        });
        row.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::Mode;

    use super::*;

    const COLUMNS: [Column; 5] = [
        Column::id("CHANNEL"),
        Column::id("SESSION").optional(3),
        Column::word("SINCE").optional(1),
        Column::word("STATE").optional(2),
        Column::text("REASON"),
    ];

    fn table(channel: &str, reason: &str) -> Table {
        let mut table = Table::new(&COLUMNS);
        let since = Cell {
            text: "2026-01-02 03:04:05 +09:00 (1 min ago)".into(),
            short: Some("1 min ago".to_owned()),
            emphasis: None,
        };
        table.add(&[
            channel.into(),
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ".into(),
            since,
            "live".into(),
            reason.into(),
        ]);
        table
    }

    fn lines(table: &Table, width: usize) -> Vec<String> {
        table.lines(Shape {
            width: Some(width),
            has_header: true,
            uses_color: false,
        })
    }

    #[test]
    fn a_colour_takes_no_cells_and_is_left_out_where_nothing_is_painted() {
        let mut table = Table::new(&[Column::word("MODE"), Column::id("CHANNEL")]);
        table.add(&[Mode::Normal.into(), "会議室".into()]);
        table.add(&[
            Mode::BlockNewSession.into(),
            Cell::from("spam").colored(Some(Emphasis::Bad)),
        ]);
        let plain = table.lines(Shape {
            width: Some(80),
            has_header: true,
            uses_color: false,
        });
        let painted = table.lines(Shape {
            width: Some(80),
            has_header: true,
            uses_color: true,
        });
        assert!(
            painted
                .iter()
                .zip(&plain)
                .all(|(painted, plain)| painted.contains('\u{1b}') && painted != plain)
        );
        let stripped: Vec<String> = painted
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(stripped, plain);
    }

    #[test]
    fn a_table_that_fits_is_uncut() {
        let wide = table("spam", "why").lines(Shape {
            width: None,
            has_header: true,
            uses_color: false,
        });
        assert_eq!(
            wide.first().unwrap(),
            "CHANNEL  SESSION                     SINCE                                   STATE  REASON"
        );
        assert_eq!(lines(&table("spam", "why"), 200), wide);
        assert_eq!(
            table("spam", "why").lines(Shape {
                width: None,
                has_header: false,
                uses_color: false
            }),
            wide.get(1..).unwrap()
        );
    }

    #[test]
    fn times_are_shortened_then_columns_left_out_and_then_ids_cut() {
        assert_eq!(
            lines(&table("spam", "why"), 80)[1],
            "spam     ABCDEFGHIJKLMNOPQRSTUVWXYZ  1 min ago  live   why"
        );
        assert_eq!(
            lines(&table("spam", "why"), 50)[1],
            "spam     1 min ago  live   why"
        );
        assert_eq!(
            lines(
                &table("a-channel-with-a-very-long-name-0123456789", "why"),
                44
            )[1],
            "a-channel-with-a-v…g-name-0123456789  why"
        );
    }

    #[test]
    fn two_ids_are_not_cut_alike() {
        let mut table = Table::new(&[Column::id("CHANNEL"), Column::word("N")]);
        for (id, number) in [
            ("a-channel-1-with-a-long-name", 1_u64),
            ("a-channel-2-with-a-long-name", 2),
            ("another-channel-with-a-long-name", 3),
        ] {
            table.add(&[id.into(), number.into()]);
        }
        let wanted = [
            "CHANNEL           N",
            "a-channel-1-with  1",
            "-a-long-name",
            "a-channel-2-with  2",
            "-a-long-name",
            "another-…ng-name  3",
        ];
        assert_eq!(lines(&table, 19), wanted);
    }

    #[test]
    fn a_sentence_goes_on_below_itself() {
        let lines = lines(
            &table("会議室", "the kernel is upgraded tonight, and the disk too"),
            50,
        );
        let wanted = [
            "CHANNEL  SINCE      REASON",
            "会議室   1 min ago  the kernel is upgraded",
            "                    tonight, and the disk too",
        ];
        assert_eq!(lines, wanted);
    }

    /// Returns a text of up to 60 characters: from ids, wide and combining characters, and control characters.
    fn random_text(random: &mut impl FnMut(usize) -> usize) -> String {
        const PIECES: [&str; 18] = [
            "a",
            "channel",
            "-",
            " ",
            "会議室",
            "東京",
            "ｶﾞ",
            "🎥",
            "👨\u{200d}👩\u{200d}👧",
            "👍🏽",
            "🇯🇵",
            "❤\u{fe0f}",
            "e\u{301}",
            "\u{300}\u{301}\u{302}",
            "ᄀᄀᄀᄀᄀᄀᄀ",
            "क\u{93e}\u{93e}\u{93e}",
            "\u{1b}[31m",
            "\u{202e}\n\t\u{9b}",
        ];
        (0..random(14))
            .map(|_| PIECES[random(PIECES.len())])
            .collect()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        // A xorshift generator: any fixed sequence is fine.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        for _ in 0..3_000 {
            let columns: Vec<Column> = (0..=random(9))
                .map(|_| {
                    [Column::id, Column::word, Column::text][random(3)](
                        ["CHANNEL", "MODE", "IN ALL"][random(3)],
                    )
                    .optional(u8::try_from(random(6)).unwrap())
                })
                .collect();
            let mut table = Table::new(&columns);
            for _ in 0..random(4) {
                let cells: Vec<Cell<'_>> = columns
                    .iter()
                    .map(|_| random_text(&mut random).into())
                    .collect();
                table.add(&cells);
            }
            let width = 40 + random(161);
            for line in lines(&table, width) {
                assert!(cells::width(&line) <= width, "{width}: {line:?}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn an_empty_column_is_left_out_first() {
        let mut table = Table::new(&COLUMNS);
        table.add(&[
            "spam".into(),
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ".into(),
            "1 min ago".into(),
            "".into(),
            "because".into(),
        ]);
        assert_eq!(
            lines(&table, 60)[0],
            "CHANNEL  SESSION                     SINCE      REASON"
        );
    }
}

//! Pages of the manual's section 7, which are written as Markdown beside them and read by `man` as roff. What Markdown they may use is
//! what they do use; anything else fails the test that makes the page.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of another's enums a page may use a part"
)]

mod roff;
mod table;

use std::mem::take;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use roff::{escape, start_line, upper_case};
use soramode::MANUAL_DATE;
use table::Table;

/// Spaces before a command or an example, beyond the text's own.
const EXAMPLE_INDENT: &str = "2";

/// The page that a text is, in section 7. Its heading is the page's name and, after a colon, what it is about.
pub(crate) fn page(markdown: &str) -> String {
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.take(event);
    }
    page.roff
}

/// A page while it is written.
#[derive(Default)]
struct Page {
    roff: String,
    /// The paragraph, heading or cell that is being read, in roff.
    text: String,
    table: Option<Table>,
    is_item: bool,
    is_code: bool,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.is_code => self.code(&text),
            Event::Text(text) => self.text.push_str(&escape(&text)),
            Event::Code(code) => self.text.extend(["\\fB", &escape(&code), "\\fR"]),
            Event::SoftBreak => self.text.push('\n'),
            other => panic!("a page has no {other:?}"),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Paragraph if self.is_item => {}
            Tag::Paragraph => self.begin_paragraph(),
            Tag::CodeBlock(CodeBlockKind::Fenced(CowStr::Borrowed(language))) => {
                assert!(!language.is_empty(), "a block of code says what it is");
                self.begin_paragraph();
                self.line(&format!(".RS {EXAMPLE_INDENT}\n.EX"));
                self.is_code = true;
            }
            Tag::Item => self.is_item = true,
            Tag::Table(columns) => self.table = Some(Table::new(columns.len())),
            Tag::Strong => self.text.push_str("\\fB"),
            Tag::Emphasis => self.text.push_str("\\fI"),
            Tag::Heading { .. }
            | Tag::List(None)
            | Tag::TableHead
            | Tag::TableRow
            | Tag::TableCell => {}
            other => panic!("a page has no {other:?}"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph => self.paragraph(),
            TagEnd::CodeBlock => {
                self.is_code = false;
                self.line(".EE\n.RE");
            }
            TagEnd::Item => {
                if !self.text.is_empty() {
                    self.line(".IP \\(bu 2");
                    self.paragraph();
                }
                self.is_item = false;
            }
            TagEnd::TableCell => {
                let cell = take(&mut self.text);
                self.table.as_mut().unwrap().cell(cell);
            }
            TagEnd::Table => {
                let table = self.table.take().unwrap().roff();
                self.begin_paragraph();
                self.line(&table);
            }
            TagEnd::Strong | TagEnd::Emphasis => self.text.push_str("\\fR"),
            TagEnd::List(false) | TagEnd::TableHead | TagEnd::TableRow => {}
            other => panic!("a page has no {other:?}"),
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let heading = take(&mut self.text);
        match level {
            HeadingLevel::H1 => {
                let (name, about) = heading
                    .split_once(": ")
                    .expect("a page's heading is its name and what it is about");
                let title = name.replace("\\-", "-").to_uppercase();
                // Preprocessed by tbl; words are not broken at the ends of lines, so that they can be searched for.
                self.line(&format!(
                    "'\\\" t\n.nr HY 0\n.TH {title} 7 {MANUAL_DATE} soramode soramode\n.nh\n.ad l"
                ));
                self.line(&format!(".SH NAME\n{name} \\- {about}\n.SH DESCRIPTION"));
            }
            HeadingLevel::H2 => self.line(&format!(".SH {}", upper_case(&heading))),
            HeadingLevel::H3 => self.line(&format!(".SS {heading}")),
            other => panic!("a page has no {other:?}"),
        }
    }

    /// A heading begins one by itself.
    fn begin_paragraph(&mut self) {
        let last = self.roff.lines().last().unwrap_or_default();
        if ![".SH ", ".SS "]
            .iter()
            .any(|heading| last.starts_with(heading))
        {
            self.line(".PP");
        }
    }

    fn paragraph(&mut self) {
        for line in take(&mut self.text).lines() {
            self.line(&start_line(line));
        }
    }

    fn code(&mut self, code: &str) {
        for line in code.lines() {
            self.line(&start_line(&escape(line)));
        }
    }

    fn line(&mut self, line: &str) {
        self.roff.push_str(line);
        self.roff.push('\n');
    }
}

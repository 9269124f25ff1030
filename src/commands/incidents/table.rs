//! Incidents as rows: what `list` and `watch` print.
//!
//! What enters: incidents as the API tells them, and where they are printed. What leaves: a head, and for each incident the
//! columns BEGAN, LASTED, STATE, WORST, RECORDS (of them anomalous), COURSE, SERVICES, ID and LEADING LINE; before them, while
//! watching, when something happened (TOLD), and what as the state. Promises: these columns in this order everywhere; from 80
//! columns on no line is wider than the terminal, and where one has no room for all of it ID and LEADING LINE go onto a second;
//! without a terminal it is always one line, nothing is cut, dates are whole and what is not known is `-`. Absent on purpose:
//! which incidents.

use std::io::{self, Write};

use anstyle::Style;

use super::words::{self, FAINT, STRONG};
use crate::{
    commands::terminal::{Terminal, columns, harmless, left, one_line, right},
    edge::api::proto::{Happened, Incident, KeyRecord},
};

/// Columns of the bar.
const COURSE: usize = 8;
/// Columns of an id.
const ID: usize = 22;
/// Columns of services where they are not the last of a line.
const SERVICES: usize = 20;
/// A single line needs as much room for the leading line.
const LEAST_LINE: usize = 32;
/// Columns of RECORDS where they are not known beforehand: `1234 (1200)`.
const RECORDS: usize = 11;
/// In front of a second line.
const INDENT: usize = 2;

/// Rows of incidents.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    terminal: Terminal,
    is_watching: bool,
    began: usize,
    records: usize,
    services: usize,
    is_one_line: bool,
}

/// Something that happened to an incident.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When.
    pub time: Option<&'a prost_types::Timestamp>,
    /// What.
    pub happened: Happened,
}

/// A cell of a row: what it says, how wide it is made, how it looks.
struct Cell {
    text: String,
    style: Style,
}

impl Table {
    /// For these incidents.
    pub fn of(incidents: &[Incident], terminal: Terminal) -> Self {
        let widest = |text: &dyn Fn(&Incident) -> String| incidents.iter().map(|it| columns(&text(it))).max();
        let records = widest(&records).unwrap_or_default().max("RECORDS".len());
        let services = widest(&|incident| services(incident, usize::MAX)).unwrap_or_default();
        Self::new(terminal, false, records, services)
    }

    /// For those to come.
    pub fn to_come(terminal: Terminal) -> Self {
        Self::new(terminal, true, RECORDS, SERVICES)
    }

    fn new(terminal: Terminal, is_watching: bool, records: usize, services: usize) -> Self {
        let is_terminal = terminal.columns.is_some();
        // The year is in the id; who watches sees the day go by.
        let began = match (is_terminal, is_watching) {
            (true, true) => "10:00:00",
            (true, false) => "11-18 10:00:00",
            (false, _) => "2024-11-18 10:00:00",
        };
        let services = if is_terminal {
            SERVICES
        } else {
            services.max("SERVICES".len())
        };
        let mut table = Self {
            terminal,
            is_watching,
            began: began.len(),
            records,
            services,
            is_one_line: true,
        };
        let before_line = table.before_services() + services + 2 + ID + 2;
        table.is_one_line = terminal.room(before_line) >= LEAST_LINE;
        table
    }

    /// Columns in front of SERVICES.
    fn before_services(&self) -> usize {
        let told = if self.is_watching { self.began + 2 } else { 0 };
        told + self.began + 2 + 7 + 2 + 6 + 2 + 5 + 2 + self.records + 2 + COURSE + 2
    }

    /// The names of the columns.
    pub fn head(self, out: &mut impl Write) -> io::Result<()> {
        let cell = |text: &str| Cell {
            text: text.to_owned(),
            style: FAINT,
        };
        let told = if self.terminal.columns.is_some() {
            "TOLD"
        } else {
            "TOLD (UTC)"
        };
        let began = if self.began < "BEGAN (UTC)".len() {
            "BEGAN"
        } else {
            "BEGAN (UTC)"
        };
        let cells = [told, began, "LASTED", "STATE", "WORST", "RECORDS", "COURSE"].map(cell);
        self.line(out, cells, cell("SERVICES"), cell("ID"), cell("LEADING LINE"))
    }

    /// A head and a row each.
    pub fn print(self, out: &mut impl Write, incidents: &[Incident]) -> io::Result<()> {
        self.head(out)?;
        incidents.iter().try_for_each(|incident| self.row(out, incident, None))
    }

    /// An incident as it stands, or after something happened to it.
    pub fn row(self, out: &mut impl Write, incident: &Incident, event: Option<Event<'_>>) -> io::Result<()> {
        let is_terminal = self.terminal.columns.is_some();
        let time = match (is_terminal, self.is_watching) {
            (true, true) => words::time_of_day,
            (true, false) => words::day_and_time,
            (false, _) => words::time,
        };
        let told = event.map_or_else(String::new, |event| time(event.time));
        let (state, state_style) = match event {
            Some(event) => words::happened(event.happened),
            None => (words::state(incident), words::state_style(incident)),
        };
        let worst = incident.worst.as_ref().map_or(0, |record| record.severity_number);
        let (worst, worst_style) = words::severity(worst);
        let course = incident.course.as_ref().map_or(&[][..], |course| &course.records);
        let cells = [
            (told, Style::new()),
            (time(incident.first_time.as_ref()), Style::new()),
            (words::lasted(incident), Style::new()),
            (state.to_owned(), state_style),
            (worst.to_owned(), worst_style),
            (records(incident), Style::new()),
            (words::bar(course, COURSE), Style::new()),
        ];
        let known = |text: String| match text.as_str() {
            "" if !is_terminal => "-".to_owned(),
            _ => text,
        };
        let cells = cells.map(|(text, style)| Cell {
            text: known(text),
            style,
        });
        let room = if self.is_one_line {
            self.services
        } else {
            self.terminal.room(self.before_services())
        };
        let room = if is_terminal { room } else { usize::MAX };
        let services = Cell {
            text: known(services(incident, room)),
            style: STRONG,
        };
        let id = Cell {
            text: harmless(&incident.id),
            style: FAINT,
        };
        let before_line = match self.is_one_line {
            true => self.before_services() + self.services + 2 + ID + 2,
            false => INDENT + ID + 2,
        };
        let mut leading = incident.leading_edge.as_ref().map_or_else(String::new, said);
        if !incident.merged_into.is_empty() {
            leading = format!("→ {}: {leading}", incident.merged_into);
        }
        let line = Cell {
            text: known(one_line(&leading, self.terminal.room(before_line))),
            style: Style::new(),
        };
        self.line(out, cells, services, id, line)
    }

    fn line(self, out: &mut impl Write, cells: [Cell; 7], services: Cell, id: Cell, line: Cell) -> io::Result<()> {
        let is_right = [false, false, true, false, false, true, false];
        let widths = [self.began, self.began, 7, 6, 5, self.records, COURSE];
        let mut text = String::new();
        let skipped = usize::from(!self.is_watching);
        for ((cell, wide), is_right) in cells.iter().zip(widths).zip(is_right).skip(skipped) {
            let padded = if is_right {
                right(&cell.text, wide)
            } else {
                left(&cell.text, wide)
            };
            text.push_str(&self.terminal.paint(cell.style, &padded));
            text.push_str("  ");
        }
        let paint = |cell: &Cell| self.terminal.paint(cell.style, &cell.text);
        if self.is_one_line {
            let (services, services_style) = (left(&services.text, self.services), services.style);
            text.push_str(&self.terminal.paint(services_style, &services));
            text.push_str("  ");
        } else {
            text.push_str(&paint(&services));
            text.push('\n');
            text.push_str(&" ".repeat(INDENT));
        }
        text.push_str(&self.terminal.paint(id.style, &left(&id.text, ID)));
        text.push_str("  ");
        text.push_str(&paint(&line));
        // In one piece, so that it is whole or not there when it is stopped.
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        writeln!(out, "{}", lines.join("\n"))
    }
}

/// What a record says; where texts are not kept, which template it is of.
pub fn said(record: &KeyRecord) -> String {
    match record.text.as_str() {
        "" if record.template_key.is_empty() => String::new(),
        "" => format!("template {}", record.template_key),
        text => text.to_owned(),
    }
}

/// `58 (46)`: of them anomalous.
fn records(incident: &Incident) -> String {
    format!("{} ({})", incident.records, incident.anomalous_records)
}

/// Its services in order of appearance, whole names as far as there is room, and how many more there are.
fn services(incident: &Incident, room: usize) -> String {
    let in_order = incident.service_counts.iter().map(|count| count.service.as_str());
    let sorted = incident.services.iter().map(String::as_str);
    let names: Vec<&str> = if incident.service_counts.is_empty() {
        sorted.collect()
    } else {
        in_order.collect()
    };
    let tenant = match incident.tenant.as_str() {
        "" => String::new(),
        tenant => format!("{tenant}:"),
    };
    let unlisted = if incident.records_of_other_services > 0 {
        ",…"
    } else {
        ""
    };
    let told = |count: usize| {
        let (shown, more) = (names.get(..count).unwrap_or(&names), names.len().saturating_sub(count));
        let more = if more > 0 { format!(",+{more}") } else { String::new() };
        one_line(&format!("{tenant}{}{more}{unlisted}", shown.join(",")), usize::MAX)
    };
    let fits = (1..=names.len()).rev().map(told).find(|text| columns(text) <= room);
    fits.unwrap_or_else(|| one_line(&told(names.len().min(1)), room))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::made, *};
    use crate::engine::view::is_obeyed;

    fn terminal(columns: Option<usize>) -> Terminal {
        Terminal {
            columns,
            has_colors: false,
        }
    }

    fn listed(terminal: Terminal) -> String {
        let incidents = [made::evil(), made::whole(), made::plain()];
        let mut out = Vec::new();
        Table::of(&incidents, terminal).print(&mut out, &incidents).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn watched(terminal: Terminal) -> String {
        let mut out = Vec::new();
        let table = Table::to_come(terminal);
        table.head(&mut out).unwrap();
        table.row(&mut out, &made::plain(), None).unwrap();
        for (happened, incident) in [
            (Happened::Opened, made::whole()),
            (Happened::Merged, made::evil()),
            (Happened::Closed, made::plain()),
        ] {
            let change = made::change(happened, incident);
            let event = Event {
                time: change.time.as_ref(),
                happened: change.happened(),
            };
            table
                .row(&mut out, change.incident.as_ref().unwrap(), Some(event))
                .unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_have_the_same_columns_on_two_lines_or_one() {
        let narrow = "\
BEGAN (UTC)      LASTED  STATE   WORST      RECORDS  COURSE    SERVICES
  ID                      LEADING LINE
11-18 10:00:03      +0s  merged  FATAL        2 (2)            acme�2J:支付�[31m
  20241118-100003-hy1e9f  → 20241118-100000-k7f3qa: �[2J支付失败了：磁盘空间不…
11-18 09:59:58   +3m10s  open    FATAL      58 (46)  ▂▇▇▂      postgresql,shop
  20241118-100000-k7f3qa  could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<…
11-18 09:30:00   +2h05m  closed         1234 (1200)            api,cart,+3,…
  20241118-093000-bjsz0q  template 47bae531ad98620d
";
        let listed_narrow = listed(terminal(Some(80)));
        assert_eq!(listed_narrow, narrow, "{listed_narrow}");
        let wider = listed(terminal(Some(120)));
        let line = "  20241118-100000-k7f3qa  could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<n>\": No space left on device HINT: Check…";
        assert_eq!(wider.lines().nth(5), Some(line), "{wider}");
        let one_line = listed(terminal(Some(150)));
        let row = "11-18 09:59:58   +3m10s  open    FATAL      58 (46)  ▂▇▇▂      postgresql,shop       20241118-100000-k7f3qa  \
                   could not extend file \"pg_tblspc/<n>/PG_…";
        assert_eq!(one_line.lines().nth(2), Some(row), "{one_line}");
        assert_eq!(one_line.lines().count(), 4, "{one_line}");
        let uncut = listed(terminal(None));
        let row = "2024-11-18 09:30:00   +2h05m  closed  -      1234 (1200)  -         api,cart,nginx,payments,warehouse,…  \
                   20241118-093000-bjsz0q  template 47bae531ad98620d";
        assert_eq!(uncut.lines().nth(3), Some(row), "{uncut}");
    }

    #[test]
    fn what_happens_stands_in_the_columns_of_the_list() {
        let narrow = "\
TOLD      BEGAN      LASTED  STATE   WORST      RECORDS  COURSE    SERVICES
  ID                      LEADING LINE
          09:30:00   +2h05m  closed         1234 (1200)            api,cart,+3,…
  20241118-093000-bjsz0q  template 47bae531ad98620d
10:03:20  09:59:58   +3m10s  opened  FATAL      58 (46)  ▂▇▇▂      postgresql,+1
  20241118-100000-k7f3qa  could not extend file \"pg_tblspc/<n>/PG_<n>_<n>/<n>/<…
10:03:20  10:00:03      +0s  merged  FATAL        2 (2)            acme�2J:支付…
  20241118-100003-hy1e9f  → 20241118-100000-k7f3qa: �[2J支付失败了：磁盘空间不…
10:03:20  09:30:00   +2h05m  closed         1234 (1200)            api,cart,+3,…
  20241118-093000-bjsz0q  template 47bae531ad98620d
";
        let watched_narrow = watched(terminal(Some(80)));
        assert_eq!(watched_narrow, narrow, "{watched_narrow}");
        let uncut = watched(terminal(None));
        assert_eq!(uncut.lines().count(), 5, "{uncut}");
        let row = "2024-11-18 10:03:20  2024-11-18 09:59:58   +3m10s  opened  FATAL      58 (46)  ▂▇▇▂      postgresql,shop       \
                   20241118-100000-k7f3qa  could not extend file";
        assert!(uncut.lines().nth(2).unwrap().starts_with(row), "{uncut}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_does_harm() {
        for wide in 80..240 {
            for text in [listed(terminal(Some(wide))), watched(terminal(Some(wide)))] {
                for line in text.lines() {
                    assert!(columns(line) <= wide, "{wide} columns:\n{text}");
                    assert!(!line.chars().any(is_obeyed), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn colours_change_nothing_else() {
        let colored = Terminal {
            columns: Some(120),
            has_colors: true,
        };
        let text = listed(colored);
        assert!(text.contains("\u{1b}[1m\u{1b}[31mFATAL\u{1b}[0m"), "{text:?}");
        let mut stripped = Vec::new();
        anstream::StripStream::new(&mut stripped)
            .write_all(text.as_bytes())
            .unwrap();
        let stripped = String::from_utf8(stripped).unwrap();
        let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n") + "\n", listed(terminal(Some(120))));
    }
}

//! The page: one HTML file, well-formed as XML, without anything from elsewhere.

use std::fmt::Write;

use super::chapter::{Chapter, Load};
use super::markdown::machines;
use super::plot::{Line, Plot, escape};
use crate::load::record::Record;

/// Colours that there are; more servers begin again.
const COLOURS: usize = 6;

/// Colours are told apart with any kind of colour blindness, on either ground.
const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fcfcfb; --card: #ffffff; --ink: #1a1a19;
  --soft: #6b6a65; --rule: #e4e3dd;
  --c0: #2a78d6; --c1: #eb6834; --c2: #1baf7a; --c3: #8a63d2; --c4: #b87a00; --c5: #d55181; }
@media (prefers-color-scheme: dark) { :root { --ground: #161615; --card: #1f1f1e; --ink: #f0efea;
  --soft: #a3a29b; --rule: #34342f;
  --c0: #4b94ea; --c1: #ee7a4a; --c2: #2dbd8a; --c3: #a58ff0; --c4: #d9a021; --c5: #e4749c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 40px 24px 64px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 4px; font-size: 28px; font-weight: 650; letter-spacing: -0.01em; }
h2 { margin: 48px 0 2px; font-size: 20px; font-weight: 620; }
p { margin: 0 0 6px; color: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 12px 0; padding: 0;
  list-style: none; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 7px;
  border-radius: 3px; background: currentColor; vertical-align: -1px; }
.legend span { color: var(--ink); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 16px; margin: 12px 0 20px; }
figure { margin: 0; padding: 16px 16px 8px; background: var(--card);
  border: 1px solid var(--rule); border-radius: 10px; }
figcaption { font-weight: 600; }
figcaption small { margin-left: 6px; color: var(--soft); font-size: 13px; font-weight: 400; }
svg { display: block; width: 100%; height: auto; }
.grid { stroke: var(--rule); stroke-width: 1; }
.mark { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dot { fill: currentColor; stroke: var(--card); stroke-width: 1.5; }
.band { fill: currentColor; opacity: 0.15; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 10px;
  background: var(--card); }
table { width: 100%; border-collapse: collapse; font-size: 13px; }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }
th small { display: block; font-weight: 400; }
tr:last-child td { border-bottom: 0; }
td.name, th.name { text-align: left; }
tr.next td { border-top: 1px solid var(--soft); }
";

/// The whole page.
#[must_use]
pub fn render(title: &str, records: &[Record], chapters: &[Chapter]) -> String {
    let mut out = String::new();
    let title = escape(title);
    // Writing to a string does not fail.
    let mut add = |text: std::fmt::Arguments<'_>| out.write_fmt(text).unwrap_or_default();
    add(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    ));
    for machine in machines(records) {
        add(format_args!("<p>{}</p>\n", escape(&machine)));
    }
    add(format_args!(
        "<p>Lines are means of repeated runs, bands their 95 % confidence (of two runs both \
         values). Latency counts from when a packet was due. Values are under the pointer.</p>\n"
    ));
    let labels = labels(chapters);
    for chapter in chapters {
        add(format_args!("<section>\n<h2>{}</h2>\n", escape(&heading(chapter))));
        add(format_args!("<p>{}</p>\n", escape(&chapter.parameters_text())));
        if chapter.has_axis() {
            add(format_args!("{}", legend(chapter, &labels)));
            add(format_args!("<div class=\"plots\">\n"));
            for plot in plots(chapter, &labels) {
                add(format_args!(
                    "<figure>\n<figcaption>{}<small>{}</small></figcaption>\n{}</figure>\n",
                    escape(&plot.title),
                    escape(&plot.unit),
                    plot.render()
                ));
            }
            add(format_args!("</div>\n"));
        }
        add(format_args!("{}</section>\n", table(chapter)));
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// All servers: one has the same colour in every chapter.
fn labels(chapters: &[Chapter]) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for label in chapters.iter().flat_map(|chapter| &chapter.labels) {
        if !labels.contains(&label.as_str()) {
            labels.push(label);
        }
    }
    labels
}

fn colour(labels: &[&str], label: &str) -> usize {
    labels.iter().position(|known| *known == label).unwrap_or_default() % COLOURS
}

/// What a chapter is called.
pub(super) fn heading(chapter: &Chapter) -> String {
    let mut name = chapter.scenario.clone();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

fn legend(chapter: &Chapter, labels: &[&str]) -> String {
    let items: Vec<String> = chapter
        .labels
        .iter()
        .map(|label| {
            let colour = colour(labels, label);
            format!("<li class=\"c{colour}\"><i></i><span>{}</span></li>", escape(label))
        })
        .collect();
    format!("<ul class=\"legend\">{}</ul>\n", items.join(""))
}

/// The plots of a chapter, those for which there is something.
fn plots(chapter: &Chapter, labels: &[&str]) -> Vec<Plot> {
    let plot = |title: &str, unit: &str, logarithmic: bool, figure: &str| Plot {
        title: title.to_owned(),
        unit: unit.to_owned(),
        logarithmic,
        lines: lines(chapter, labels, figure),
    };
    let plots = [
        plot("Goodput", "Mbit/s", false, "goodput_mbit"),
        plot("Lost of what was sent", "%", false, "loss_percent"),
        plot("Round trip, p50", "µs", true, "rtt_p50_us"),
        plot("Round trip, p99", "µs", true, "rtt_p99_us"),
        plot("One way, p50", "µs", true, "latency_p50_us"),
        plot("One way, p99", "µs", true, "latency_p99_us"),
        plot("Server's CPU per GB delivered", "s", false, "cpu_s_per_gb"),
        plot("Server's CPU", "cores", false, "server_cores"),
    ];
    plots.into_iter().filter(|plot| !plot.lines.is_empty()).collect()
}

/// A line for each server.
fn lines(chapter: &Chapter, labels: &[&str], figure: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, label) in chapter.labels.iter().enumerate() {
        let cells = chapter.cells.iter().filter(|cell| cell.label == index);
        let points: Vec<_> =
            cells.filter_map(|cell| Some((cell.mbit()?, cell.estimate(figure)?))).collect();
        if !points.is_empty() {
            lines.push(Line { name: label.clone(), colour: colour(labels, label), points });
        }
    }
    lines
}

fn table(chapter: &Chapter) -> String {
    let columns = chapter.columns();
    let axis = chapter.cells.iter().any(|cell| cell.load != Load::None);
    let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    if axis {
        out.push_str("<th class=\"name\">offered</th>");
    }
    out.push_str("<th class=\"name\">server</th>");
    for column in &columns {
        let unit = if column.unit.is_empty() { "\u{a0}" } else { column.unit };
        out.push_str(&format!("<th>{}<small>{unit}</small></th>", escape(column.title)));
    }
    out.push_str("<th>runs<small>\u{a0}</small></th></tr></thead>\n<tbody>\n");
    let mut last = None;
    for cell in &chapter.cells {
        // A rule between loads.
        let next = last.is_some_and(|load| load != cell.load);
        out.push_str(if next { "<tr class=\"next\">" } else { "<tr>" });
        if axis {
            let load = if last == Some(cell.load) { String::new() } else { cell.load.text() };
            out.push_str(&format!("<td class=\"name\">{load}</td>"));
        }
        let label = chapter.labels.get(cell.label).map_or("", String::as_str);
        out.push_str(&format!("<td class=\"name\">{}</td>", escape(label)));
        for column in &columns {
            let text = cell.estimate(column.name).map_or("–".to_owned(), |it| it.text());
            out.push_str(&format!("<td>{text}</td>"));
        }
        out.push_str(&format!("<td>{}</td></tr>\n", cell.runs.len()));
        last = Some(cell.load);
    }
    out.push_str("</tbody></table></div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::markdown::tests::records;

    #[test]
    fn a_page_is_well_formed_and_has_its_plots_and_rows() {
        let records = records();
        let chapters = Chapter::all(&records);
        let page = render("A <title> & more", &records, &chapters);

        let page = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
        let document = roxmltree::Document::parse(page).unwrap();
        let count = |name: &str| {
            document.descendants().filter(|node| node.tag_name().name() == name).count()
        };
        assert_eq!(count("section"), 2, "throughput and idle");
        assert_eq!(count("svg"), 6, "goodput, loss, one way twice, CPU per GB, CPU");
        // Two loads and `max` of two servers, one idle cell each, two heads.
        assert_eq!(count("tr"), 6 + 2 + 2);
        assert_eq!(count("script"), 0);
        // Nothing is fetched: the only addresses are the names of SVG.
        assert_eq!(page.matches("://").count(), count("svg"));
    }

    #[test]
    fn a_server_has_one_colour_in_all_chapters() {
        let records = records();
        let chapters = Chapter::all(&records);
        let labels = labels(&chapters);
        assert_eq!(labels, ["ours", "reference"]);
        assert_ne!(colour(&labels, "ours"), colour(&labels, "reference"));
    }
}

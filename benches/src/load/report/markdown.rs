//! The tables, for documents in the repository.

use super::chapter::{Chapter, Load};
use super::page::heading;
use crate::load::record::Record;

/// All tables.
#[must_use]
pub fn render(title: &str, records: &[Record], chapters: &[Chapter]) -> String {
    let mut lines = vec![format!("# {}", cell(title)), String::new()];
    lines.extend(machines(records).iter().map(|machine| format!("{}  ", cell(machine))));
    lines.push("Means of repeated runs, ± half of their 95 % confidence interval.".to_owned());
    for chapter in chapters {
        lines.push(String::new());
        lines.push(format!("## {}", cell(&heading(chapter))));
        lines.push(String::new());
        lines.push(cell(&chapter.parameters_text()));
        lines.push(String::new());
        lines.extend(table(chapter));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn table(chapter: &Chapter) -> Vec<String> {
    let columns = chapter.columns();
    let axis = chapter.cells.iter().any(|cell| cell.load != Load::None);
    let mut head = vec!["server".to_owned()];
    let mut rule = vec!["---".to_owned()];
    if axis {
        head.insert(0, "offered".to_owned());
        rule.push("---".to_owned());
    }
    for column in &columns {
        let unit = if column.unit.is_empty() { "" } else { ", " };
        head.push(format!("{}{unit}{}", column.title, column.unit));
        rule.push("---:".to_owned());
    }
    head.push("runs".to_owned());
    rule.push("---:".to_owned());
    let mut rows = vec![row(&head), row(&rule)];
    for each in &chapter.cells {
        let mut texts = vec![cell(chapter.labels.get(each.label).map_or("", String::as_str))];
        if axis {
            texts.insert(0, each.load.text());
        }
        for column in &columns {
            texts.push(each.estimate(column.name).map_or("–".to_owned(), |it| it.text()));
        }
        texts.push(each.runs.len().to_string());
        rows.push(row(&texts));
    }
    rows
}

fn row(texts: &[String]) -> String {
    format!("| {} |", texts.join(" | "))
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The machines that figures come from, a line each.
pub(super) fn machines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for Record { machine, version, .. } in records {
        let line = format!(
            "{}, {} cores, Linux {}; derp-load {version}",
            machine.cpu, machine.cores, machine.kernel
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::load::figure::Figures;
    use crate::load::machine::Machine;
    use crate::load::record::Heading;

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let records = records();
        let text = render("Title | of all", &records, &Chapter::all(&records));
        let mut width = None;
        let mut tables = 0;
        for line in text.lines() {
            if !line.starts_with('|') {
                width = None;
                continue;
            }
            let cells = line.matches(" |").count();
            tables += usize::from(width.is_none());
            assert_eq!(*width.get_or_insert(cells), cells, "{line}");
        }
        assert_eq!(tables, 2);
        assert!(text.contains("| 400 Mbit/s | ours | 402 ± 2 |"), "{text}");
        assert!(text.contains("| unlimited | reference |"), "{text}");
        assert!(text.contains("Title \\| of all"), "{text}");
    }

    /// Two servers at two loads and without limit, twice each; and idle clients.
    pub(in crate::load::report) fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for run in 0..2 {
            for label in ["ours", "reference"] {
                for rate in [Value::from(800_000_000), 400_000_000.into(), "max".into()] {
                    let mut figures = Figures::default();
                    figures.add("goodput_mbit", 400.0 + 4.0 * run as f64);
                    figures.add("loss_percent", 0.0);
                    figures.add("latency_p50_us", 90.0);
                    figures.add("latency_p99_us", 1_234.5);
                    figures.add("cpu_s_per_gb", 4.2);
                    figures.add("server_cores", 0.2);
                    records.push(record("throughput", label, run, ("rate", rate), &figures));
                }
                let mut figures = Figures::default();
                figures.add("rss_kib_per_client", 4.0);
                records.push(record("idle", label, run, ("clients", 10.into()), &figures));
            }
        }
        records
    }

    fn record(
        scenario: &str,
        label: &str,
        run: usize,
        parameter: (&str, Value),
        figures: &Figures,
    ) -> Record {
        let heading = Heading {
            scenario: scenario.to_owned(),
            label: label.to_owned(),
            run,
            machine: Machine { cpu: "CPU".to_owned(), cores: 2, kernel: "6.1".to_owned() },
        };
        let (name, value) = parameter;
        Record::new(heading, [(name.to_owned(), value)].into_iter().collect(), figures)
    }
}

//! Figures for reading: a page for one file, a line each for several.
//!
//! What enters: figures. What leaves: text of at most 100 columns. Promise: what has no meaning is a dash, never a
//! number. Absent on purpose: judgement of the figures.

use std::io::{self, Write};

use super::{
    figures::{Ablated, Faults, Figures, Quality},
    grouping::Grouping,
};

/// Prints a page for one file, and a table for several, with their pages before it where `details` asks for them.
///
/// # Errors
/// Those of the writer.
pub fn print(out: &mut impl Write, all: &[Figures], details: bool) -> io::Result<()> {
    if let [one] = all {
        return page(out, one);
    }
    if details {
        for figures in all {
            page(out, figures)?;
            writeln!(out)?;
        }
    }
    table(out, all)
}

fn table(out: &mut impl Write, all: &[Figures]) -> io::Result<()> {
    writeln!(
        out,
        "{:<26} {:>7} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9}",
        "file", "counted", "flagged", "false", "recall", "F1", "AUC", "AP", "R@1%", "alarms/d"
    )?;
    for figures in all {
        let lines = &figures.by_line;
        writeln!(
            out,
            "{:<26} {:>7} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9}",
            short_name(&figures.file, 26),
            figures.counted,
            percent(lines.flagged_share),
            percent(lines.false_share),
            ratio(lines.recall),
            ratio(lines.f1),
            ratio(lines.roc_auc),
            ratio(lines.average_precision),
            ratio(lines.recall_at_1_percent_false),
            rate(figures.episodes.false_alarms_a_day),
        )?;
    }
    let memory = all.iter().filter_map(|figures| figures.run.peak_memory_bytes).max();
    writeln!(
        out,
        "\ncounted: lines after the warm-up. false: false positives over negatives (an unlabelled file has only\n\
         negatives). R@1%: recall at 1 % false positives. alarms/d: false episodes a day. Peak memory {}.",
        mebibytes(memory)
    )
}

fn page(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    let Figures {
        by_line,
        by_template,
        episodes,
        run,
        ..
    } = figures;
    writeln!(out, "{}", figures.file)?;
    write!(out, "  {} lines, {} after the warm-up", figures.lines, figures.counted)?;
    if figures.without_score > 0 {
        write!(out, ", {} of them before the engine was ready", figures.without_score)?;
    }
    writeln!(
        out,
        "{}",
        if figures.labelled {
            ""
        } else {
            "; unlabelled: all count as healthy"
        }
    )?;
    writeln!(out, "\n  {:<28} {:>12} {:>12}", "", "lines", "templates")?;
    let counts: [(&str, Tell); 11] = [
        ("anomalous", |it| it.positives.to_string()),
        ("flagged", |it| it.flagged.to_string()),
        ("  share", |it| percent(it.flagged_share)),
        ("false flags", |it| it.false_flags.to_string()),
        ("  share of healthy", |it| percent(it.false_share)),
        ("precision", |it| ratio(it.precision)),
        ("recall", |it| ratio(it.recall)),
        ("F1", |it| ratio(it.f1)),
        ("ROC-AUC", |it| ratio(it.roc_auc)),
        ("average precision", |it| ratio(it.average_precision)),
        ("recall at 1 % false", |it| ratio(it.recall_at_1_percent_false)),
    ];
    writeln!(
        out,
        "  {:<28} {:>12} {:>12}",
        "counted", figures.counted, figures.templates
    )?;
    for (name, figure) in counts {
        writeln!(out, "  {name:<28} {:>12} {:>12}", figure(by_line), figure(by_template))?;
    }
    writeln!(
        out,
        "\n  {} episodes, {} of them false alarms ({} a day); {} incidents, {} of them false",
        episodes.count,
        episodes.false_alarms,
        rate(episodes.false_alarms_a_day),
        figures.incidents,
        figures.false_incidents,
    )?;
    if let Some(outside) = episodes.outside_windows {
        writeln!(
            out,
            "  {outside} episodes without a record in any fault's time ({} an hour)",
            rate(episodes.outside_windows_an_hour),
        )?;
    }
    if let Some(faults) = &figures.faults {
        print_faults(out, faults, figures.labelled)?;
    }
    if !figures.ablation.is_empty() {
        ablation(out, by_line, &figures.ablation)?;
    }
    writeln!(
        out,
        "\n  {:.0} records/s, peak memory {}",
        run.records_per_second,
        mebibytes(run.peak_memory_bytes)
    )
}

fn print_faults(out: &mut impl Write, faults: &Faults, has_labels: bool) -> io::Result<()> {
    writeln!(
        out,
        "  {} of {} faults found; {} flagged outside their windows",
        faults.found,
        faults.each.len(),
        percent(faults.flagged_outside_windows),
    )?;
    print_grouping(out, &faults.grouping, has_labels)?;
    writeln!(
        out,
        "\n  {:<48} {:>8} {:>8} {:>14} {:>10}",
        "fault", "lines", "flagged", "first after", "incidents"
    )?;
    for fault in &faults.each {
        let first = fault
            .first_flag_after_s
            .map_or_else(|| "never".to_owned(), |s| format!("{s:.1} s"));
        writeln!(
            out,
            "  {:<48} {:>8} {:>8} {first:>14} {:>10}",
            short_name(&fault.name, 48),
            fault.lines,
            fault.flagged,
            fault.incidents
        )?;
    }
    Ok(())
}

fn print_grouping(out: &mut impl Write, grouping: &Grouping, has_labels: bool) -> io::Result<()> {
    writeln!(
        out,
        "\n  incidents against faults, over {} {}",
        grouping.true_lines,
        if has_labels {
            "true lines"
        } else {
            "lines (without labels: ERROR lines in windows of faults)"
        }
    )?;
    let seconds = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1} s"));
    let share = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), percent);
    let figures: [(&str, String); 13] = [
        ("adjusted Rand index", ratio(grouping.adjusted_rand_index)),
        (
            "normalised mutual information",
            ratio(grouping.normalised_mutual_information),
        ),
        ("pairwise precision", ratio(grouping.pairwise_precision)),
        ("pairwise recall", ratio(grouping.pairwise_recall)),
        ("pairwise F1", ratio(grouping.pairwise_f1)),
        ("incidents a fault", ratio(grouping.incidents_a_fault)),
        (
            "  with children as one",
            ratio(grouping.incidents_a_fault_with_children_as_one),
        ),
        ("largest incident's share", percent(grouping.largest_share)),
        ("in no incident", percent(grouping.ungrouped_share)),
        ("leading edge off by, mean", seconds(grouping.leading_edge_error_mean_s)),
        ("  worst", seconds(grouping.leading_edge_error_worst_s)),
        ("ids that changed", share(grouping.id_churn)),
        ("  not even aliases", share(grouping.id_churn_without_aliases)),
    ];
    for (name, figure) in figures {
        writeln!(out, "  {name:<30} {figure:>10}")?;
    }
    Ok(())
}

fn ablation(out: &mut impl Write, all: &Quality, each: &[Ablated]) -> io::Result<()> {
    writeln!(
        out,
        "\n  {:<14} {:>10} {:>10}   {:>12} {:>8} {:>8} {:>8}",
        "detector", "alone AUC", "AP", "left out AUC", "AP", "recall", "false"
    )?;
    let rest = |quality: &Quality| {
        format!(
            "{:>12} {:>8} {:>8} {:>8}",
            ratio(quality.roc_auc),
            ratio(quality.average_precision),
            ratio(quality.recall),
            percent(quality.false_share)
        )
    };
    for ablated in each {
        writeln!(
            out,
            "  {:<14} {:>10} {:>10}   {}",
            ablated.detector.name(),
            ratio(ablated.alone.roc_auc),
            ratio(ablated.alone.average_precision),
            rest(&ablated.left_out)
        )?;
    }
    writeln!(out, "  {:<14} {:>10} {:>10}   {}", "none left out", "", "", rest(all))
}

/// Says one figure.
type Tell = fn(&Quality) -> String;

/// The end of a path or name, which tells more than its beginning.
fn short_name(name: &str, most: usize) -> String {
    let name = name
        .rsplit_once('/')
        .filter(|_| name.len() > most)
        .map_or(name, |(_, file)| file);
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let name = name.strip_suffix(".csv").unwrap_or(name);
    let length = name.chars().count();
    if length <= most {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - most + 1).collect();
    format!("…{end}")
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        _ if percent == 0.0 => "0 %".to_owned(),
        ..0.1 => format!("{percent:.3} %"),
        _ => format!("{percent:.2} %"),
    }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

fn rate(value: Option<f64>) -> String {
    value.map_or_else(
        || "–".to_owned(),
        |value| {
            if value < 100.0 {
                format!("{value:.2}")
            } else {
                format!("{value:.0}")
            }
        },
    )
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

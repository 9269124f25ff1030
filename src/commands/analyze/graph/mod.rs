//! The graph of an incident: what was said in it, and why that belongs together.
//!
//! What enters: an incident's rows, and the episodes that the engine told of. What leaves: nodes, and edges to nodes before
//! them. A node is an episode of a template in a service, or all that is context of one template and service; an edge is
//! the evidence by which it came in. Promises: the counts are those of the rows; every node but the first has one edge, to
//! a node before it, so that an incident is one connected component, and no edge leads out of it. By the notebook's rule no
//! evidence is told: there all rows of a text and a service are one node, tied to the first one by meaning, which is
//! what that rule goes by. Absent on purpose: all that might also have spoken for it; the strongest is kept.

pub mod gexf;

use std::{collections::HashMap, io, sync::Arc};

use super::{
    listing::{Kept, Whole},
    told::Episode,
};
use crate::{
    commands::lineage::Lineage,
    engine::{
        correlate::{IncidentId, Tie},
        text::TemplateKey,
    },
};

/// A template and a service.
type Voice<'a> = (u64, &'a str);

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Key of its template; the notebook's is the text itself.
    pub template: TemplateKey,
    /// Its service.
    pub service: &'a str,
    /// The template's text, or a message where that is not known.
    pub text: &'a str,
    /// Its rows.
    pub records: u64,
    /// Those of them that are anomalous.
    pub anomalous_records: u64,
    /// Times of the first and the last row that have one.
    pub span_unix_nano: Option<(u64, u64)>,
    /// The highest severity number, 0 when unknown.
    pub severity_number: i32,
}

/// Why a node belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the engine went by.
    Tie(Tie),
    /// A normal record that is alike and near, or said in one breath.
    Context,
    /// It opened an incident that turned out to be part of this one.
    Merged,
    /// No reason was told: mostly it began at the very time of what opened the incident, in a later request.
    Unknown,
}

impl Kind {
    /// The word that is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tie(tie) => tie.word(),
            Self::Context => "context",
            Self::Merged => "merged",
            Self::Unknown => "unknown",
        }
    }
}

/// What ties a node to one before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// The node that belongs.
    pub from: usize,
    /// The node it was tied to, which is before it.
    pub to: usize,
    /// Why.
    pub kind: Kind,
    /// Log-odds against the rate of what is unrelated, where they are known.
    pub log_odds: Option<f64>,
}

impl Edge {
    /// A positive number that grows with the evidence: `ln(1 + odds)`; where no odds are known, that of even ones.
    pub fn weight(&self) -> f64 {
        let log_odds = self.log_odds.unwrap_or(0.0);
        // The same as ln(1 + exp(x)), for any x.
        let weight = log_odds.max(0.0) + (-log_odds.abs()).exp().ln_1p();
        weight.max(SMALLEST_WEIGHT)
    }
}

/// Some readers take no weight of 0.
const SMALLEST_WEIGHT: f64 = 1e-6;

/// The graph of one incident.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph<'a> {
    /// The first is what opened it.
    pub nodes: Vec<Node<'a>>,
    /// One for each other node.
    pub edges: Vec<Edge>,
}

/// How rows become nodes.
pub struct Rule<'a> {
    /// What became of incidents; the notebook has none.
    pub lineage: Option<&'a Lineage>,
    /// Normal rows are nodes like others, not context.
    pub all_are_nodes: bool,
    /// Texts of templates; the notebook goes by whole messages.
    pub texts: &'a HashMap<TemplateKey, Arc<str>>,
}

/// A node while its rows are gathered.
struct Gathering<'a> {
    node: Node<'a>,
    episode: Option<&'a Episode>,
    is_context: bool,
}

impl Gathering<'_> {
    /// When it began, as far as is known.
    fn first(&self) -> u64 {
        let first = self.node.span_unix_nano.map_or(u64::MAX, |(first, _)| first);
        self.episode.map_or(first, |episode| episode.first_unix_nano)
    }
}

impl<'a> Graph<'a> {
    /// The graph of the incident of this number.
    pub fn of(number: u64, rows: &'a [Kept], episodes: &'a [Episode], rule: &Rule<'a>) -> Self {
        let mut gathered = gather(rows, episodes, rule);
        let opens = |it: &Gathering<'_>| {
            it.episode
                .is_some_and(|episode| episode.opened && episode.incident == number)
        };
        // Stable: equals stay in the order they were told in.
        gathered.sort_by_key(|it| (!opens(it), it.is_context, it.first()));
        let places = Places::of(&gathered);
        let edges = (1..).zip(gathered.iter().skip(1)).map(|(from, it)| {
            let (to, kind, log_odds) = places.tie(it, rule);
            Edge {
                from,
                to: to.filter(|to| *to < from).unwrap_or(0),
                kind,
                log_odds,
            }
        });
        let edges = edges.collect();
        Self {
            nodes: gathered.into_iter().map(|it| it.node).collect(),
            edges,
        }
    }
}

/// Rows by episode; what has no rows is no node.
fn gather<'a>(rows: &'a [Kept], episodes: &'a [Episode], rule: &Rule<'a>) -> Vec<Gathering<'a>> {
    let mut gathered: Vec<Gathering<'a>> = Vec::new();
    let begin = |gathered: &mut Vec<Gathering<'a>>, voice: Voice<'a>, episode, is_context| {
        gathered.push(Gathering {
            node: Node {
                template: TemplateKey(voice.0),
                service: voice.1,
                text: rule.texts.get(&TemplateKey(voice.0)).map_or("", |text| &**text),
                records: 0,
                anomalous_records: 0,
                span_unix_nano: None,
                severity_number: 0,
            },
            episode,
            is_context,
        });
        gathered.len() - 1
    };
    // Episodes of each voice, by time, as the incident's are; and what has none.
    let mut begun: HashMap<Voice<'a>, Vec<(u64, usize)>> = HashMap::new();
    let mut others: HashMap<(Voice<'a>, bool), usize> = HashMap::new();
    for episode in episodes {
        let voice = (episode.template, episode.service.as_str());
        let of_voice = begun.entry(voice).or_default();
        if of_voice
            .last()
            .is_none_or(|(first, _)| *first < episode.first_unix_nano)
        {
            of_voice.push((
                episode.first_unix_nano,
                begin(&mut gathered, voice, Some(episode), false),
            ));
        }
    }
    for row in rows {
        let template = row.template.unwrap_or_else(|| TemplateKey::of(&row.message).0);
        let voice = (template, row.service.as_str());
        let is_context = !row.is_anomaly && !rule.all_are_nodes;
        let time = row.time_unix_nano().unwrap_or(u64::MAX);
        let of_voice = begun.get(&voice).filter(|_| !is_context);
        let episode = of_voice.and_then(|begun| {
            let after = begun.partition_point(|(first, _)| *first <= time);
            begun.get(after.saturating_sub(1)).map(|(_, place)| *place)
        });
        let place = episode.unwrap_or_else(|| {
            let other = others.entry((voice, is_context));
            *other.or_insert_with(|| begin(&mut gathered, voice, None, is_context))
        });
        if let Some(it) = gathered.get_mut(place) {
            it.node.count(row);
        }
    }
    gathered.retain(|it| it.node.records > 0);
    gathered
}

impl<'a> Node<'a> {
    fn count(&mut self, row: &'a Kept) {
        if self.text.is_empty() {
            self.text = &row.message;
        }
        self.records += 1;
        self.anomalous_records += u64::from(row.is_anomaly);
        self.severity_number = self.severity_number.max(row.severity_number);
        if let Some(time) = row.time_unix_nano() {
            let (first, last) = self.span_unix_nano.unwrap_or((time, time));
            self.span_unix_nano = Some((first.min(time), last.max(time)));
        }
    }
}

/// Where nodes are found that others are tied to.
#[derive(Default)]
struct Places<'a> {
    /// By template, service and time.
    episodes: HashMap<(u64, &'a str, u64), usize>,
    /// What opened an incident, by its number.
    openers: HashMap<u64, usize>,
    /// The first episode of a template.
    templates: HashMap<u64, usize>,
}

impl<'a> Places<'a> {
    fn of(gathered: &[Gathering<'a>]) -> Self {
        let mut places = Self::default();
        for (place, it) in gathered.iter().enumerate() {
            let Some(episode) = it.episode else { continue };
            let key = (episode.template, episode.service.as_str(), episode.first_unix_nano);
            places.episodes.insert(key, place);
            places.templates.entry(episode.template).or_insert(place);
            if episode.opened {
                places.openers.insert(episode.incident, place);
            }
        }
        places
    }

    /// What a node is tied to, and why; without a place it is tied to the first one.
    fn tie(&self, it: &Gathering<'_>, rule: &Rule<'_>) -> (Option<usize>, Kind, Option<f64>) {
        let meaning = Kind::Tie(Tie::Meaning);
        if it.is_context {
            return (None, Kind::Context, None);
        }
        let Some(episode) = it.episode else {
            // A run of the notebook's is of all services, and told as the first one's: the same text is why.
            let same = self.templates.get(&it.node.template.0).copied();
            let is_told = same.is_some() || rule.lineage.is_none();
            return (same, if is_told { meaning } else { Kind::Unknown }, None);
        };
        if episode.opened {
            let into = |lineage: &Lineage| lineage.merged_into(IncidentId::from_raw(episode.incident));
            let into = rule.lineage.and_then(into).map(IncidentId::to_raw);
            return (
                into.and_then(|into| self.openers.get(&into).copied()),
                Kind::Merged,
                None,
            );
        }
        let Some(link) = &episode.link else {
            return (None, meaning, None);
        };
        let to = (link.to_template, link.to_service.as_str(), link.to_first_unix_nano);
        let tie = Tie::ALL.get(link.tie as usize).copied().unwrap_or(Tie::Time);
        (self.episodes.get(&to).copied(), Kind::Tie(tie), Some(link.weight))
    }
}

/// The graph of all incidents as it is written, one after the other.
pub struct Drawing<'a> {
    /// Where to.
    pub gexf: gexf::Gexf,
    /// How rows become nodes.
    pub rule: Rule<'a>,
}

impl Drawing<'_> {
    /// Writes the next incident of the list, of which these episodes were told; by the notebook's rule none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn draw(&mut self, whole: &Whole<'_>, episodes: &[Episode]) -> io::Result<()> {
        let graph = Graph::of(whole.entry.number, whole.rows, episodes, &self.rule);
        self.gexf.push(&whole.entry.name, &graph)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::sync::LazyLock;

    use super::*;
    use crate::engine::correlate::LinkState;

    const OURS: u64 = 7 << 30;
    const ALIAS: u64 = 9 << 30;

    fn row(time_unix_nano: u64, template: u64, is_anomaly: bool) -> Kept {
        Kept::of(Some(time_unix_nano), "shop", Some(template), is_anomaly)
    }

    fn episode(incident: u64, first_unix_nano: u64, template: u64, link: Option<(u64, u64)>) -> Episode {
        Episode {
            incident,
            first_unix_nano,
            template,
            service: "shop".to_owned(),
            reason: String::new(),
            opened: link.is_none(),
            link: link.map(|(to_template, to_first_unix_nano)| LinkState {
                tie: 1,
                weight: 2.0,
                to_template,
                to_service: "shop".to_owned(),
                to_first_unix_nano,
            }),
        }
    }

    fn rule(lineage: &Lineage) -> Rule<'_> {
        static TEXTS: LazyLock<HashMap<TemplateKey, Arc<str>>> = LazyLock::new(HashMap::new);
        Rule {
            lineage: Some(lineage),
            all_are_nodes: false,
            texts: &TEXTS,
        }
    }

    /// Nodes as (template, records, anomalous records), edges as (from, to, kind).
    type Seen = (Vec<(u64, u64, u64)>, Vec<(usize, usize, &'static str)>);

    fn seen(graph: &Graph<'_>) -> Seen {
        let nodes = graph.nodes.iter();
        let edges = graph.edges.iter();
        (
            nodes
                .map(|node| (node.template.0, node.records, node.anomalous_records))
                .collect(),
            edges.map(|edge| (edge.from, edge.to, edge.kind.word())).collect(),
        )
    }

    #[test]
    fn a_row_belongs_to_the_episode_that_began_latest_and_an_edge_leads_where_it_was_tied() {
        let lineage = Lineage::default();
        let episodes = [
            episode(OURS, 10, 1, None),
            episode(OURS, 12, 2, Some((1, 10))),
            episode(OURS, 20, 1, Some((2, 12))),
            // What its parent said is no node here.
            episode(OURS, 21, 3, Some((4, 1))),
        ];
        let rows = [(10, 1), (11, 1), (12, 2), (20, 1), (21, 3), (29, 1)].map(|(time, key)| row(time, key, true));
        let context = [row(2, 5, false), row(11, 5, false), row(22, 1, false)];
        let all: Vec<Kept> = rows.into_iter().chain(context).collect();
        let graph = Graph::of(OURS, &all, &episodes, &rule(&lineage));
        assert_eq!(
            seen(&graph),
            (
                vec![(1, 2, 2), (2, 1, 1), (1, 2, 2), (3, 1, 1), (5, 2, 0), (1, 1, 0)],
                vec![
                    (1, 0, "shared_id"),
                    (2, 1, "shared_id"),
                    (3, 0, "shared_id"),
                    (4, 0, "context"),
                    (5, 0, "context")
                ]
            )
        );
        assert_eq!(graph.nodes[2].span_unix_nano, Some((20, 29)));
        assert!(graph.edges[0].weight() > 2.0 && graph.edges[0].weight() < 2.2);
    }

    #[test]
    fn what_opened_an_incident_that_was_merged_is_tied_to_what_opened_the_other() {
        let lineage = Lineage::of_merges([(ALIAS, OURS)]);
        let episodes = [
            // Told earlier, and of the alias: what opened the incident itself comes first all the same.
            episode(ALIAS, 10, 1, None),
            episode(OURS, 10, 2, None),
            episode(ALIAS, 11, 3, Some((1, 10))),
        ];
        let rows = [row(10, 1, true), row(10, 2, true), row(11, 3, true)];
        let graph = Graph::of(OURS, &rows, &episodes, &rule(&lineage));
        assert_eq!(
            seen(&graph),
            (
                vec![(2, 1, 1), (1, 1, 1), (3, 1, 1)],
                vec![(1, 0, "merged"), (2, 1, "shared_id")]
            )
        );
    }

    #[test]
    fn rows_that_no_episode_was_told_of_are_nodes_all_the_same() {
        let lineage = Lineage::default();
        let rows = [row(10, 1, true), row(30, 2, true)];
        let told = [episode(OURS, 10, 1, None)];
        let graph = Graph::of(OURS, &rows, &told, &rule(&lineage));
        assert_eq!(seen(&graph), (vec![(1, 1, 1), (2, 1, 1)], vec![(1, 0, "unknown")]));
        // And an episode of which no row came is none.
        let told = [episode(OURS, 10, 1, None), episode(OURS, 20, 1, Some((1, 10)))];
        let graph = Graph::of(OURS, &rows[..1], &told, &rule(&lineage));
        assert_eq!(seen(&graph), (vec![(1, 1, 1)], vec![]));
    }

    #[test]
    fn by_the_notebooks_rule_each_text_is_a_node_and_meaning_ties_it() {
        let says = |message: &str, is_anomaly| {
            let mut row = Kept::of(None, "shop", None, is_anomaly);
            row.message = message.to_owned();
            row
        };
        let rows = [says("one", false), says("other", true), says("one", true)];
        let notebook = Rule {
            lineage: None,
            all_are_nodes: true,
            texts: &HashMap::new(),
        };
        let graph = Graph::of(0, &rows, &[], &notebook);
        let (one, other) = (TemplateKey::of("one").0, TemplateKey::of("other").0);
        assert_eq!(
            seen(&graph),
            (vec![(one, 2, 1), (other, 1, 1)], vec![(1, 0, "meaning")])
        );
        assert_eq!(graph.nodes[1].text, "other");
    }

    #[test]
    fn weights_are_positive_and_grow_with_the_evidence() {
        let weight = |log_odds: Option<f64>| {
            Edge {
                from: 1,
                to: 0,
                kind: Kind::Unknown,
                log_odds,
            }
            .weight()
        };
        let weights = [-1e9, -3.0, 0.0, 0.5, 40.0, 1e9].map(|log_odds| weight(Some(log_odds)));
        assert!(
            weights[0] > 0.0 && weights.is_sorted_by(|one, next| one < next),
            "{weights:?}"
        );
        assert_eq!(weight(None), weight(Some(0.0)));
    }
}

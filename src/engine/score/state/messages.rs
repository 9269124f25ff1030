//! The messages of the scorer's state, as they lie on the disk.
//!
//! What enters and leaves: numbers, names and texts. Promise: field numbers are never reused. Absent on purpose: what they
//! mean (the parent), and everything that is made anew.

/// The scorer's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScorerState {
    #[prost(message, repeated, tag = "1")]
    pub(super) templates: Vec<TemplateState>,
    #[prost(message, repeated, tag = "2")]
    pub(super) series: Vec<SeriesState>,
    #[prost(message, repeated, tag = "3")]
    pub(super) services: Vec<ServiceState>,
    #[prost(message, optional, tag = "4")]
    pub(super) calibration: Option<CalibrationState>,
    #[prost(message, optional, tag = "5")]
    pub(super) judge: Option<FittedState>,
    #[prost(uint64, tag = "6")]
    pub(super) observations: u64,
    #[prost(uint64, tag = "7")]
    pub(super) records: u64,
    #[prost(uint64, tag = "8")]
    pub(super) episodes: u64,
    #[prost(fixed64, tag = "9")]
    pub(super) latest_unix_nano: u64,
    #[prost(uint64, tag = "10")]
    pub(super) look_at: u64,
    #[prost(uint64, tag = "11")]
    pub(super) evicted: u64,
    #[prost(uint64, tag = "12")]
    pub(super) warm_up_records: u64,
    #[prost(uint64, tag = "13")]
    pub(super) over_budget: u64,
    #[prost(double, tag = "14")]
    pub(super) drift_log_stake: f64,
    #[prost(double, tag = "15")]
    pub(super) stream_records: f64,
    #[prost(fixed64, tag = "16")]
    pub(super) stream_first_unix_nano: u64,
    #[prost(double, tag = "17")]
    pub(super) stream_news: f64,
    #[prost(double, tag = "18")]
    pub(super) stream_news_records: f64,
    #[prost(uint64, tag = "19")]
    pub(super) released: u64,
    #[prost(bool, tag = "20")]
    pub(super) drifted: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TemplateState {
    #[prost(fixed64, tag = "1")]
    pub(super) key: u64,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    /// Empty when missing.
    #[prost(float, repeated, tag = "3")]
    pub(super) embedding: Vec<f32>,
    #[prost(float, optional, tag = "4")]
    pub(super) failing: Option<f32>,
    #[prost(uint64, tag = "5")]
    pub(super) lines: u64,
    #[prost(fixed64, tag = "6")]
    pub(super) first_seen_unix_nano: u64,
    #[prost(fixed64, tag = "7")]
    pub(super) last_seen_unix_nano: u64,
    #[prost(uint64, tag = "8")]
    pub(super) first_record: u64,
    #[prost(uint64, tag = "9")]
    pub(super) touched: u64,
    #[prost(fixed64, optional, tag = "10")]
    pub(super) flagged_unix_nano: Option<u64>,
    #[prost(message, optional, tag = "11")]
    pub(super) assessment: Option<AssessmentState>,
    #[prost(float, tag = "12")]
    pub(super) unknown_share: f32,
}

/// How far a template is from what is usual.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AssessmentState {
    #[prost(uint32, tag = "1")]
    pub(super) generation: u32,
    #[prost(float, tag = "2")]
    pub(super) error: f32,
    #[prost(float, tag = "3")]
    pub(super) distance: f32,
    #[prost(fixed64, optional, tag = "4")]
    pub(super) nearest: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SeriesState {
    #[prost(fixed64, tag = "1")]
    pub(super) template: u64,
    #[prost(uint32, tag = "2")]
    pub(super) service: u32,
    #[prost(double, tag = "3")]
    pub(super) known: f64,
    #[prost(uint64, tag = "4")]
    pub(super) decayed_at: u64,
    #[prost(fixed64, tag = "5")]
    pub(super) last_seen_unix_nano: u64,
    #[prost(uint64, tag = "6")]
    pub(super) window_latest: u64,
    #[prost(uint32, repeated, tag = "7")]
    pub(super) window_counts: Vec<u32>,
    #[prost(uint64, tag = "8")]
    pub(super) window_before: u64,
    #[prost(message, optional, tag = "9")]
    pub(super) episode: Option<EpisodeState>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EpisodeState {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) started_unix_nano: u64,
    #[prost(bool, tag = "3")]
    pub(super) judged: bool,
    #[prost(double, tag = "4")]
    pub(super) known: f64,
    #[prost(uint64, tag = "5")]
    pub(super) quiet_nano: u64,
    #[prost(message, optional, tag = "6")]
    pub(super) assessment: Option<AssessmentState>,
    #[prost(message, optional, tag = "7")]
    pub(super) anomaly: Option<AnomalyState>,
    #[prost(bool, tag = "8")]
    pub(super) suppressed: bool,
    #[prost(uint32, tag = "9")]
    pub(super) turns: u32,
}

/// Why an episode is anomalous.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnomalyState {
    #[prost(double, tag = "1")]
    pub(in crate::engine::score) score: f64,
    #[prost(double, tag = "2")]
    pub(in crate::engine::score) p_value: f64,
    #[prost(string, tag = "3")]
    pub(in crate::engine::score) detector: String,
    #[prost(string, tag = "4")]
    pub(in crate::engine::score) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServiceState {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) records: u64,
    #[prost(double, tag = "3")]
    pub(super) unrest: f64,
    #[prost(fixed64, tag = "4")]
    pub(super) unrest_unix_nano: u64,
    #[prost(message, optional, tag = "5")]
    pub(super) calibration: Option<CalibrationState>,
    #[prost(fixed64, repeated, tag = "6")]
    pub(super) openings: Vec<u64>,
    #[prost(fixed64, repeated, tag = "7")]
    pub(super) plain_openings: Vec<u64>,
    #[prost(fixed64, tag = "8")]
    pub(super) noted_unix_nano: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CalibrationState {
    #[prost(float, repeated, tag = "1")]
    pub(super) units: Vec<f32>,
    #[prost(uint64, tag = "2")]
    pub(super) unit_count: u64,
    #[prost(uint64, tag = "3")]
    pub(super) record_count: u64,
    #[prost(double, tag = "4")]
    pub(super) usual: f64,
    #[prost(uint64, tag = "5")]
    pub(super) looked_up_at: u64,
    #[prost(double, tag = "6")]
    pub(super) usual_alpha: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FittedState {
    #[prost(uint32, tag = "1")]
    pub(super) generation: u32,
    #[prost(uint64, tag = "2")]
    pub(super) records: u64,
    /// Whether the output is a sigmoid.
    #[prost(bool, tag = "3")]
    pub(super) sigmoid: bool,
    #[prost(float, repeated, tag = "4")]
    pub(super) mean: Vec<f32>,
    #[prost(float, repeated, tag = "5")]
    pub(super) encode: Vec<f32>,
    #[prost(float, repeated, tag = "6")]
    pub(super) encode_bias: Vec<f32>,
    #[prost(float, repeated, tag = "7")]
    pub(super) decode: Vec<f32>,
    #[prost(float, repeated, tag = "8")]
    pub(super) decode_bias: Vec<f32>,
    #[prost(message, repeated, tag = "9")]
    pub(super) bank: Vec<KnownState>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KnownState {
    #[prost(fixed64, tag = "1")]
    pub(super) key: u64,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    #[prost(float, repeated, tag = "3")]
    pub(super) embedding: Vec<f32>,
    #[prost(uint64, tag = "4")]
    pub(super) lines: u64,
    #[prost(float, tag = "5")]
    pub(super) unknown_share: f32,
}

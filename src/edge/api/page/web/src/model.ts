// The shapes of what the page is given: the agent's API as JSON, and a report's data.
//
// What enters and leaves: nothing runs here. Promised: names as in proto/harbinger/v1/incidents.proto, where each is
// explained; times are RFC 3339 strings; messages that are not set are absent. Fields that an older agent does not know
// may be missing as well, so everything beyond the first agent's is optional. Absent: shapes of our own.

export interface KeyRecord {
  time: string;
  service: string;
  template_key: string;
  text: string;
  severity_number: number;
  severity: string;
  reason?: string;
}

export interface Course {
  start: string;
  span_seconds: number;
  records: number[];
}

export interface ServiceCount {
  service: string;
  records: number;
  first_time?: string;
}

export interface Link {
  tie: string;
  weight: number;
  template_key: string;
  service: string;
}

export interface TemplateCount {
  template_key: string;
  text: string;
  records: number;
  anomalous_records: number;
  first_time?: string;
  link?: Link;
  course?: number[];
  service?: string;
  severity_number?: number;
}

export interface LogQuery {
  logql: string;
  start: string;
  end: string;
}

export interface Incident {
  id: string;
  tenant: string;
  aliases: string[];
  parent_incident_id: string;
  state: string;
  ending: string;
  merged_into: string;
  announced: boolean;
  leading_edge?: KeyRecord;
  worst?: KeyRecord;
  records: number;
  anomalous_records: number;
  first_time?: string;
  last_time?: string;
  services: string[];
  records_of_other_services: number;
  templates: TemplateCount[];
  records_of_other_templates: number;
  ties: { tie: string; episodes: number }[];
  logql?: LogQuery;
  logql_before?: LogQuery;
  service_counts?: ServiceCount[];
  course?: Course;
}

export interface Change {
  sequence: number;
  missed: boolean;
  happened: string;
  time?: string;
  incident?: Incident;
}

export interface Template {
  key: string;
  text: string;
  tenant: string;
  records: number;
  first_seen?: string;
  last_seen?: string;
  services: string[];
  flagged_since?: string;
  anomalous: boolean;
  suppressed: boolean;
}

export interface Opinion {
  tenant: string;
  template_key: string;
  text: string;
  service?: string;
  normal?: object;
  mute_until?: string;
  real?: object;
  comment: string;
  author: string;
  given_at?: string;
}

export interface Feedback {
  tenant?: string;
  template_key?: string;
  incident_id?: string;
  service?: string;
  normal?: object;
  mute_until?: string;
  real?: object;
  comment: string;
  author: string;
}

export interface FeedbackAnswer {
  summary: string;
  template_keys: string[];
  closed_incident_ids: string[];
  kept: boolean;
}

export interface Status {
  version: string;
  started_at?: string;
  mode: string;
  phase: string;
  detail: string;
  model_healthy: boolean;
  model_version: string;
  tenants: number;
  ready_tenants: number;
  open_incidents: number;
  past_incidents: number;
  last_sequence: number;
}

export interface Settings {
  links: { name: string; url: string }[];
  incident_attribute: string;
  may_give_feedback: boolean;
}

export interface Peak {
  time: string;
  score: number;
  service: string;
  text: string;
  template_key: string;
  incident_id: string;
}

export interface Scores {
  threshold: number | (number | null)[] | null;
  start: string;
  span_seconds: number;
  records: number[];
  anomalous: number[];
  median: (number | null)[];
  p99: (number | null)[];
  max: (number | null)[];
  peaks?: Peak[];
}

export interface ErrorDistribution {
  of: string;
  edges: number[];
  usual: number[];
  anomalous: number[];
  threshold: number | null;
}

export interface MappedTemplate {
  x: number;
  y: number;
  key: string;
  text: string;
  service: string;
  records: number;
  anomalous_records: number;
  incident_id: string;
}

export interface TemplateMap {
  explained: number[];
  templates: MappedTemplate[];
}

export interface Report {
  kind: "report";
  version: number;
  made_at: string;
  made_by: string;
  inputs: string[];
  redacted: boolean;
  rows: number;
  anomalous_rows: number;
  rows_not_judged: number;
  first_time?: string | null;
  last_time?: string | null;
  incidents: Incident[];
  incidents_left_out: number;
  scores?: Scores | null;
  reconstruction_error?: ErrorDistribution | null;
  map?: TemplateMap | null;
}

// Severities, as OTLP numbers them: their words, and what the page calls them in its style sheet.
//
// What enters: a severity number (0 unknown, 1 to 24). What leaves: a word, a CSS class, a rank. Promised: a colour never
// stands without its word or letter. Absent: texts of senders' own (the agent has already made ranges of them).

export interface Severity {
  word: string;
  letter: string;
  // Of CSS classes and variables: `--severity-error`.
  name: string;
  // The least number of the range.
  least: number;
}

const UNKNOWN: Severity = { word: "unknown", letter: "?", name: "unknown", least: 0 };
// Gravest first.
export const SEVERITIES: Severity[] = [
  { word: "FATAL", letter: "F", name: "fatal", least: 21 },
  { word: "ERROR", letter: "E", name: "error", least: 17 },
  { word: "WARN", letter: "W", name: "warn", least: 13 },
  { word: "INFO", letter: "I", name: "info", least: 9 },
  { word: "DEBUG", letter: "D", name: "debug", least: 5 },
  { word: "TRACE", letter: "T", name: "trace", least: 1 },
];

export function severityOf(number: number | undefined): Severity {
  return SEVERITIES.find((range) => (number ?? 0) >= range.least) ?? UNKNOWN;
}

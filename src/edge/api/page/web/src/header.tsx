// The head of every page: what this is, how the agent is or what the report was made of, and the way around.
//
// What enters: the agent's status, the connection; or the report. What leaves: the head. Promised: states are words beside a light; the agent's own
// words are shown as they are. Absent: anything that moves while nothing changes.
import { needsToken } from "./agent";
import { linkTo, place, type PageName } from "./address";
import { count, plural } from "./badges";
import { helpIsOpen } from "./keys";
import { connection, pause, paused, status, trouble, waiting } from "./live";
import type { Report, Status } from "./model";
import { report } from "./report";
import { chosen, isDark } from "./theme";
import { Time, TimeRange } from "./time";
import { read, zone, zoneName } from "./times";
import { isReport } from "./incidents";

export function Header() {
  return (
    <header class="top" role="banner">
      <div class="top-line">
        <a class="brand" href={linkTo("incidents")}>
          <Logo /> Harbinger
        </a>
        <nav aria-label="Pages">
          <Tab page="incidents" also="incident">Incidents</Tab>
          {isReport.value ? (
            hasAnalysis(report.value) && <Tab page="analysis">Scores and map</Tab>
          ) : (
            <>
              <Tab page="templates">Templates</Tab>
              <Tab page="feedback">Feedback</Tab>
            </>
          )}
        </nav>
        <span class="spacer" />
        {!isReport.value && <Light />}
        <span class="buttons switches">
          <button type="button" class="quiet" title="Times in your zone or in UTC" onClick={() => (zone.value = zone.value === "utc" ? "local" : "utc")}>
            <span class="visually-hidden">Times are in </span>{zone.value === "utc" ? "UTC" : short(zoneName())}
          </button>
          <button type="button" class="quiet" onClick={() => (chosen.value = isDark() ? "light" : "dark")}>
            {isDark() ? "Light" : "Dark"}
          </button>
          <button type="button" class="quiet help" aria-label="Keys" title="Keys (?)" onClick={() => (helpIsOpen.value = true)}>?</button>
        </span>
      </div>
      {isReport.value ? report.value && <Made of={report.value} /> : status.value && <Agent of={status.value} />}
      {!isReport.value && connection.value === "disconnected" && !needsToken.value && (
        <p class="notice bad broken">{(trouble.value || "The connection to the agent was lost").replace(/([^.?!])$/, "$1.")} Trying again …</p>
      )}
    </header>
  );
}

export function hasAnalysis(of: Report | undefined): boolean {
  return Boolean(of?.scores || of?.reconstruction_error || of?.map?.templates.length);
}

// Of Europe/Berlin, Berlin.
function short(name: string): string {
  return (name.split("/").at(-1) ?? name).replaceAll("_", " ");
}

function Tab({ page, also, children }: { page: PageName; also?: PageName; children: string }) {
  const isHere = place.value.page === page || place.value.page === also;
  return (
    <a href={linkTo(page)} aria-current={isHere ? "page" : undefined}>
      {children}
    </a>
  );
}

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 16 16" width="20" height="20" aria-hidden="true">
      <rect width="16" height="16" rx="3" />
      <path d="M2.5 11.5 5 11l1.5-1.5L8 4l1.6 5.5L11 11l2.5.5" />
    </svg>
  );
}

function Light() {
  const state = connection.value !== "live" ? connection.value : paused.value ? "paused" : "live";
  const words = state === "paused" && waiting.value > 0 ? `paused, ${plural(waiting.value, "change")} waiting` : state;
  return (
    <span class="light-and-button">
      <span class={`light light-${state}`} title={trouble.value}>
        <i aria-hidden="true" /> <span>{words}</span>
      </span>
      <button type="button" class="quiet" disabled={connection.value !== "live"} aria-pressed={paused.value} title="Hold the page still (p)" onClick={() => pause(!paused.value)}>
        <svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
          <path d={paused.value ? "M2,1L9,5L2,9Z" : "M2,1H4V9H2ZM6,1H8V9H6Z"} />
        </svg>
        <span class="word">{paused.value ? "Resume" : "Pause"}</span>
      </button>
    </span>
  );
}

const PHASES: Record<string, string> = {
  PHASE_WARMING_UP: "warming up",
  PHASE_FITTING: "training",
  PHASE_READY: "ready",
};
const MODES: Record<string, string> = { MODE_SHADOW: "shadow: verdicts are not written on records" };

function Agent({ of }: { of: Status }) {
  const mode = MODES[of.mode];
  return (
    <p class="status-line" aria-label="Agent">
      <span class={`badge phase-${of.phase === "PHASE_READY" ? "ready" : "waiting"}`}>{PHASES[of.phase] ?? "unknown"}</span>
      {of.detail && of.detail !== PHASES[of.phase] && <span>{of.detail}</span>}
      {mode && <span class="badge flagged">{mode}</span>}
      <span><b>{count(of.open_incidents)}</b> open, {count(of.past_incidents)} past</span>
      <span class={of.model_healthy ? "" : "bad-word"}>
        {of.model_version ? `model ${of.model_version}${of.model_healthy ? "" : " does not work"}` : "no sentence model"}
      </span>
      <span class="muted">{of.version && `version ${of.version}`}</span>
    </p>
  );
}

function Made({ of }: { of: Report }) {
  return (
    <div class="status-line" role="group" aria-label="Report">
      <span><b class="inputs">{of.inputs.join(", ") || "standard input"}</b></span>
      <span>{plural(of.rows, "record")}</span>
      <span><b>{count(of.anomalous_rows)}</b> anomalous ({share(of.anomalous_rows, of.rows)})</span>
      <span><b>{count(of.incidents.length + of.incidents_left_out)}</b> incidents{of.incidents_left_out > 0 && `, ${count(of.incidents_left_out)} of them left out here`}</span>
      {of.rows_not_judged > 0 && <span class="muted" title="What came first was learned from">{count(of.rows_not_judged)} not judged</span>}
      {of.first_time && of.last_time && <span class="muted"><TimeRange from={read(of.first_time)} to={read(of.last_time)} /></span>}
      {of.redacted && <span class="badge">redacted: no log text</span>}
      <span class="muted">made <Time at={read(of.made_at)} /> by {of.made_by}</span>
    </div>
  );
}

function share(part: number, whole: number): string {
  return whole > 0 ? `${((part / whole) * 100).toFixed(part / whole < 0.01 ? 2 : 1)} %` : "–";
}

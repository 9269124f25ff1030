// What finds an incident's lines elsewhere: its queries for Loki, to copy, and the links that the agent's settings name.
//
// What enters: an incident, URL templates of the settings. What leaves: queries with buttons, links that open in a tab of their own.
// Promised: every value is percent-encoded; only http and https are linked to; copying works without a secure origin as well.
// Absent: asking anybody (the reader does, by following a link).
import { useSignal } from "@preact/signals";
import { settings } from "./live";
import type { Incident, LogQuery } from "./model";
import { read } from "./times";
import { TimeRange } from "./time";

function filled(url: string, incident: Incident): string {
  const query = incident.logql;
  const logql = query?.logql ?? "";
  const start = query?.start ?? incident.first_time ?? "";
  const end = query?.end ?? incident.last_time ?? "";
  const values: Record<string, string> = {
    incident_id: incident.id,
    logql,
    logql_json: JSON.stringify(logql).slice(1, -1),
    logql_before: incident.logql_before?.logql ?? "",
    start_ms: String(Math.floor(read(start) || 0)),
    end_ms: String(Math.ceil(read(end) || 0)),
    start,
    end,
    service: incident.leading_edge?.service || incident.services[0] || "",
    tenant: incident.tenant,
  };
  return url.replace(/\{([a-z_]+)\}/g, (whole, name: string) => (name in values ? encodeURIComponent(values[name] ?? "") : whole));
}

export function Links({ of }: { of: Incident }) {
  const links = settings.value.links
    .map(({ name, url }) => ({ name, url: filled(url, of) }))
    .filter(({ url }) => /^https?:\/\//i.test(url));
  if (links.length === 0) return null;
  return (
    <p class="links">
      {links.map(({ name, url }) => (
        <a key={name} class="button" href={url} target="_blank" rel="noopener noreferrer">
          {name} <span aria-hidden="true">↗</span>
        </a>
      ))}
    </p>
  );
}

export function Queries({ of }: { of: Incident }) {
  if (!of.logql?.logql && !of.logql_before?.logql) return null;
  return (
    <section class="part">
      <h2>Its lines in Loki</h2>
      <Links of={of} />
      {of.logql?.logql && <Query name="All of it" query={of.logql} />}
      {of.logql_before?.logql && <Query name="What the same services said just before" query={of.logql_before} />}
    </section>
  );
}

function Query({ name, query }: { name: string; query: LogQuery }) {
  return (
    <div class="query">
      <h3>{name}</h3>
      <div class="query-text">
        <code tabIndex={0}>{query.logql}</code>
        <Copy text={query.logql} what={`the query: ${name}`} />
      </div>
      <p class="muted">
        <TimeRange from={read(query.start)} to={read(query.end)} />
      </p>
    </div>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const done = useSignal("");
  const copy = async () => {
    done.value = (await copied(text)) ? "Copied" : "Select and copy it";
    window.setTimeout(() => (done.value = ""), 2_000);
  };
  return (
    <button type="button" class="copy" aria-label={`Copy ${what}`} onClick={() => void copy()}>
      <span aria-live="polite">{done.value || "Copy"}</span>
    </button>
  );
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers have no clipboard on plain http from another machine: the old way.
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  const worked = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  return worked;
}

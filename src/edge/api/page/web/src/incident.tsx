// One incident: what happened, where it began, what belongs to it and why, and what to do about it.
//
// What enters: the id in the address; what is known of it, asked of the agent once more. What leaves: the view. Promised: an id that was
// merged shows the one that goes on, and says so; what is missing in older data is left out; it follows updates without moving
// what is read. Absent: single records (Loki has them; the queries find them).
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { go, linkTo, place } from "./address";
import { count, endingWords, plural, SeverityBadge, StateBadge, stateWord } from "./badges";
import { EvidenceGraph, EvidenceWords } from "./evidence";
import { FeedbackForm, SUBJECT_ID } from "./feedback-form";
import { find, isReport, loaded, textOr, type Entry } from "./incidents";
import { ensure } from "./live";
import { Mark, marksAreUsed } from "./marks";
import type { Incident, KeyRecord, ServiceCount } from "./model";
import { Queries } from "./queries";
import { severityOf } from "./severity";
import { Sparkline } from "./sparkline";
import { TemplateTable } from "./template-table";
import { Time, TimeRange } from "./time";
import { howLong, read } from "./times";

export function IncidentView() {
  const { id } = place.value;
  const trouble = useSignal("");
  const subject = useSignal("");
  useEffect(() => {
    trouble.value = "";
    subject.value = "";
    if (isReport.peek()) return;
    ensure(id).catch((error: unknown) => (trouble.value = error instanceof Error ? error.message : String(error)));
  }, [id]);
  const entry = find(id);
  const back = (
    <p class="back">
      <a href={linkTo("incidents")}>← All incidents</a>
    </p>
  );
  if (!entry) {
    const missing = isReport.value ? "This report has no such incident; it may be one of those that were left out." : trouble.value;
    return (
      <div class="incident">
        {back}
        <h1 tabIndex={-1}>Incident {id}</h1>
        <p class={missing ? "notice bad" : "muted"}>{missing || (loaded.value ? "Asking the agent …" : "Loading …")}</p>
      </div>
    );
  }
  return (
    <div class="incident">
      {back}
      <Head entry={entry} asked={id} />
      <div class="columns">
        <div class="column">
          <What entry={entry} />
          <TemplateTable
            of={entry.incident}
            tell={
              isReport.value
                ? undefined
                : (key) => {
                    subject.value = key;
                    const form = document.getElementById(SUBJECT_ID);
                    form?.focus({ preventScroll: true });
                    form?.scrollIntoView({ block: "center" });
                  }
            }
          />
        </div>
        <div class="column side">
          {!isReport.value && <FeedbackForm of={entry.incident} subject={subject} />}
          <Services of={entry.incident} />
          <section class="part">
            <h2>Why it is one incident</h2>
            <EvidenceWords of={entry.incident} />
            <EvidenceGraph of={entry.incident} />
          </section>
          <Queries of={entry.incident} />
          <Related of={entry.incident} />
        </div>
      </div>
    </div>
  );
}

function Head({ entry, asked }: { entry: Entry; asked: string }) {
  const { incident } = entry;
  const heading = useRef<HTMLHeadingElement>(null);
  // Whoever came by a key or a link is here now.
  useEffect(() => heading.current?.focus({ preventScroll: true }), [asked]);
  return (
    <header class="incident-head">
      <p class="badges">
        <SeverityBadge of={entry.severity} />
        <StateBadge of={entry} />
        {marksAreUsed.value && <Mark id={entry.id} />}
        <code class="id">{entry.id}</code>
        {incident.tenant && <span class="badge">{incident.tenant}</span>}
        {asked !== entry.id && <span class="muted">{asked} is part of it</span>}
      </p>
      <h1 ref={heading} tabIndex={-1} dir="auto" class="clamp-3" title={entry.line.slice(0, 4000)}>
        {entry.line}
      </h1>
      <p class="facts">
        <span><TimeRange from={entry.first} to={entry.last} /></span>
        <span>{howLong(entry.last - entry.first)}</span>
        <span><b>{count(incident.anomalous_records)}</b> anomalous of {plural(incident.records, "record")}</span>
        <span>{plural(Math.max(incident.services.length, 1), "service")}</span>
      </p>
    </header>
  );
}

function What({ entry }: { entry: Entry }) {
  const { incident } = entry;
  const { leading_edge: edge, worst, course } = incident;
  const isSame = edge && worst && edge.time === worst.time && edge.template_key === worst.template_key;
  return (
    <section class="part">
      <h2>What happened</h2>
      <p class="sentence">{sentence(entry)}</p>
      {course && course.records.length > 0 && (
        <figure class="course">
          <Sparkline records={course.records} spanMs={course.span_seconds * 1000} width={640} height={56} class={`severity-${entry.severity.name}`} />
          <figcaption>
            <span><Time at={read(course.start)} /></span>
            <span>records in {howLong(course.span_seconds * 1000)} each, at most {count(Math.max(...course.records))}</span>
            <span><Time at={read(course.start) + course.span_seconds * 1000 * course.records.length} short /></span>
          </figcaption>
        </figure>
      )}
      {edge && <Key record={edge} name={isSame ? "Leading edge, and worst record" : "Leading edge"} />}
      {worst && !isSame && <Key record={worst} name="Worst record" />}
    </section>
  );
}

function Key({ record, name }: { record: KeyRecord; name: string }) {
  return (
    <div class="key-record">
      <h3>{name}</h3>
      <p class="muted">
        <SeverityBadge of={severityOf(record.severity_number)} /> <Time at={read(record.time)} /> {record.service}
      </p>
      <pre dir="auto" tabIndex={0}>{textOr(record.text, record.template_key)}</pre>
      {record.reason && <p class="reason"><span class="muted">Why it is marked:</span> {record.reason}</p>}
    </div>
  );
}

function sentence({ incident, service, first, last }: Entry): string {
  const counts = incident.service_counts ?? [];
  const order = counts.length > 0 ? counts.map((one) => one.service) : incident.services;
  const others = order.filter((name) => name !== service);
  const began = `It began in ${service || "an unnamed service"}`;
  const spread =
    others.length === 0 ? " and stayed there" : others.length <= 3 ? `; ${listed(others)} took part` : `; ${others.length} other services took part`;
  const context = incident.records - incident.anomalous_records;
  const amount = `${count(incident.anomalous_records)} anomalous ${incident.anomalous_records === 1 ? "record" : "records"}${
    context > 0 ? ` and ${count(context)} of context` : ""
  } in ${howLong(Math.max(last - first, 0))}`;
  const ending = incident.state === "INCIDENT_STATE_OPEN" ? "It is still open" : `It is ${stateWord(incident)}${endingWords(incident) ? `: ${endingWords(incident)}` : ""}`;
  return `${began}${spread}: ${amount}. ${ending}.`;
}

function listed(names: readonly string[]): string {
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : (names[0] ?? "");
}

function Services({ of }: { of: Incident }) {
  const counts = of.service_counts ?? [];
  if (counts.length === 0 && of.services.length === 0) return null;
  const first = read(of.first_time);
  const most = Math.max(...counts.map((one) => one.records), 1);
  const listOfServices: ServiceCount[] = counts.length > 0 ? counts : of.services.map((service) => ({ service, records: 0 }));
  return (
    <section class="part">
      <h2>Services{counts.length > 1 ? " in order of appearance" : ""}</h2>
      <ol class="services-in-order">
        {listOfServices.map((one) => {
          const after = read(one.first_time) - first;
          return (
            <li key={one.service}>
              <a class="service-name" href={`#/incidents?service=${encodeURIComponent(one.service)}`} title="Incidents of this service">{one.service || "(unnamed)"}</a>
              {Number.isFinite(after) && <span class="after muted">{after <= 0 ? "first" : `after ${howLong(after)}`}</span>}
              {one.records > 0 && (
                <>
                  <span class="bar" aria-hidden="true"><i style={{ width: `${Math.max((one.records / most) * 100, 1.5)}%` }} /></span>
                  <span class="number">{count(one.records)}</span>
                </>
              )}
            </li>
          );
        })}
      </ol>
      {of.records_of_other_services > 0 && <p class="muted">And {plural(of.records_of_other_services, "record")} of other services.</p>}
    </section>
  );
}

function Related({ of }: { of: Incident }) {
  if (of.aliases.length === 0 && !of.parent_incident_id && !of.merged_into) return null;
  const link = (id: string) => (
    <a href={linkTo("incident", id)} onClick={(event) => { event.preventDefault(); go({ page: "incident", id }); }}>
      {id}
    </a>
  );
  return (
    <section class="part">
      <h2>Related</h2>
      <ul class="related">
        {of.merged_into && <li>It turned out to be part of {link(of.merged_into)}</li>}
        {of.parent_incident_id && <li>It goes on from {link(of.parent_incident_id)}, which reached the longest life</li>}
        {of.aliases.map((alias) => (
          <li key={alias}>{alias} became part of it</li>
        ))}
      </ul>
    </section>
  );
}

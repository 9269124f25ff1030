// The table of incidents: what the time line shows, as rows that can be read, sorted, stepped through and opened.
//
// What enters: the incidents that are shown, in order. What leaves: a table; an incident opened. Promised: only rows near the view are in
// the document, however many there are; an update neither moves the line one reads nor takes the focus; a screen reader hears a
// table with all its rows counted. On paper all rows are there. Absent: pages of a list.
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { go, linkTo, place, type Order } from "./address";
import { count, SeverityBadge, StateBadge } from "./badges";
import { orderOf, shown, type Entry } from "./incidents";
import { Mark, marksAreUsed } from "./marks";
import { printing } from "./theme";
import { Time } from "./time";
import { marked } from "./timeline";
import { howLong } from "./times";

const BEYOND = 12;
// What stays at the top of a wide window: the head of the page and that of the table.
const HEAD_PX = 80;
const narrow = window.matchMedia("(max-width: 760px)");
const rowPx = (): number => (narrow.matches ? 92 : 28);

interface Range {
  start: number;
  end: number;
}

// Which row was opened, to go back to.
let opened = "";

export function IncidentList() {
  const entries = shown.value;
  const body = useRef<HTMLTableSectionElement>(null);
  // Where one comes back to, or the beginning.
  const from = useMemo(() => Math.max(0, shown.peek().findIndex((entry) => entry.id === opened) - 30), []);
  const range = useSignal<Range>({ start: from, end: from + 60 });
  const active = useSignal(opened);
  const anchor = useRef<{ id: string; top: number } | undefined>(undefined);

  // Which rows the window is over, with some before and after.
  const look = () => {
    const top = body.current?.getBoundingClientRect().top ?? 0;
    const height = rowPx();
    const first = Math.max(0, Math.floor(-top / height));
    const start = Math.max(0, Math.floor((first - BEYOND) / 6) * 6);
    const end = Math.ceil((first + window.innerHeight / height + BEYOND) / 6) * 6;
    if (start !== range.peek().start || end !== range.peek().end) range.value = { start, end };
    const line = shown.peek()[first];
    anchor.current = line && first > 0 ? { id: line.id, top: top + first * height } : undefined;
  };
  useEffect(() => {
    look();
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    return () => {
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
    };
  }, []);
  // After an update: the line that was at the top of the view stays there.
  const isNew = useRef(true);
  useLayoutEffect(() => {
    // The page has not been scrolled to where it was yet.
    if (isNew.current) {
      isNew.current = false;
      return;
    }
    const held = anchor.current;
    if (held) {
      const index = entries.findIndex((entry) => entry.id === held.id);
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const moved = index < 0 ? 0 : top + index * rowPx() - held.top;
      if (Math.abs(moved) >= 1) window.scrollBy({ top: moved, behavior: "instant" });
    }
    look();
  }, [entries]);
  useLayoutEffect(() => {
    if (!opened) return;
    document.getElementById(rowLink(opened))?.focus({ preventScroll: true });
    opened = "";
  }, []);

  const step = (from: number, to: number) => {
    const index = Math.min(Math.max(to, 0), entries.length - 1);
    const entry = entries[index];
    if (!entry || from === index) return;
    active.value = entry.id;
    const top = (body.current?.getBoundingClientRect().top ?? 0) + index * rowPx();
    const head = narrow.matches ? 8 : HEAD_PX;
    if (top < head) window.scrollBy({ top: top - head, behavior: "instant" });
    else if (top + rowPx() > window.innerHeight - 8) window.scrollBy({ top: top + rowPx() - window.innerHeight + 8, behavior: "instant" });
    look();
    requestAnimationFrame(() => document.getElementById(rowLink(entry.id))?.focus({ preventScroll: true }));
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = entries.findIndex((entry) => document.activeElement?.id === rowLink(entry.id));
    if (at < 0) return;
    const page = Math.floor(window.innerHeight / rowPx()) - 2;
    const to: Record<string, number> = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: entries.length - 1,
    };
    const target = to[event.key];
    if (target === undefined) return;
    event.preventDefault();
    step(at, target);
  };

  const whole = printing.value;
  const start = whole ? 0 : Math.min(range.value.start, Math.max(entries.length - 1, 0));
  const end = whole ? entries.length : Math.min(range.value.end, entries.length);
  const stop = entries.some((entry) => entry.id === active.value) ? active.value : (entries[start]?.id ?? "");
  return (
    <table class="incidents" role="table" aria-label="Incidents" aria-rowcount={entries.length + 1} onKeyDown={onKey}>
      <thead role="rowgroup">
        <tr role="row" aria-rowindex={1}>
          <Head order="newest" title="Newest first">When</Head>
          <th role="columnheader" class="number">How long</th>
          <Head order="gravest" title="Gravest first">Severity</Head>
          <th role="columnheader">Services</th>
          <Head order="largest" title="Largest first" numeric>Anomalous / records</Head>
          <th role="columnheader" class="line">Began with</th>
          <th role="columnheader">State</th>
        </tr>
      </thead>
      <tbody role="rowgroup" ref={body}>
        <Spacer rows={start} />
        {entries.slice(start, end).map((entry, index) => (
          <Row key={entry.id} entry={entry} index={start + index} stop={entry.id === stop} onFocus={() => (active.value = entry.id)} />
        ))}
        <Spacer rows={entries.length - end} />
      </tbody>
    </table>
  );
}

function Spacer({ rows }: { rows: number }) {
  if (rows <= 0) return null;
  return (
    <tr class="rows-not-shown" aria-hidden="true" role="presentation">
      <td colSpan={7} style={{ height: `${rows * rowPx()}px` }} />
    </tr>
  );
}

function Head(props: { order: Order; title: string; numeric?: boolean; children: string }) {
  const sorted = orderOf(place.value.filters) === props.order;
  return (
    <th role="columnheader" aria-sort={sorted ? "descending" : undefined} class={props.numeric ? "number" : ""}>
      <button type="button" class="sort" title={props.title} onClick={() => go({ filters: { order: props.order } }, true)}>
        {props.children} <span aria-hidden="true">{sorted ? "▾" : ""}</span>
      </button>
    </th>
  );
}

const rowLink = (id: string): string => `incident-${id}`;

function Row({ entry, index, stop, onFocus }: { entry: Entry; index: number; stop: boolean; onFocus: () => void }) {
  const { incident } = entry;
  const openIt = (event: MouseEvent) => {
    if (event.defaultPrevented || (event.target as Element).closest("a") || window.getSelection()?.toString()) return;
    opened = entry.id;
    go({ page: "incident", id: entry.id });
  };
  return (
    <tr
      role="row"
      aria-rowindex={index + 2}
      class={`row ${marked.value === entry.id ? "marked" : ""}`}
      onClick={openIt}
      onMouseEnter={() => (marked.value = entry.id)}
      onMouseLeave={() => (marked.value = "")}
    >
      <td role="cell" class="when"><Time at={entry.first} /></td>
      <td role="cell" class="long number">{howLong(entry.last - entry.first)}</td>
      <td role="cell" class="sev"><SeverityBadge of={entry.severity} /></td>
      <td role="cell" class="services" title={incident.services.join(", ")}>{servicesOf(entry)}</td>
      <td role="cell" class="amount number">
        <b>{count(incident.anomalous_records)}</b> / {count(incident.records)}
      </td>
      <td role="cell" class="line">
        {marksAreUsed.value && <Mark id={entry.id} />}
        <a
          id={rowLink(entry.id)}
          href={linkTo("incident", entry.id)}
          tabIndex={stop ? 0 : -1}
          title={entry.line.slice(0, 2000)}
          onFocus={() => {
            onFocus();
            marked.value = entry.id;
          }}
          onBlur={() => (marked.value = "")}
          onClick={() => (opened = entry.id)}
        >
          <bdi>{entry.line.slice(0, 300)}</bdi>
        </a>
      </td>
      <td role="cell" class="state-cell"><StateBadge of={entry} /></td>
    </tr>
  );
}

// Of which tenant; the service that began it, and how many others.
function servicesOf(entry: Entry): string {
  const names = entry.incident.services;
  const more = names.filter((name) => name !== entry.service).length;
  const words = more > 0 && entry.service ? `${entry.service} +${more}` : names.join(", ");
  return entry.incident.tenant ? `${entry.incident.tenant}: ${words}` : words;
}

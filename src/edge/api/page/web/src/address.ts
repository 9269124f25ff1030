// Where the reader is: the page, what is open on it, and the filters, all in the URL's hash.
//
// What enters: `location.hash`, calls of `go`. What leaves: the signal `place`. Promised: a copied address shows another
// reader the same; the browser's back undoes steps, not every turn of the wheel (those replace); an address that is not
// understood is the list. Absent: what belongs to a reader rather than to a view (theme, zone, author).
import { signal } from "@preact/signals";

export type PageName = "incidents" | "incident" | "templates" | "feedback" | "analysis";
export type Order = "newest" | "largest" | "gravest";

export interface Filters {
  // "" is open or closed; else open, closed, merged.
  state: string;
  service: string;
  // At least this severity number.
  severity: number;
  text: string;
  // "" is what fits (all in a report, a day live); else 1h, 6h, 24h, 7d, all.
  period: string;
  // Instead of a period, when both are there: milliseconds.
  from: number;
  to: number;
  // "" is newest live, gravest in a report.
  order: Order | "";
}

export interface Place {
  page: PageName;
  // Of an incident.
  id: string;
  filters: Filters;
}

export const NO_FILTERS: Filters = { state: "", service: "", severity: 0, text: "", period: "", from: NaN, to: NaN, order: "" };
const PAGES: PageName[] = ["incidents", "incident", "templates", "feedback", "analysis"];
const ORDERS: Order[] = ["newest", "largest", "gravest"];
const number = (value: string | null): number => (value && /^-?\d{1,16}$/.test(value) ? Number(value) : NaN);

function understand(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  const [, name = "", id = ""] = path.split("/", 3);
  const asked = new URLSearchParams(query);
  const page = PAGES.find((known) => known === name) ?? "incidents";
  let decoded = "";
  try {
    decoded = decodeURIComponent(id);
  } catch {
    decoded = "";
  }
  return {
    page: page === "incident" && !decoded ? "incidents" : page,
    id: page === "incident" ? decoded : "",
    filters: {
      state: asked.get("state") ?? "",
      service: asked.get("service") ?? "",
      severity: number(asked.get("severity")) || 0,
      text: asked.get("text") ?? "",
      period: asked.get("period") ?? "",
      from: number(asked.get("from")),
      to: number(asked.get("to")),
      order: ORDERS.find((known) => known === asked.get("order")) ?? "",
    },
  };
}

export function hashOf(to: Place): string {
  const asked = new URLSearchParams();
  const { filters } = to;
  if (filters.state) asked.set("state", filters.state);
  if (filters.service) asked.set("service", filters.service);
  if (filters.severity) asked.set("severity", String(filters.severity));
  if (filters.text) asked.set("text", filters.text);
  if (filters.period) asked.set("period", filters.period);
  if (Number.isFinite(filters.from) && Number.isFinite(filters.to)) {
    asked.set("from", String(Math.round(filters.from)));
    asked.set("to", String(Math.round(filters.to)));
  }
  if (filters.order) asked.set("order", filters.order);
  const query = asked.toString();
  return `#/${to.page}${to.id ? `/${encodeURIComponent(to.id)}` : ""}${query ? `?${query}` : ""}`;
}

export const place = signal<Place>(understand(location.hash));

// Scroll positions by address, so that going back finds the line again.
const scrolled = new Map<string, number>();
let writing = 0;
let shown = location.hash;

function show(hash: string): void {
  scrolled.set(hashOf(place.peek()), window.scrollY);
  shown = hash;
  place.value = understand(hash);
}

// Goes somewhere: a step that back undoes, or, when it replaces, a change of the view that it does not.
export function go(to: Partial<Omit<Place, "filters">> & { filters?: Partial<Filters> }, replaces = false): void {
  const now = place.peek();
  const next: Place = {
    page: to.page ?? now.page,
    id: to.id ?? (to.page ? "" : now.id),
    filters: { ...now.filters, ...to.filters },
  };
  if (hashOf(next) === hashOf(now)) return;
  window.clearTimeout(writing);
  if (replaces) {
    place.value = next;
    // Browsers refuse more than a few of these a second, and a wheel has many.
    writing = window.setTimeout(() => {
      history.replaceState(null, "", hashOf(place.peek()));
      shown = location.hash;
    }, 200);
  } else {
    if (hashOf(now) !== location.hash) history.replaceState(null, "", hashOf(now));
    history.pushState(null, "", hashOf(next));
    show(location.hash);
  }
}

export function linkTo(page: PageName, id = ""): string {
  return hashOf({ page, id, filters: place.value.filters });
}

// Where the view of this place was scrolled to when it was left; 0 when it is new.
export function scrollOf(at: Place): number {
  return scrolled.get(hashOf(at)) ?? 0;
}

window.addEventListener("popstate", () => {
  if (location.hash !== shown) show(location.hash);
});
history.scrollRestoration = "manual";

// What of the incidents is looked at: period, state, severity, service, words.
//
// What enters: the address; the services that occur. What leaves: another address. Promised: each change is at once in the list and
// the address; typing is one step of going back, not one a letter. Absent: filters that the API has and nobody asked for.
import { useRef } from "preact/hooks";
import { go, NO_FILTERS, place } from "./address";
import { elsewhere, isReport, PERIODS, periodOf, services, shown } from "./incidents";
import { SEVERITIES } from "./severity";
import { plural } from "./badges";

export const SEARCH_ID = "search";

export function FilterBar() {
  const { filters } = place.value;
  const typing = useRef(0);
  const period = periodOf(filters);
  const isFiltered = filters.state || filters.service || filters.severity || filters.text || !period;
  const search = (text: string) => {
    window.clearTimeout(typing.current);
    typing.current = window.setTimeout(() => go({ filters: { text } }, true), 120);
  };
  return (
    <form class="filters" role="search" aria-label="Incidents" onSubmit={(event) => event.preventDefault()}>
      <label class="grow">
        <span>Search</span>
        <input
          id={SEARCH_ID}
          type="search"
          placeholder="Text, service, id …   press /"
          value={filters.text}
          onInput={(event) => search(event.currentTarget.value)}
        />
      </label>
      {(!isReport.value || !period) && <label>
        <span>Period</span>
        <select value={period} onChange={(event) => go({ filters: { period: event.currentTarget.value, from: NaN, to: NaN } })}>
          {PERIODS.filter(([name]) => !isReport.value || name === "all").map(([name, words]) => (
            <option key={name} value={name}>{words}</option>
          ))}
          {!period && <option value="">Zoomed in</option>}
        </select>
      </label>}
      <label>
        <span>State</span>
        <select value={filters.state} onChange={(event) => go({ filters: { state: event.currentTarget.value } })}>
          <option value="">Open or closed</option>
          <option value="open">Open</option>
          <option value="closed">Closed</option>
          <option value="merged">Merged</option>
        </select>
      </label>
      <label>
        <span>Severity</span>
        <select value={String(filters.severity)} onChange={(event) => go({ filters: { severity: Number(event.currentTarget.value) } })}>
          <option value="0">Any</option>
          {SEVERITIES.slice(0, 4).map((range, index) => (
            <option key={range.name} value={String(range.least)}>{range.word}{index > 0 ? " or worse" : ""}</option>
          ))}
        </select>
      </label>
      <label class="service">
        <span>Service</span>
        <select value={filters.service} onChange={(event) => go({ filters: { service: event.currentTarget.value } })}>
          <option value="">All</option>
          {filters.service && !services.value.includes(filters.service) && <option value={filters.service}>{filters.service}</option>}
          {services.value.map((name) => (
            <option key={name} value={name}>{name}</option>
          ))}
        </select>
      </label>
      <button type="button" class="quiet" disabled={!isFiltered} onClick={() => go({ filters: { ...NO_FILTERS, order: filters.order, period: filters.period } })}>
        Clear
      </button>
    </form>
  );
}

// How many there are, and how many the period leaves out.
export function Counted() {
  const more = elsewhere.value;
  return (
    <p class="counted">
      {plural(shown.value.length, "incident")}
      {more > 0 && (
        <>
          {" "}in this period, {plural(more, "other")} outside it.{" "}
          <button type="button" class="link" onClick={() => go({ filters: { period: "all", from: NaN, to: NaN } })}>Show all</button>
        </>
      )}
    </p>
  );
}

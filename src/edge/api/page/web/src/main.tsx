// Where the page begins: finds out whether it is live or a report, and shows the view that the address names.
//
// What enters: the document. What leaves: everything on it. Promised: one page of it is shown at a time, on paper all of a report; where one goes
// back to, the scroll position is found again; nothing is asked of anybody in a report. Absent: what the views do.
import { effect } from "@preact/signals";
import { render } from "preact";
import { useLayoutEffect } from "preact/hooks";
import { place, scrollOf } from "./address";
import { ErrorChart } from "./error-distribution";
import { FeedbackPage } from "./feedback-page";
import { Counted, FilterBar } from "./filters";
import { hasAnalysis, Header } from "./header";
import { IncidentView } from "./incident";
import { IncidentList } from "./incident-list";
import { all, elsewhere, find, isReport, loaded, openCount, passing, shown } from "./incidents";
import { Help, listenToKeys } from "./keys";
import { announcement, connection, start, status } from "./live";
import { open, report, unreadable } from "./report";
import { ScoresChart } from "./scores";
import { MapOfTemplates } from "./template-map";
import { TemplatesPage } from "./templates-page";
import { printing } from "./theme";
import { Timeline } from "./timeline";
import { TokenDialog } from "./token";
import "./theme.css";
import "./layout.css";
import "./incident.css";
import "./pages.css";
import "./narrow.css";

function Page() {
  const { page, id } = place.value;
  useLayoutEffect(() => {
    window.scrollTo({ top: scrollOf(place.peek()), behavior: "instant" });
  }, [page, id]);
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>Skip to the content</a>
      <Header />
      <main id="main" tabIndex={-1}>{unreadable.value ? <p class="notice bad">{unreadable.value}</p> : <View />}</main>
      <div class="visually-hidden" aria-live="polite">{announcement.value}</div>
      <Help />
      <TokenDialog />
    </>
  );
}

// Not by the address, which says what is shown.
function skip(event: MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function View() {
  const { page } = place.value;
  if (printing.value && isReport.value && page !== "incident") {
    return (
      <>
        <Incidents />
        <Analysis />
      </>
    );
  }
  switch (page) {
    case "incident":
      return <IncidentView />;
    case "templates":
      return isReport.value ? <Incidents /> : <TemplatesPage />;
    case "feedback":
      return isReport.value ? <Incidents /> : <FeedbackPage />;
    case "analysis":
      return isReport.value && hasAnalysis(report.value) ? <Analysis /> : <Incidents />;
    case "incidents":
      return <Incidents />;
  }
}

function Incidents() {
  return (
    <>
      <h1 class="visually-hidden">Incidents</h1>
      <FilterBar />
      {passing.value.length > 0 && <Timeline />}
      {loaded.value && <Counted />}
      {shown.value.length > 0 ? <IncidentList /> : <Nothing />}
    </>
  );
}

function Nothing() {
  if (!loaded.value) return <p class="empty">{connection.value === "disconnected" ? "Nothing could be asked yet." : "Asking the agent …"}</p>;
  const isLearning = status.value?.phase === "PHASE_WARMING_UP" || status.value?.phase === "PHASE_FITTING";
  return (
    <div class="empty">
      <p>{elsewhere.value > 0 ? "No incident in this period." : all.value.length > 0 ? "No incident passes the filters." : "No incident yet."}</p>
      {isLearning && <p class="muted">Nothing is marked yet; the agent is {status.value?.detail}.</p>}
    </div>
  );
}

function Analysis() {
  const data = report.value;
  if (!data) return null;
  return (
    <div class="analysis">
      <h1 class={printing.value ? "" : "visually-hidden"}>Scores and map</h1>
      {data.scores && <ScoresChart of={data.scores} />}
      <div class="side-by-side">
        {data.map && data.map.templates.length > 0 && <MapOfTemplates of={data.map} />}
        {data.reconstruction_error && <ErrorChart of={data.reconstruction_error} />}
      </div>
    </div>
  );
}

effect(() => {
  const { page, id } = place.value;
  const here =
    page === "incident" ? (find(id)?.line.slice(0, 80) ?? id) : isReport.value ? (report.value?.inputs.join(", ") ?? "Report") : openCount.value > 0 ? `${openCount.value} open` : "";
  document.title = here ? `${here} · Harbinger` : "Harbinger";
});
window.addEventListener("beforeprint", () => (printing.value = true));
window.addEventListener("afterprint", () => (printing.value = false));
open();
listenToKeys();
start();
const root = document.getElementById("harbinger");
if (root) {
  // What stood there while a large report was read.
  root.textContent = "";
  render(<Page />, root);
}

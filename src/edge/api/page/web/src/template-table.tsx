// The templates of an incident: how often each was said, when, and what ties it to the others.
//
// What enters: an incident. What leaves: a table, numbered as the graph of evidence is. Promised: the order of templatesOf, so that numbers are
// the same everywhere; long texts are cut in sight, never in what is copied. Absent: templates beyond the 32 that are told.
import { useSignal } from "@preact/signals";
import { count, plural } from "./badges";
import { linkWords } from "./evidence";
import { templatesOf, textOr } from "./incidents";
import type { Incident, TemplateCount } from "./model";
import { severityOf } from "./severity";
import { Sparkline } from "./sparkline";

const AT_FIRST = 12;
// Texts that are longer may not fit into three lines.
const LONG = 190;

export function TemplateTable({ of, tell }: { of: Incident; tell: ((key: string) => void) | undefined }) {
  const all = useSignal(false);
  if (of.templates.length === 0) return null;
  const templates = templatesOf(of);
  const rows = all.value ? templates : templates.slice(0, AT_FIRST);
  return (
    <section class="part">
      <h2>What was said</h2>
      <table class="templates-of-incident" role="table" aria-label="Templates">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader" class="number"><span class="visually-hidden">Number in the graph</span>#</th>
            <th role="columnheader">Template</th>
            <th role="columnheader" class="number" title="Records; anomalous ones">Records</th>
            <th role="columnheader">Over time</th>
            {tell && <th role="columnheader"><span class="visually-hidden">Feedback</span></th>}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((template, index) => (
            <Row key={`${template.template_key}${index}`} row={index + 1} template={template} of={of} tell={tell} />
          ))}
        </tbody>
      </table>
      {of.templates.length > AT_FIRST && !all.value && (
        <button type="button" class="link" onClick={() => (all.value = true)}>
          Show all {of.templates.length} templates
        </button>
      )}
      {of.records_of_other_templates > 0 && <p class="muted">And {plural(of.records_of_other_templates, "record")} of other templates.</p>}
    </section>
  );
}

function Row(props: { row: number; template: TemplateCount; of: Incident; tell: ((key: string) => void) | undefined }) {
  const { row, template, of, tell } = props;
  const isContext = template.anomalous_records === 0;
  const severity = severityOf(template.severity_number);
  const spans = of.course?.records.length ?? 0;
  const whole = useSignal(false);
  return (
    <tr role="row" class={isContext ? "context" : ""}>
      <td role="cell" class="number muted">{row}</td>
      <td role="cell" class="said">
        <div dir="auto" class={`said-text ${whole.value ? "" : "clamp-3"}`} title={template.text.slice(0, 4000)}>{textOr(template.text, template.template_key)}</div>
        <div class="muted said-about">
          {template.text.length > LONG && (
            <button type="button" class="link" aria-expanded={whole.value} onClick={() => (whole.value = !whole.value)}>
              {whole.value ? "less" : "all of it"}
            </button>
          )}
          {isContext ? <span>context</span> : template.severity_number ? <span class={`severity-word severity-${severity.name}`}>{severity.word}</span> : null}
          {template.service && <span>{template.service}</span>}
          {template.link ? <span>{linkWords(template.link, templatesOf(of))}</span> : !isContext && spans > 0 ? <span>began it</span> : null}
        </div>
      </td>
      <td role="cell" class="number amount">
        <b>{count(template.records)}</b>
        {!isContext && template.anomalous_records !== template.records && <span class="muted"> {count(template.anomalous_records)} anomalous</span>}
      </td>
      <td role="cell" class="over-time">
        {template.course && template.course.length > 0 && of.course && (
          <Sparkline records={template.course} spanMs={of.course.span_seconds * 1000} spans={spans} class={isContext ? "severity-unknown" : `severity-${severity.name}`} />
        )}
      </td>
      {tell && (
        <td role="cell" class="tell">
          <button type="button" class="quiet" aria-label={`Feedback on template ${row}`} onClick={() => tell(template.template_key)}>Feedback</button>
        </td>
      )}
    </tr>
  );
}

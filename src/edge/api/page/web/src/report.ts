// The data that stands in the page itself, when it is a report.
//
// What enters: the text of the element `harbinger-data`. What leaves: the report, and its incidents into incidents.ts.
// Promised: `null` means live; data that is not understood is told, not guessed at. Absent: any request.
import { signal } from "@preact/signals";
import { isReport, loaded, put } from "./incidents";
import type { Report } from "./model";

export const report = signal<Report | undefined>(undefined);
// Why the data cannot be shown.
export const unreadable = signal("");

export function open(): void {
  const text = document.getElementById("harbinger-data")?.textContent ?? "null";
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    isReport.value = true;
    unreadable.value = `The data of this report is damaged (${String(error)}); make it anew.`;
    return;
  }
  if (data === null) return;
  isReport.value = true;
  const read = data as Report;
  if (read.kind !== "report" || read.version !== 1) {
    unreadable.value = `This page reads reports of version 1; its data is ${String(read.kind)} of version ${String(read.version)}. Make it anew.`;
    return;
  }
  report.value = read;
  put(read.incidents);
  loaded.value = true;
}

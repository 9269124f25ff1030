// Keys that work anywhere on the page, and the window that lists them.
//
// What enters: key presses. What leaves: a step somewhere else. Promised: nothing happens while one types, nor with Ctrl, Alt or Meta; the list below is
// made of what is handled. Absent: keys of single parts (the list, the time line and the map handle their own).
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { go, place } from "./address";
import { isReport } from "./incidents";
import { pause, paused } from "./live";

export const helpIsOpen = signal(false);

const KEYS: [keys: string, does: string, live?: boolean][] = [
  ["/", "search"],
  ["↑ ↓", "step through the list, once a line of it has the focus (also PageUp, PageDown, Home, End)"],
  ["j", "go to the list"],
  ["Enter", "open"],
  ["Esc", "go back to the list"],
  ["t", "go to the time line; there + − zoom, ← → move, 0 shows all"],
  ["i", "incidents"],
  ["k", "known templates", true],
  ["f", "feedback that was given", true],
  ["s", "scores and map", false],
  ["p", "pause or resume", true],
  ["?", "this list"],
];

function isTyping(element: Element | null): boolean {
  return element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement || element instanceof HTMLSelectElement;
}

function focusOn(selector: string): boolean {
  const element = document.querySelector<HTMLElement>(selector);
  element?.focus();
  return element !== null;
}

function onKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const target = document.activeElement;
  if (event.key === "Escape") {
    if (isTyping(target)) (target as HTMLElement).blur();
    else if (place.peek().page !== "incidents") go({ page: "incidents" });
    return;
  }
  if (isTyping(target)) return;
  const live = !isReport.peek();
  const act: Record<string, () => unknown> = {
    "/": () => focusOn("#search") || (go({ page: "incidents" }), requestAnimationFrame(() => focusOn("#search"))),
    "?": () => (helpIsOpen.value = true),
    j: () => focusOn(".incidents tbody a[tabindex='0']"),
    t: () => focusOn(".timeline-picture"),
    i: () => go({ page: "incidents" }),
    ...(live
      ? { k: () => go({ page: "templates" }), f: () => go({ page: "feedback" }), p: () => pause(!paused.peek()) }
      : { s: () => go({ page: "analysis" }) }),
  };
  const does = act[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

export function listenToKeys(): void {
  window.addEventListener("keydown", onKey);
}

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOpen = helpIsOpen.value;
  useEffect(() => {
    if (isOpen && !dialog.current?.open) dialog.current?.showModal();
  }, [isOpen]);
  if (!isOpen) return null;
  return (
    <dialog ref={dialog} aria-labelledby="keys-heading" onClose={() => (helpIsOpen.value = false)} onClick={(event) => event.target === dialog.current && dialog.current?.close()}>
      <h2 id="keys-heading">Keys</h2>
      <dl class="keys">
        {KEYS.filter(([, , live]) => live === undefined || live !== isReport.value).map(([keys, does]) => (
          <div key={keys}>
            <dt>{keys.split(" ").map((key) => <kbd key={key}>{key}</kbd>)}</dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <button type="button" class="primary" onClick={() => dialog.current?.close()}>Close</button>
    </dialog>
  );
}

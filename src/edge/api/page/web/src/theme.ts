// Dark or light: as the system has it, until the reader chooses; and the colours of the style sheet for what is drawn on canvas.
//
// What enters: the reader's choice, the system's preference. What leaves: the attribute `data-theme` of the document, and colours by the
// names they have in theme.css. Promised: canvases are painted again when it changes. Absent: colours (theme.css).
import { effect, signal } from "@preact/signals";
import { remembered } from "./remembered";

// "", dark or light.
export const chosen = remembered("theme", "");
const system = window.matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(system.matches);
system.addEventListener("change", (event) => (systemIsDark.value = event.matches));
// Paper is white.
export const printing = signal(false);

export function isDark(): boolean {
  if (printing.value) return false;
  return chosen.value ? chosen.value === "dark" : systemIsDark.value;
}

let colours = new Map<string, string>();
effect(() => {
  document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
  colours = new Map();
});

// A colour of theme.css; reading it in a component or an effect subscribes to changes of the theme.
export function colour(name: string): string {
  isDark();
  let value = colours.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    colours.set(name, value);
  }
  return value;
}

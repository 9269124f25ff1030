// Small choices that outlast a visit: theme, zone, author; and, for as long as the tab is open, the token.
//
// What enters: a name and what it is at first. What leaves: a signal. Promised: where the browser keeps nothing (a report
// from a file, a strict profile) it works as well, and is forgotten. Absent: anything about incidents.
import { effect, signal, type Signal } from "@preact/signals";

export function remembered(name: string, atFirst: string, whereName: "localStorage" | "sessionStorage" = "localStorage"): Signal<string> {
  const key = `harbinger.${name}`;
  let where: Storage | undefined;
  let kept: string | null = null;
  try {
    where = window[whereName];
    kept = where.getItem(key);
  } catch {
    where = undefined;
  }
  const value = signal(kept ?? atFirst);
  effect(() => {
    const now = value.value;
    try {
      if (now === atFirst) where?.removeItem(key);
      else where?.setItem(key, now);
    } catch {
      where = undefined;
    }
  });
  return value;
}

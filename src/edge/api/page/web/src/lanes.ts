// Lays incidents out in lanes, so that those which overlap in time stand beneath one another.
//
// What enters: spans of time, how many lanes there are, how long a pixel is. What leaves: a lane for each, or none where all
// are taken. Promised: no two in one lane overlap; depends on the scale only, not on where the view stands, so that panning
// moves nothing up or down; the gravest and largest get a lane first when not all can. Absent: drawing.

export interface Span {
  first: number;
  last: number;
  // Higher gets a lane first.
  weight: number;
}

export interface Layout {
  // Of each span in the order given; -1 where there was no room.
  lane: Int16Array;
  lanes: number;
  crowded: number;
}

export function layOut(spans: readonly Span[], mostLanes: number, leastMs: number): Layout {
  const inTime = spans.map((_, index) => index).sort((a, b) => (spans[a]?.first ?? 0) - (spans[b]?.first ?? 0));
  const simple = inOrderOfTime(spans, inTime, mostLanes, leastMs);
  return simple ?? inOrderOfWeight(spans, mostLanes, leastMs);
}

function inOrderOfTime(spans: readonly Span[], order: number[], mostLanes: number, leastMs: number): Layout | undefined {
  const lane = new Int16Array(spans.length);
  const free: number[] = [];
  for (const index of order) {
    const span = spans[index];
    if (!span) continue;
    let at = free.findIndex((end) => end <= span.first);
    if (at < 0) {
      if (free.length >= mostLanes) return undefined;
      at = free.push(0) - 1;
    }
    free[at] = Math.max(span.last, span.first + leastMs);
    lane[index] = at;
  }
  return { lane, lanes: free.length, crowded: 0 };
}

function inOrderOfWeight(spans: readonly Span[], mostLanes: number, leastMs: number): Layout {
  const lane = new Int16Array(spans.length).fill(-1);
  const order = spans.map((_, index) => index);
  order.sort((a, b) => (spans[b]?.weight ?? 0) - (spans[a]?.weight ?? 0) || (spans[a]?.first ?? 0) - (spans[b]?.first ?? 0));
  // Of each lane: starts and ends of what is in it, in order of time.
  const taken = Array.from({ length: mostLanes }, () => ({ starts: [] as number[], ends: [] as number[] }));
  let crowded = 0;
  for (const index of order) {
    const span = spans[index];
    if (!span) continue;
    const end = Math.max(span.last, span.first + leastMs);
    const at = taken.findIndex(({ starts, ends }) => {
      const place = firstAbove(starts, span.first);
      if ((ends[place - 1] ?? -Infinity) > span.first || (starts[place] ?? Infinity) < end) return false;
      starts.splice(place, 0, span.first);
      ends.splice(place, 0, end);
      return true;
    });
    lane[index] = at;
    if (at < 0) crowded++;
  }
  return { lane, lanes: mostLanes, crowded };
}

function firstAbove(sorted: number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

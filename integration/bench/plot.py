"""A picture of the table: bars, as SVG by hand, because a plotting library would be the largest thing `make bench` installs.

In: parts, each with hops and their rounds. Out: an SVG document. Promise: a bar is a median, the thin line on it the least and the
most of the rounds. Deliberately absent: anything interactive.
"""

from html import escape

from .rounds import median

WIDTH, LABEL, ROW, GAP = 900, 210, 18, 34
COLOURS = {"harbinger": "#d9480f", "harbinger, mode off": "#f4a261"}
OTHER = "#8a94a6"


def bars(parts):
    """Records per core second, a group of bars for each part that has them."""
    rows, height = [], 40
    for part, measured in parts.items():
        rated = {hop: rounds for hop, rounds in measured.items() if median(rounds, "per_core_s")}
        if not rated:
            continue
        rows.append(f'<text x="10" y="{height}" class="part">{escape(part)}</text>')
        height += 8
        most = max(measure["per_core_s"] for rounds in rated.values() for measure in rounds)
        for hop, rounds in rated.items():
            rate, span = median(rounds, "per_core_s"), [measure["per_core_s"] for measure in rounds]
            scale = (WIDTH - LABEL - 110) / most
            end, middle = LABEL + rate * scale, height + ROW / 2
            rows.append(
                f'<text x="{LABEL - 8}" y="{height + 13}" class="hop">{escape(hop)}</text>'
                f'<rect x="{LABEL}" y="{height + 2}" width="{rate * scale:.1f}" height="{ROW - 5}" fill="{COLOURS.get(hop, OTHER)}"/>'
                f'<line x1="{LABEL + min(span) * scale:.1f}" x2="{LABEL + max(span) * scale:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
                f'<text x="{end + 26:.1f}" y="{height + 13}">{rate / 1000:,.0f}k</text>')
            height += ROW
        height += GAP
    style = ("text{font:12px sans-serif;fill:#222}.part{font-weight:bold}.hop{text-anchor:end}line{stroke:#222;stroke-width:1}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
            f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
            f'<text x="10" y="18">Records per second of the hop\'s CPU</text>{"".join(rows)}</svg>\n')

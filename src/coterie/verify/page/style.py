"""What this page adds to the colours and fonts of the simulator's diagrams."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
header.observed { border-color: var(--fail); }
table { border-collapse: collapse; margin: 6px 0; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 13px; }
th, td { padding: 3px 18px 3px 0; vertical-align: top; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.kept { color: var(--op); } td.broken { color: var(--witness); font-weight: 700; }
td.observed, td.undecided { color: var(--fail); } td.not_observed { color: var(--soft); }
td.why { color: var(--soft); }
.bar-ok { fill: var(--op); } .bar-failed { fill: var(--fail); } .bar-unknown { fill: var(--unknown); }
.fault-zone { fill: var(--fault); fill-opacity: .13; }
.fault-tag { fill: var(--fault); fill-opacity: .85; }
svg .fault-tag-name { fill: #fff; stroke: none; font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 1; } .grid.soft { stroke-dasharray: 2 5; }
svg .lane-name { font-size: 12.5px; font-weight: 700; } svg .scale { fill: var(--soft); font-size: 9.5px; }
.latency { fill: none; stroke-width: 1.4; } .latency.p50 { stroke: var(--call); }
.latency.p99 { stroke: var(--call); stroke-opacity: .45; }
.stage { stroke: var(--soft); stroke-dasharray: 3 3; }
.key { font-size: 13px; color: var(--soft); } .key b { font-weight: 600; }
.key .ok { color: var(--op); } .key .failed { color: var(--fail); } .key .unknown { color: var(--unknown); }
.key .latency-name { color: var(--call); }
section.witness h3 { font-size: 15px; margin: 14px 0 2px; } section.witness h3 span { color: var(--witness); }
svg .bar-label { font-size: 11px; }
""".strip()

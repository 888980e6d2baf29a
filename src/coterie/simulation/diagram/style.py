"""The colours and fonts of the page."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark;
  --ground: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #667080; --line: #c9d0d9;
  --call: #3b6fd4; --handler: #8fb0ee; --op: #2f9e77; --fail: #d98a1f; --unknown: #b45bd0;
  --witness: #d1242f; --fault: #e8590c; --frame: #f2c94c; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14171c; --panel: #1c2128; --ink: #e6e9ee; --soft: #96a0ae; --line: #3a424e;
  --call: #7aa7ff; --handler: #45629c; --op: #4fc79a; --fail: #e7a94a; --unknown: #cf8ae6;
  --witness: #ff6b6b; --fault: #ff9255; --frame: #8a7430; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1500px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header { border-left: 5px solid var(--op); padding: 2px 0 2px 16px; margin-bottom: 20px; }
header.violated, header.crashed { border-color: var(--witness); }
header.inconclusive { border-color: var(--fail); }
h1 { font-size: 22px; margin: 2px 0 6px; } h2 { font-size: 16px; margin: 22px 0 4px; }
p { margin: 4px 0; } .title, .facts, .hint { color: var(--soft); font-size: 13px; }
.message { font-size: 16px; max-width: 110ch; }
pre { background: var(--panel); padding: 10px 12px; border-radius: 6px; overflow-x: auto;
  font: 12.5px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 8px 0; }
.faults { list-style: none; padding: 0; margin: 4px 0; } .faults li { margin: 3px 0; }
.chip { font-size: 12px; font-weight: 600; color: var(--fault); border: 1px solid var(--fault);
  border-radius: 10px; padding: 1px 8px; margin-right: 4px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; margin: 6px 0;
  font-size: 13px; color: var(--soft); } .legend svg { vertical-align: -1px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--panel);
  padding: 8px; }
svg text { font: 10.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace; fill: var(--ink); }
svg text { paint-order: stroke; stroke: var(--panel); stroke-width: 3px; stroke-linejoin: round; }
svg.fluid { width: 100%; height: auto; }
svg .host-name { font-size: 12.5px; font-weight: 700; }
svg .time, svg .gap { fill: var(--soft); font-size: 10px; }
svg .fault-name { fill: var(--fault); font-weight: 700; font-size: 10.5px; }
.life { stroke: var(--line); stroke-width: 2; } .axis { stroke: var(--soft); }
.down { stroke: var(--panel); stroke-width: 4; stroke-dasharray: 3 4; }
.down.wide { stroke-width: 5; }
.cross { stroke: var(--witness); stroke-width: 2; }
.window { fill: var(--frame); fill-opacity: .16; stroke: var(--frame); }
.gap-line { stroke: var(--line); stroke-dasharray: 1 5; }
.band { fill: var(--fault); fill-opacity: .22; stroke: var(--fault); stroke-opacity: .55; }
.fault-line { stroke: var(--fault); stroke-opacity: .35; stroke-dasharray: 4 4; }
.tick { stroke: var(--op); stroke-opacity: .55; } .tick.fail { stroke: var(--fail); }
.tick.unknown { stroke: var(--unknown); stroke-opacity: 1; stroke-width: 1.6; }
polygon.witness { fill: var(--witness); stroke: var(--ground); }
.span { stroke: var(--panel); stroke-width: 1; }
.span.operation { fill: var(--op); } .span.call { fill: var(--call); } .span.handler { fill: var(--handler); }
.span.fail { fill: var(--fail); } .span.unknown { fill: var(--unknown); }
.span.witness { fill: var(--witness); stroke: var(--witness); stroke-width: 2; }
.label.handler { fill: var(--soft); } svg .label.witness { fill: var(--witness); font-weight: 700; }
svg .unknown-mark { fill: var(--unknown); font-weight: 700; }
.arrow { stroke-width: 1.2; stroke: var(--call); } .arrow.reply { stroke: var(--handler); }
.arrow.store { stroke: var(--op); stroke-opacity: .45; } .arrow.packet { stroke: var(--soft); }
.arrow.lost { stroke: var(--unknown); stroke-dasharray: 4 3; stroke-opacity: 1; }
.head.call path { fill: var(--call); } .head.reply path { fill: var(--handler); }
.head.store path { fill: var(--op); fill-opacity: .6; } .head.packet path { fill: var(--soft); }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
""".strip()

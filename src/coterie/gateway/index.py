"""The page at `/`: what services there are, as HTML for people and as JSON for programs.

The page is one self-contained file that loads nothing from elsewhere, and may not: its content
policy allows its own style and script, by their hashes, and calls of its own origin.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

import msgspec

from ..codec import type_name
from ..services.spec import MethodSpec, ServiceSpec
from .backend import Backend
from .config import GatewayConfig
from .openapi import openapi

__all__ = ["content_policy", "html_index", "json_index"]

_MAX_DEPTH = 6

_STYLE = """
:root { color-scheme: light dark; --fg: #1c2430; --dim: #667085; --bg: #fafafa; --card: #fff;
        --line: #e4e7ec; --hot: #0e7490; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e6e9ef; --dim: #98a2b3; --bg: #12151b; --card: #1a1f27; --line: #2c333f; --hot: #22d3ee; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem; }
h1 { margin: 0; font-size: 1.75rem; }
h2 { margin: 2.25rem 0 0; font-size: 1.2rem; }
p { margin: .25rem 0 .75rem; color: var(--dim); white-space: pre-line; }
a { color: var(--hot); }
nav a { margin-right: 1rem; }
details { margin: .5rem 0; padding: .65rem .9rem; background: var(--card);
          border: 1px solid var(--line); border-radius: .6rem; }
summary { cursor: pointer; }
code, textarea, pre { font: 13.5px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
summary code { color: var(--dim); }
summary b { color: var(--hot); font: 600 14.5px ui-monospace, monospace; }
textarea { width: 100%; padding: .6rem; color: var(--fg); background: var(--bg);
           border: 1px solid var(--line); border-radius: .4rem; resize: vertical; }
button { margin: .5rem 0; padding: .35rem 1rem; color: var(--bg); background: var(--hot);
         border: 0; border-radius: .4rem; font: inherit; cursor: pointer; }
pre { margin: 0; max-height: 24rem; overflow: auto; white-space: pre-wrap; }
"""

_SCRIPT = """
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, out = form.querySelector("pre"), button = form.querySelector("button");
  button.disabled = true;
  out.textContent = "…";
  const started = performance.now();
  try {
    const reply = await fetch(form.getAttribute("action"), {
      method: "POST", headers: {"Content-Type": "application/json"},
      body: form.querySelector("textarea").value});
    const head = () => reply.status + " · " + Math.round(performance.now() - started) + " ms\\n";
    const reader = reply.body.getReader(), decoder = new TextDecoder();
    let text = "";
    for (let part; !(part = await reader.read()).done; out.textContent = head() + text)
      text += decoder.decode(part.value, {stream: true});
    if ((reply.headers.get("content-type") || "").endsWith("json")) {
      try { text = JSON.stringify(JSON.parse(text), null, 2); } catch {}
    }
    out.textContent = head() + text;
  } catch (error) { out.textContent = String(error); }
  button.disabled = false;
});
"""


def content_policy() -> bytes:
    """Return the Content-Security-Policy of the page."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (_STYLE, _SCRIPT)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ).encode()


def json_index(backend: Backend, root: str) -> dict[str, Any]:
    """Return what there is, with the paths below `root` at which it is found."""
    return {
        "app": backend.app_name,
        "node": backend.name,
        "services": {
            service.name: {
                method.name: {
                    "path": f"{root}/{service.name}/{method.name}",
                    "parameters": {p.name: type_name(p.type) for p in method.parameters},
                    "returns": type_name(method.returns),
                    "stream": method.streaming,
                }
                for method in service.methods.values()
            }
            for service in backend.services.values()
        },
        "links": {name: f"{root}/{name}" for name in _LINKS},
    }


_LINKS = ("openapi.json", "healthz", "readyz", "metrics")


def html_index(backend: Backend, config: GatewayConfig, root: str) -> bytes:
    """Return the page, in UTF-8."""
    document = openapi(backend, config, root)
    title = escape(backend.app_name)
    links = "".join(f'<a href="{escape(root)}/{name}">{name}</a>' for name in _LINKS)
    services = "".join(_service(service, document, root) for service in backend.services.values())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>node {escape(backend.name)}</p><nav>{links}</nav>{services}</main>"
        f"<script>{_SCRIPT}</script></body></html>"
    ).encode()


def _service(service: ServiceSpec, document: dict[str, Any], root: str) -> str:
    methods = "".join(_method(method, document, root) for method in service.methods.values())
    return f"<section><h2>{escape(service.name)}</h2><p>{escape(service.doc)}</p>{methods}</section>"


def _method(method: MethodSpec, document: dict[str, Any], root: str) -> str:
    operation = document["paths"][f"/{method.service}/{method.name}"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    body = msgspec.json.format(msgspec.json.encode(_example(schema, document)), indent=2).decode()
    shown = ", ".join(f"{p.name}: {type_name(p.type)}" for p in method.parameters)
    returns = f"{'stream of ' if method.streaming else ''}{type_name(method.returns)}"
    rows = min(body.count("\n") + 1, 16)
    return (
        f"<details><summary><b>{escape(method.name)}</b> <code>({escape(shown)}) → {escape(returns)}</code>"
        f"</summary><p>{escape(method.doc)}</p>"
        f'<form action="{escape(root)}/{escape(method.service)}/{escape(method.name)}">'
        f'<textarea rows="{rows}" spellcheck="false" aria-label="arguments">{escape(body)}</textarea>'
        "<button>Call</button><pre></pre></form></details>"
    )


def _example(schema: Any, document: dict[str, Any], depth: int = 0) -> Any:
    """Return a value that `schema` describes, for a person to change; not always a valid one."""
    if depth > _MAX_DEPTH or not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return _example(schema, document, depth + 1)
    for known in ("default", "const"):
        if known in schema:
            return schema[known]
    for several in ("enum", "anyOf", "oneOf", "allOf"):
        if schema.get(several):
            first = schema[several][0]
            return first if several == "enum" else _example(first, document, depth + 1)
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties[name], document, depth + 1) for name in schema.get("required", ())}
    return {"array": [], "integer": 1, "number": 1, "boolean": False, "null": None}.get(
        schema.get("type", ""), ""
    )

"""What events say, in a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def event_text(kind: str, fields: Mapping[str, Any]) -> str | None:
    """An event in words; None for those that say nothing that is not shown anyway."""
    worker, block = fields.get("worker"), fields.get("block")
    match kind:
        case "join":
            where = ", ".join(str(fields[key]) for key in ("name", "device") if fields.get(key))
            return f"worker {worker} joined ({where})"
        case "leave":
            return f"worker {worker} left{_why(fields)}"
        case "disconnect":
            return f"worker {worker} is away{_why(fields)}"
        case "rejoin":
            return f"worker {worker} is back"
        case "exit":
            return f"worker {worker} {fields.get('how')}"
        case "error":
            return f"block {block} failed on worker {worker}: {fields.get('error')}"
        case "failed":
            return f"block {block} is given up: {fields.get('error')}"
        case "skipped" | "filled":
            return f"block {block} is {kind}: {fields.get('note')}"
        case "scale":
            return f"{fields.get('workers')} workers are wanted; it was {fields.get('before')}"
    return None


def _why(fields: Mapping[str, Any]) -> str:
    return f": {fields['why']}" if fields.get("why") else ""

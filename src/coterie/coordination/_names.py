"""Names as parts of keys. Pure."""

from __future__ import annotations

from ..errors import InvalidArgument

__all__ = ["checked_name", "quoted", "unquoted"]

_MAX_NAME = 200


def checked_name(what: str, name: str) -> str:
    """Return `name`; raise `InvalidArgument` unless it is text that can be part of a key."""
    if type(name) is not str or not 0 < len(name.encode("utf-8", "replace")) <= _MAX_NAME or "\0" in name:
        raise InvalidArgument(
            f"the name of {what} must be text of 1 to {_MAX_NAME} bytes without NUL, not {name!r:.60}"
        )
    return name


def quoted(name: str) -> str:
    """Return `name` without a slash, so that the keys of one never lie under the prefix of another."""
    return name.replace("%", "%25").replace("/", "%2F")


def unquoted(text: str) -> str:
    """Undo `quoted`."""
    return text.replace("%2F", "/").replace("%25", "%")

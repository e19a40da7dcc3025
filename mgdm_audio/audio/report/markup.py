"""What every page is written with: escaped text, numbers, and its security policy."""

import base64
import hashlib
from html import escape
from importlib.resources import files


def resource(name: str, package: str | None = None) -> str:
    """The text of a file beside this one, or of another package."""
    return (files(package or __package__) / name).read_text(encoding="utf-8")


def content_security_policy(style: str, script: str = "", *more: str) -> str:
    """Nothing may load or run but this style and script, and pictures within the page.

    ``more``: rules that are added.
    """
    rules = ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'", *more]
    for kind, text in (("style", style), ("script", script)):
        if text:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            rules.append(f"{kind}-src 'sha256-{digest}'")
    return "; ".join(rules)


def text_of(value: object) -> str:
    """Escaped for HTML, in attributes too; bytes of a file name that are no UTF-8 become "?"."""
    return escape(str(value).encode(errors="replace").decode())


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths, rounded down."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def decibels(value: float | None) -> str:
    """With one digit, or a dash."""
    return "–" if value is None else f"{value:.1f}".replace("-", "−")  # noqa: RUF001

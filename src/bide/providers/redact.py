"""Takes out of an upstream's words what is nobody's business.

Two degrees. A caller may not see keys, accounts, addresses of people or signed URLs (`for_caller`). An
operator sees the upstream's own words, but no key (`secrets`): attempt records are kept and copied.
"""

import re

MESSAGE_MAX = 500
"""Characters of a message for a caller."""

_REMOVED = "[removed]"

_SECRETS = (
    re.compile(r"\b(?:sk|pk|rk|ak|gsk|xai|hf|r8|fal|key|tok|whsec)[-_][A-Za-z0-9_*.\-]{6,}"),
    re.compile(r"\bAIza[A-Za-z0-9_\-]{20,}"),
    re.compile(r"\beyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-.]+"),
    re.compile(r"(?i)(?<=\bbearer )\s*[A-Za-z0-9_\-.~+/=*]{6,}"),
    re.compile(
        r"(?i)(?:api[ _-]?key(?: provided)?|access[ _-]?token|secret|password|authorization)"
        r"[\"']?\s*[:=]\s*[\"']?(?!bearer\b)([A-Za-z0-9_\-.~+/=*]{6,})"
    ),
)
_ACCOUNTS = (
    re.compile(r"\b(?:org|proj|acct|user|team|cus|sub|tenant)[-_](?=[A-Za-z0-9]*[0-9])[A-Za-z0-9]{6,}"),
    re.compile(
        r"(?i)\b(?:account|organi[sz]ation|project|subscription|tenant|team|user)s?(?: id)?[\s:=#\"'`(]+"
        r"([A-Fa-f0-9]{8}-[A-Fa-f0-9-]{20,}|[0-9]{6,})"
    ),
    re.compile(r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+"),
)
_URL_TAIL = re.compile(r"(?i)(\bhttps?://)(?:[^\s/@\"'<>]{1,200}@)?([^\s?#\"'<>]+)[?#][^\s\"'<>]+")
_URL_USER = re.compile(r"(?i)(\bhttps?://)[^\s/@\"'<>]{1,200}@")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")


def secrets(text: str, key: str = "") -> str:
    """`text` without keys and bearer tokens; `key` is the channel's own, in whatever form."""
    if len(key) >= 6:
        text = text.replace(key, _REMOVED)
    for pattern in _SECRETS:
        text = pattern.sub(_remove, text)
    return text


def for_caller(text: str, key: str = "") -> str:
    """One line of at most `MESSAGE_MAX` characters without keys, accounts, mail addresses, signed URLs."""
    text = _SPACE.sub(" ", text[: 8 * MESSAGE_MAX]).strip()
    text = _URL_TAIL.sub(rf"\1\2?{_REMOVED}", text)
    text = _URL_USER.sub(r"\1", text)
    text = secrets(text, key)
    for pattern in _ACCOUNTS:
        text = pattern.sub(_remove, text)
    return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 1] + "…"


def _remove(found: re.Match[str]) -> str:
    """Replaces the group if the pattern has one, else all that was found."""
    group = found.lastindex or 0
    start, end = found.start(group) - found.start(), found.end(group) - found.start()
    return found.group()[:start] + _REMOVED + found.group()[end:]

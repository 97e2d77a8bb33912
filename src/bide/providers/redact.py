"""Takes out of an upstream's words what is nobody's business.

Two degrees. A caller may not see keys, accounts, addresses of people or signed URLs (`for_caller`). An
operator sees the upstream's own words, but no key (`secrets`): attempt records are kept and copied.
"""

import re

MESSAGE_MAX = 500
"""Characters of a message for a caller."""

_REMOVED = "[removed]"

_TEXT_MAX = 6_144

# A repetition without a bound is possessive (`{6,}+`): it never gives back what it took. And none can begin anew
# within what it has just passed over in vain. So each pattern costs one pass, whatever the text is.
_SECRETS = (
    re.compile(r"\b(?:sk|pk|rk|ak|gsk|xai|hf|r8|fal|key|tok|whsec)[-_][A-Za-z0-9_*.\-]{6,}+"),
    re.compile(r"\bAIza[A-Za-z0-9_\-]{20,}+"),
    re.compile(r"\beyJ[A-Za-z0-9_\-.]{8,}+"),  # what JSON in base64 begins with, with dots or without
    re.compile(r"(?i)(?<=\bbearer )\s{0,40}+[A-Za-z0-9_\-.~+/=*]{6,}+"),
    # an address's user, and what a proxy is told: both stand in what aiohttp raises
    re.compile(r"(?<=://)[^\s/?#@'\"<>]{1,}+(?=@)"),
    re.compile(r"(?i)(?<=authorization)[\"']?\s{0,40}+[:=]\s{0,40}+[\"']?basic\s{1,40}+([A-Za-z0-9+/=_\-]{1,}+)"),
    re.compile(
        r"(?i)(?:api[ _-]?key(?: provided)?|access[ _-]?token|secret|password|authorization)"
        r"[\"']?\s{0,40}+[:=]\s{0,40}+[\"']?(?!bearer\b)([A-Za-z0-9_\-.~+/=*]{6,}+)"
    ),
)
_ACCOUNTS = (
    re.compile(r"\b(?:org|proj|acct|user|team|cus|sub|tenant)[-_](?=[A-Za-z]{0,}+[0-9])[A-Za-z0-9]{6,}+"),
    re.compile(
        r"(?i)\b(?:account|organi[sz]ation|project|subscription|tenant|team|user)s?(?: id)?[\s:=#\"'`(]{1,40}+"
        r"([A-Fa-f0-9]{8}-[A-Fa-f0-9-]{20,}+|[0-9]{6,}+)"
    ),
    re.compile(r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,}+@[A-Za-z0-9\-]{1,}+(?:\.[A-Za-z0-9\-]{1,}+){1,}+"),
)
_URL = re.compile(r"(?i)\b(https?://)([^\s\"'<>]{1,}+)")
_URL_TAIL = re.compile(r"[?#]")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]{1,}+")


def secrets(text: str, key: str = "") -> str:
    """`text`, at most 6 KiB of it, without keys and bearer tokens; `key` is the channel's own, in whatever form."""
    if len(key) >= 6:
        text = text.replace(key, _REMOVED)
    text = text[:_TEXT_MAX]
    for pattern in _SECRETS:
        text = pattern.sub(_remove if pattern.groups else _REMOVED, text)
    return text


def for_caller(text: str, key: str = "") -> str:
    """One line of at most `MESSAGE_MAX` characters without keys, accounts, mail addresses, signed URLs."""
    text = _SPACE.sub(" ", text[: 8 * MESSAGE_MAX]).strip()
    text = _URL.sub(_plain_url, text)
    text = secrets(text, key)
    for pattern in _ACCOUNTS:
        text = pattern.sub(_remove if pattern.groups else _REMOVED, text)
    return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 1] + "…"


def _plain_url(found: re.Match[str]) -> str:
    """A URL without its user and without what follows `?` or `#`."""
    scheme, rest = found.groups()
    authority, slash, path = rest.partition("/")
    rest = authority.rpartition("@")[2] + slash + path
    tail = _URL_TAIL.search(rest)
    if tail and tail.end() < len(rest):
        rest = f"{rest[: tail.start()]}?{_REMOVED}"
    return f"{scheme}{rest}"


def _remove(found: re.Match[str]) -> str:
    """Replaces the pattern's group in what was found."""
    start, end = found.start(1) - found.start(), found.end(1) - found.start()
    return found.group()[:start] + _REMOVED + found.group()[end:]

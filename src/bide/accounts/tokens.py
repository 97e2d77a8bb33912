"""Tokens: how they look, and the only form in which they are kept.

A token has 128 random bits or more, so a plain SHA-256 of it cannot be searched backwards; the row is found
by that hash, which tells a guesser nothing about how close it was, and compared once more in constant time.
"""

import hashlib
import hmac

PLATFORM_PREFIX = "platform-"
"""Tokens of the management API; they never work on the gateway."""

SHORTEST = 16
LONGEST = 256


def is_token(text: str) -> bool:
    """Whether an operator may choose this as a token: long enough, sendable in a header, not a management token."""
    fits = SHORTEST <= len(text) <= LONGEST and text.isascii() and text.isprintable() and " " not in text
    return fits and not text.startswith(PLATFORM_PREFIX)


def hashed(token: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    return hmac.compare_digest(one, other)

"""A channel that is configured while the gateway runs: from what was asked for to its row, and back.

Of its settings the row keeps as JSON what may be seen, and sealed what is secret: the key, the proxy if there is a
password in it, and options whose names say so. Where something secret was the JSON has `***`; asked for again as
`***`, it stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from bide.channels.load import check
from bide.channels.secrets import Sealer, SealError, end_of
from bide.channels.store import Kept
from bide.errors import BadRequest
from bide.providers import registry
from bide.settings import ChannelSettings, Settings, SettingsError

MASK = "***"
NAME_RULE = "a name has 1 to 64 letters, digits, `.`, `_` or `-`, a letter or digit first"
KEY_MAX = 16_384
"""Characters of a key: a service account's document is one, too."""
FIELDS = frozenset(ChannelSettings.__struct_fields__) - {"name"}
"""What may be asked for. `key_file` is not among what is kept: see `checked`."""

_DEFAULTS = {
    name: value for name, value in msgspec.to_builtins(ChannelSettings(name="", provider="")).items()
    if name not in ("name", "provider")
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"(?i)key|secret|token|password|credential|authorization")


def added(sealer: Sealer, name: str, asked: Mapping[str, Any], at_ms: int, *, disabled: bool = False) -> Kept:
    """The row of a new channel. Raises `BadRequest` with a sentence that names the field, or `SealError`."""
    if not _NAME.fullmatch(name):
        raise BadRequest(f"`name`: {NAME_RULE}.")
    empty = Kept(name, "{}", None, "", disabled, None, at_ms, at_ms)
    return _with(sealer, empty, checked({**asked, "name": name}))


def changed(sealer: Sealer, kept: Kept, asked: Mapping[str, Any]) -> Kept:
    """The row with other settings: those that are asked for, and nothing else. Raises as `added`."""
    shown = msgspec.json.decode(kept.settings)
    try:
        hidden = _hidden(sealer, kept)
    except SealError:
        if "key" not in asked:
            raise
        hidden = {}  # the secret key is lost; whoever sets the key again has what is needed
    before = _joined(shown, hidden)
    return _with(sealer, kept, checked({**before, **_unmasked(asked, before), "name": kept.name}))


def settings_of(sealer: Sealer, kept: Kept) -> ChannelSettings:
    """The settings of a row, with what is secret. Raises `SealError`, or `SettingsError` when this version of bide
    does not understand them."""
    try:
        values = _joined(msgspec.json.decode(kept.settings), _hidden(sealer, kept))
        return msgspec.convert(values, ChannelSettings)
    except msgspec.MsgspecError as error:
        raise SettingsError(str(error)) from None


def checked(values: Mapping[str, Any]) -> ChannelSettings:
    """Settings that make sense. Raises `BadRequest` with a sentence."""
    try:
        one = msgspec.convert(values, ChannelSettings)
        check(one)
    except (msgspec.ValidationError, SettingsError) as error:
        raise BadRequest(f"{error}.") from None
    if one.key_file:
        raise BadRequest("`key_file` is for `bide.toml` alone: give the key itself, it is kept sealed.")
    if urlsplit(one.base_url).password:
        raise BadRequest("`base_url` must not hold a password: that is what `key` and `options` are for.")
    if len(one.key) > KEY_MAX:
        raise BadRequest(f"`key` must have at most {KEY_MAX:,} characters.")
    if one.key.startswith("…") or _has_mask(one.options) or MASK in (one.key, _password(one.proxy)):
        raise BadRequest(f"`{MASK}` or `…` stands for a secret that is not known: give it anew.")
    return one


def shown(one: ChannelSettings, key_end: str | None = None) -> dict[str, Any]:
    """Settings for people: what is secret is masked, of the key its last characters."""
    values = msgspec.json.decode(_seen(one)[0])
    has_key = bool(one.key or one.key_file) if key_end is None else True
    end = end_of(one.key) if key_end is None else key_end
    key = f"…{end}" if has_key else None
    values = {**msgspec.to_builtins(one), **values, "key": key}
    del values["name"]
    if not one.key_file:
        del values["key_file"]
    return values


def shown_row(kept: Kept) -> dict[str, Any]:
    """The same of a row; no secret key is needed for it."""
    try:
        one = msgspec.convert(msgspec.json.decode(kept.settings), ChannelSettings)
    except msgspec.MsgspecError:  # of another version of bide
        return {"key": f"…{kept.key_end}" if kept.sealed else None, **msgspec.json.decode(kept.settings)}
    has_key = bool(one.key)
    return {**shown(msgspec.structs.replace(one, key="")), "key": f"…{kept.key_end}" if has_key else None}


def own(settings: Settings, rows: Sequence[Kept]) -> dict[str, tuple[ChannelSettings, bool]]:
    """The channels of the settings by name, and whether they take no work: so does the sandbox that answers where
    nothing is configured, as soon as there are `rows`."""
    default = not settings.channels
    drained = default and any(row.removed_at is None for row in rows)
    hidden = {row.name for row in rows} if default else set[str]()
    return {one.name: (one, drained) for one in registry.default_channels(settings) if one.name not in hidden}


def taken(there: Kept) -> str:
    """Why a name cannot be had."""
    if there.removed_at is None:
        return "`name`: there is a channel of that name."
    return "`name`: a channel of that name was removed, and its last work is not over yet."


# -- what is secret, and what is not


def holds_secret(one: Mapping[str, Any]) -> bool:
    """Whether options or a proxy that were asked for hold what is to be kept sealed."""
    return bool(_split(one.get("options") or {})[1]) or bool(_password(str(one.get("proxy") or "")))


def _with(sealer: Sealer, kept: Kept, one: ChannelSettings) -> Kept:
    text, hidden = _seen(one)
    sealed = sealer.seal(kept.name, msgspec.json.encode(hidden)) if hidden else None
    return replace(kept, settings=text, sealed=sealed, key_end=end_of(one.key))


def _seen(one: ChannelSettings) -> tuple[str, dict[str, Any]]:
    """The JSON of what may be seen (what is the default is left out), and what is secret."""
    values = {name: value for name, value in msgspec.to_builtins(one).items() if value != _DEFAULTS.get(name)}
    hidden: dict[str, Any] = {}
    if one.key:
        values["key"], hidden["key"] = MASK, one.key
    if _password(one.proxy):
        values["proxy"], hidden["proxy"] = _masked(one.proxy), one.proxy
    if one.options:
        values["options"], options = _split(one.options)
        if options:
            hidden["options"] = options
    return msgspec.json.encode(values).decode(), hidden


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    seen: dict[str, Any] = {}
    hidden: dict[str, Any] = {}
    for name, value in options.items():
        seen[name] = value
        if value and not isinstance(value, bool | int | float) and (
            _SECRET.search(name) or (isinstance(value, list) and _mentions_secret(value))
        ):
            seen[name], hidden[name] = MASK, value
        elif isinstance(value, dict):
            seen[name], inside = _split(value)
            if inside:
                hidden[name] = inside
    return seen, hidden


def _mentions_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_SECRET.search(name) or _mentions_secret(one) for name, one in value.items())
    return isinstance(value, list) and any(map(_mentions_secret, value))


def _hidden(sealer: Sealer, kept: Kept) -> dict[str, Any]:
    if kept.sealed is None:
        return {}
    hidden: dict[str, Any] = msgspec.json.decode(sealer.unseal(kept.name, kept.sealed))
    return hidden


def _joined(seen: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """What may be seen with what is secret in its places."""
    both = dict(seen)
    for name, value in hidden.items():
        there = seen.get(name)
        both[name] = _joined(there, value) if isinstance(value, dict) and isinstance(there, dict) else value
    return both


def _unmasked(asked: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, with what it leaves masked as it was before."""
    values, key, proxy = dict(asked), before.get("key"), before.get("proxy")
    if "key" in values:
        left = bool(key) and values["key"] in (MASK, f"…{end_of(str(key))}")
        values["key"] = key if left else values["key"] or ""
    if proxy and values.get("proxy") == _masked(str(proxy)):
        values["proxy"] = proxy
    if isinstance(values.get("options"), dict):
        values["options"] = _unmasked_options(values["options"], before.get("options"))
    return values


def _unmasked_options(asked: Any, before: Any) -> Any:
    if asked == MASK:
        return MASK if before is None else before
    if isinstance(asked, dict) and isinstance(before, dict):
        return {name: _unmasked_options(value, before.get(name)) for name, value in asked.items()}
    return asked


def _has_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_mask(one) for one in value.values())
    return bool(value == MASK)


def _password(address: str) -> str | None:
    try:
        return urlsplit(address).password
    except ValueError:
        return None


def _masked(address: str) -> str:
    """An address with its password masked."""
    parts = urlsplit(address)
    if not parts.password:
        return address
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{MASK}@{host}"))

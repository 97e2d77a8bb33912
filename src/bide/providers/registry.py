"""Finding the code of a dialect by its name.

A name is a module of this package, or an entry point of the group `bide.providers` in any installed
package; either is the provider itself (see `bide.providers.base`).
"""

from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, cast

from bide.providers.base import Provider
from bide.settings import ChannelSettings, Settings, SettingsError

SANDBOX = "sandbox"


def find(name: str) -> Provider:
    """The provider of a name. Raises `SettingsError` when there is none."""
    module = f"bide.providers.{name}"
    if name.isidentifier() and find_spec(module):
        found: object = import_module(module)
    else:
        outside = list(entry_points(group="bide.providers", name=name))
        if not outside:
            raise SettingsError(f"there is no provider {name!r}")
        found = outside[0].load()
    for part in ("CAPABILITIES", "TAKES_OUR_ID", "submit", "poll"):
        if not hasattr(found, part):
            raise SettingsError(f"{name!r} is not a provider: it has no {part}")
    return cast(Provider, found)


def default_channels(settings: Settings) -> tuple[ChannelSettings, ...]:
    """What answers when nothing is configured: pictures drawn here, no key, no network."""
    return settings.channels or (ChannelSettings(name=SANDBOX, provider=SANDBOX),)


def options(settings: Settings, channel: ChannelSettings) -> dict[str, Any]:
    """A channel's options with the settings that stand for them when they are left out."""
    if channel.provider == SANDBOX:
        return {"delay_s": settings.sandbox_delay_s, **channel.options}
    return dict(channel.options)

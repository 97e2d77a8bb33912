"""The flag with which a provider asks for an address to be called back at."""

from pathlib import Path

import bide.providers


def test_those_and_only_those_who_tell_the_upstream_an_address_are_given_one() -> None:
    texts = {path.stem: path.read_text("utf-8") for path in Path(bide.providers.__path__[0]).glob("*.py")}
    dialects = {name for name, text in texts.items() if "\nasync def submit(" in text}
    tell = {name for name in dialects if "call.callback_url" in texts[name]}
    flagged = {name for name in dialects if "\nCALLS_BACK = True\n" in texts[name]}
    assert tell == flagged >= {"fal", "replicate", "ace_relay"}

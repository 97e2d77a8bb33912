"""Commands that are loaded when they are asked for, so that a small one does not wait for what a large one needs."""

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module

import click


class Loaded(UserDict[str, click.Command]):
    """The commands of a group by name. One that is the name of a module is loaded from there when it is looked at: it
    has the command's name there (`-` is `_`)."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        super().__init__()
        self.data = dict(modules)  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> click.Command:
        found = self.data[name]
        if isinstance(found, str):
            found = getattr(import_module(found), name.replace("-", "_"))
        return found

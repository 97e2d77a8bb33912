"""What the catalogue says of one field of a request body. Pure.

How a value is checked against it is in `bide.catalog.checks`, and the words of a refusal are in
`bide.catalog.sentences`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from bide.catalog import places, sizes
from bide.catalog.places import Fetch, Place

URL_LENGTH_MAX = places.URL_LENGTH_MAX
URL_PATTERN = places.URL_PATTERN
PLAIN_PATTERN = r"^[^\u0000-\u001f\u007f]*$"

ITEM_LENGTH_MAX = 256

Type = Literal[
    "string", "integer", "number", "boolean", "size", "url", "urls", "strings", "object", "array", "file", "files",
    "item", "items", "text_or_object",
]  # fmt: skip
HeaderName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]*$")]
LISTS = frozenset({"urls", "strings", "array", "files", "items"})
ITEMS = frozenset({"item", "items"})
DEEP = frozenset({"array", "object", "text_or_object"})
"""Types whose values may hold anything, addresses too."""


class Bounds(sizes.SizeBounds, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What narrows the values of a type; which bound fits which type is in `BOUNDS`."""

    enum: tuple[str | int, ...] | None = None
    min: int | float | None = None
    max: int | float | None = None
    length_min: int | None = None
    length_max: int | None = None
    pattern: str | None = None
    plain: bool | None = None
    """No control characters."""
    count_min: int | None = None
    count_max: int | None = None
    bytes_max: int | None = None


_TEXT = frozenset({"enum", "length_min", "length_max", "pattern", "plain"})
_NUMBER = frozenset({"enum", "min", "max"})
_COUNT = frozenset({"count_min", "count_max"})
BOUNDS: Mapping[str, frozenset[str]] = {
    "string": _TEXT,
    "integer": _NUMBER, "number": _NUMBER,
    "boolean": frozenset(), "object": frozenset(),
    "size": frozenset({"enum", *sizes.SizeBounds.__struct_fields__}),
    "url": frozenset({"length_max"}),
    "urls": _COUNT | {"length_max"},
    "strings": _COUNT | {"length_min", "length_max"},
    "array": _COUNT,
    "file": frozenset({"bytes_max"}),
    "files": _COUNT | {"bytes_max", "length_max"},
    "item": frozenset({"length_max"}),
    "items": _COUNT | {"length_max"},
    "text_or_object": frozenset({"length_min", "length_max"}),
}


class Field(Bounds, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field. Lists (`urls`, `files`, `items`) also take a single value; `null` in an optional field means left
    out, and so does an empty text or list where it means nothing else.

    An `item` is the id of something the caller's user had made before: of the kind `kind`, and by the operations `of`
    of the same service, any of them if it names none.
    """

    type: Type
    description: str
    required: bool = False
    default: Any = None
    """Given to the provider when the caller left the field out."""
    assumed: Any = None
    """What leaving it out means, where the upstream decides so by itself: documentation only."""
    suggest: tuple[str | int, ...] = ()
    """Well-known values of an open field: documentation only."""
    example: Any = None
    gateway: bool = False
    """For the gateway itself; a provider does not see it."""
    form_only: bool = False
    """Only as a part of a multipart body."""
    aliases: tuple[str, ...] = ()
    """Other spellings of the field's name; the name itself wins."""
    fetch: Fetch | None = None
    """Whose addresses these are: of pictures or sounds that are fetched for the provider (so are the pictures of
    `file` and `files`), or for an upstream to fetch. Either way they must be addresses that callers may name. A
    `string` is the address of a picture, or the picture in base64."""
    places: tuple[Place, ...] | None = None
    """Where addresses are that the value holds (`bide.catalog.places`). Left out: anywhere in a list or an object,
    nowhere in a text."""
    header: HeaderName | None = None
    """A header of the request that says it where the body does not."""
    kind: str | None = None
    of: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether its values are pictures that are brought to the provider as files."""
        return self.type in ("file", "files") or self.fetch == "picture"

    @property
    def is_fetched(self) -> bool:
        """Whether it holds pictures or sounds that are brought to the provider."""
        return self.is_picture or self.fetch == "audio" or any(one.fetch != "upstream" for one in self.places or ())

    @property
    def is_deep(self) -> bool:
        """Whether addresses may be somewhere in its value."""
        return bool(self.places) or (self.places is None and self.type in DEEP)

    @property
    def has_addresses(self) -> bool:
        """Whether its value may be or hold addresses of callers."""
        return self.is_picture or self.fetch is not None or self.is_deep


def unfit_bounds(bounds: Bounds, type_: Type) -> list[str]:
    """The bounds that are set but mean nothing for a type."""
    named = [name for name in Bounds.__struct_fields__ if getattr(bounds, name) is not None]
    unfit = [name for name in named if name not in BOUNDS[type_]]
    if isinstance(bounds, Field):
        fetched = ("url", "urls", "string") if bounds.fetch == "picture" else ("url", "urls")
        unfit += ["fetch"] if bounds.fetch and type_ not in fetched else []
        unfit += ["places"] if any(places.wrong_path(one, type_) for one in bounds.places or ()) else []
        unfit += ["header"] if bounds.header and type_ != "string" else []
        unfit += ["kind"] if (bounds.kind or bounds.of) and type_ not in ITEMS else []
    return unfit


def narrowed(field: Field, bounds: Bounds) -> Field:
    """The field with the bounds of a rule in place of its own."""
    changes = {name: value for name in Bounds.__struct_fields__ if (value := getattr(bounds, name)) is not None}
    return msgspec.structs.replace(field, **changes)

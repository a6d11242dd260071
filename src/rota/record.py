"""What declarations are made of: frozen records that refuse unknown keys, and types of values with checks.

The same keys serve TOML (snake_case), JSON and, in camelCase, the NixOS options. A key marked
`later` belongs to the schema but not to this version: `load` refuses it by name.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from rota import cron, listen, quantity, quiet


def checked(parse: Callable[[str], object]) -> AfterValidator:
    """Keep the text as written; `parse` only has to accept it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    if text.endswith("\\"):
        raise ValueError("must not end in a backslash, which would join it to the next line of the unit")
    return text


def _absolute(text: str) -> str:
    _one_line(text)
    if not text.startswith("/"):
        raise ValueError("must be an absolute path, beginning with /")
    parts = text.rstrip("/").split("/")[1:]
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("must not contain .., . or //; write the path it leads to")
    if len(text.encode()) > 4095 or any(len(part.encode()) > 255 for part in parts):
        raise ValueError("is longer than Linux allows: 255 bytes between slashes, 4095 in all")
    return text


def _search_directory(text: str) -> str:
    if re.search(r"""[:'"\\]""", text):
        raise ValueError("must not contain colons, quotes or backslashes: it becomes part of a search path")
    return _absolute(text)


def _environment_file(text: str) -> str:
    _absolute(text.removeprefix("-"))
    return text


def _network(text: str) -> str:
    if text in ("any", "localhost", "link-local", "multicast"):
        return text
    try:
        found = ip_network(text)
    except ValueError as error:
        reason = str(error).removeprefix(repr(text)).removeprefix(text).strip()
        raise ValueError(f'{reason}; write an address or a prefix such as "10.0.0.0/8"') from None
    if not re.fullmatch(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?", text):
        raise ValueError(f'systemd takes neither netmasks nor zones; write "{found.with_prefixlen}"')
    return text


def _size_or_share(text: str) -> str:
    if text.endswith("%"):
        if quantity.parse_percent(text) > 100:
            raise ValueError("must be 100% or less: it is a share of the machine's memory")
    else:
        quantity.parse_size(text)
    return text


def _with_unit(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = value if 0 <= value < 10**9 else 30
        raise ValueError(f'has no unit; write for example "{number}s"')
    return value


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    if len(text.encode()) >= 128 * 1024:
        raise ValueError("is longer than 128 KiB, the most Linux hands to a program in one piece")
    return text


def _point_in_time(value: object) -> object:
    """TOML has date-times of its own: an offset becomes UTC, a local one stays local."""
    return value.isoformat() if isinstance(value, datetime) else value


def _once(text: str) -> str:
    stamp = text.removesuffix(" UTC")
    try:
        parsed = datetime.fromisoformat(stamp)
    except ValueError:
        raise ValueError('not a date and time; write for example "2027-01-31 09:00"') from None
    if not 1970 <= parsed.year < 2200:
        raise ValueError("must be from 1970 to 2199, the years that systemd knows")
    if parsed.tzinfo is not None:
        return parsed.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return parsed.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if stamp != text else "")


def _timezone(text: str) -> str:
    if not quantity.is_zone(text):
        raise ValueError('unknown time zone; write an IANA name such as "Europe/Rome"')
    return text


def _credential_file(text: str) -> str:
    if "://" in text:
        raise ValueError(
            "is the URL itself, which is a secret: write it into a file that only root may read, and"
            ' name that file; for example "/etc/rota/secrets/ops-url"'
        )
    return _absolute(text)


def one_or_many(value: object) -> object:
    """Return a table as a list of one."""
    return [value] if isinstance(value, dict) else value


Line = Annotated[StrictStr, AfterValidator(_one_line)]
Argument = Annotated[StrictStr, AfterValidator(_no_nul)]
AbsolutePath = Annotated[StrictStr, AfterValidator(_absolute)]
SearchDirectory = Annotated[StrictStr, AfterValidator(_search_directory)]
EnvironmentFile = Annotated[StrictStr, AfterValidator(_environment_file)]
Duration = Annotated[StrictStr, BeforeValidator(_with_unit), checked(quantity.parse_duration)]
CronText = Annotated[StrictStr, checked(cron.parse)]
Size = Annotated[StrictStr, AfterValidator(_size_or_share)]
Percent = Annotated[StrictStr, checked(quantity.parse_percent)]
Network = Annotated[StrictStr, AfterValidator(_network)]
TimeZone = Annotated[StrictStr, AfterValidator(_timezone)]
Moment = Annotated[StrictStr, BeforeValidator(_point_in_time), AfterValidator(_once)]
ListenAddress = Annotated[StrictStr, checked(listen.check)]
CredentialFile = Annotated[StrictStr, AfterValidator(_credential_file)]
QuietHours = Annotated[StrictStr, checked(quiet.parse_quiet)]
Pattern = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9*?\[\]!-]+$")]
Tag = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
UserName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,30}$")]
VariableName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
CredentialName = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}$")]
UnitKey = Annotated[StrictStr, StringConstraints(pattern=r"^(X-)?[A-Z][A-Za-z0-9]*$")]
UnitValue = StrictBool | StrictInt | Line | tuple[Line, ...]
AgentName = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


def later(description: str, *examples: Any) -> Any:
    """Declare a key of a later version: in the schema, refused by `load`."""
    return Field(
        default=None,
        description=f"{description} (not available in this version)",
        json_schema_extra={"x-available": False, "examples": [*examples]},
    )


def key(default: Any, description: str, *examples: object, **more: Any) -> Any:
    """Declare a key: its default, a sentence for people, values that show it, and pydantic's constraints."""
    if default == {}:
        # pydantic copies a default that could change, and deeply; it need not for one of these.
        return Field(default_factory=dict, description=description, examples=[*examples], **more)
    return Field(default=default, description=description, examples=list(examples), **more)


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __deepcopy__(self, memo: object = None) -> Self:
        """Return itself: frozen, so that a default need not be copied for each agent."""
        return self


def records_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the records that a type holds: itself, or in a list, a table or beside others."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from records_in(argument)


def is_table(annotation: object) -> bool:
    """Tell whether a type is a table whose keys a person chooses, or such a table beside others."""
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(is_table(argument) for argument in typing.get_args(annotation))

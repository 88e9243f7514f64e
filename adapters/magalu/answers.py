"""What the answers of Magalu Cloud's APIs have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

MOST = 10_000
"""Of one list: a server that never ends its list ends here."""


class Value(BaseModel):
    """An answer, or a part of one, as far as we need it. What it holds is in no error text."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Created(Value):
    id: str


class _Page(Value):
    total: int | None = None


class _Meta(Value):
    page: _Page = _Page()


class Listed(Value):
    """One page of a list that says how many there are in all, as compute's do."""

    meta: _Meta = _Meta()

    @property
    def total(self) -> int | None:
        return self.meta.page.total


Item = TypeVar("Item")


def every(ask: Callable[[Mapping[str, int]], tuple[Sequence[Item], int | None]], *, size: int = 50) -> list[Item]:
    """Return what a list holds, asked for in pages of `size`.

    `ask` is given the parameters that say which page, and returns what is on it and how many there are in all, if that is told.
    """
    found: list[Item] = []
    for _ in range(MOST // size):
        page, total = ask({"_limit": size, "_offset": len(found)})
        found += page
        if len(page) < size or (total is not None and len(found) >= total):
            break
    return found

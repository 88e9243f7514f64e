"""Text that must never be shown: keys, tokens, pre-signed URLs."""

from typing import final


@final
class Secret:
    """Holds a text that prints as `***`. `reveal()` belongs on the line that sends it, and nowhere else.

    Two secrets are equal when their texts are. It refuses to be pickled, so that no job file holds it by accident.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is never written to a file")

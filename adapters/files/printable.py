"""Foreign text that is safe on a terminal and in a log: one line, no control characters, no endless names."""


def printable(text: str, most: int = 160) -> str:
    """Return the text with everything that is not printable escaped, cut in its middle where it is longer than `most`.

    `str.isprintable` says no to control characters, line ends, lone surrogates and the marks that reverse the direction
    of writing, all of which have been used to make a terminal show something else.
    """
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[len(text) - most // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

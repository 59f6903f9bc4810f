"""What goes wrong, each said in a sentence that names the mend."""


class TributaryError(Exception):
    """Whatever this package refuses or fails at."""


class SchemaError(TributaryError):
    """A file or an answer is not of a schema that this package reads."""


class MissingError(TributaryError):
    """A program, a library or a daemon is not there."""


class RefusedError(TributaryError):
    """A program or a daemon refused a request, or failed at it."""

    def __init__(self, code: str, text: str, hint: str | None = None) -> None:
        super().__init__(f"{text} ({hint})" if hint else text)
        # What kind of problem it is: `Code` in `contract.py`, or `environment` where a program gives none.
        self.code = code
        self.text = text
        # What to do about it.
        self.hint = hint

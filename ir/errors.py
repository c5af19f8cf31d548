"""The errors and the warning that every layer raises: what, where, what was expected, what to do.

Each kind of error also comes as the ``TypeError``, ``ValueError`` or ``IndexError`` that NumPy would raise at that
place, so that ``except ValueError`` keeps working for people who come from there.
"""

from __future__ import annotations


class GraphcError(Exception):
    """Base of all graphc errors.

    Parameters
    ----------
    message : str
        What went wrong and what was expected, with shapes and dtypes.
    where : str or None
        The view and the user's ``file:line``; layers that know it set it on errors that pass through them.
    hint : str or None
        What to do about it.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.where, self.hint)


def _rebuild(kind: type[GraphcError], message: str, where: str | None, hint: str | None) -> GraphcError:
    return kind(message, where=where, hint=hint)


class DeclarationError(GraphcError):
    """A view that cannot be: wrong shapes, dtypes or arguments, found where it is declared."""


class DeclarationTypeError(DeclarationError, TypeError):
    """A declaration with a dtype or argument of the wrong kind."""


class DeclarationValueError(DeclarationError, ValueError):
    """A declaration with shapes or values that do not fit."""


class DeclarationIndexError(DeclarationError, IndexError):
    """A declaration that indexes beyond a static extent or rank."""


class DifferentiationError(GraphcError):
    """A derivative that was asked for and does not exist."""


class DifferentiationTypeError(DifferentiationError, TypeError):
    """A derivative with respect to, or through, something without one (integers, discrete ops)."""


class DifferentiationValueError(DifferentiationError, ValueError):
    """A derivative asked for with the wrong shape (a non-scalar without a cotangent)."""


class CompileError(GraphcError):
    """A program that cannot be compiled as asked."""


class CompileTypeError(CompileError, TypeError):
    """A compile option or output of the wrong kind."""


class CompileValueError(CompileError, ValueError):
    """A compile option with an unknown or impossible value."""


class FeedError(GraphcError):
    """A call whose arrays do not fit the program."""


class FeedTypeError(FeedError, TypeError):
    """A missing or surplus feed, or one of the wrong dtype."""


class FeedValueError(FeedError, ValueError):
    """A feed of the wrong rank or shape, or dims that disagree."""


class FeedIndexError(FeedError, IndexError):
    """An index (or label) out of range in a feed or computed from one."""


class DeviceError(GraphcError, RuntimeError):
    """A device that cannot do what is asked: a kernel failed there."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A call that needs more memory than a device has."""


class GraphcWarning(UserWarning):
    """Something that is allowed and probably not meant."""

"""Reads a pickle of plain values without running it: memory and time grow with its size alone.

Python's own reader makes whatever a pickle names, puts aside as much memory as a pickle asks for, and lets one value
stand in many places, so that a hundred bytes can mean more than any memory holds.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST_KEY = 500
_SHARED_ITEMS = 16
"""Items of a list or tuple that may stand in several places, such as the betas that groups of weights share."""
_UNREADABLE = (IndexError, KeyError, TypeError, struct.error, UnicodeError, OverflowError)
_SCALARS = (str, int, float, type(None))

Known = Mapping[str, Any]
"""What a pickle may name, by `module name`: a function that makes a value of its arguments, or a value."""


def read_pickle(data: bytes, known: Known | None = None, refer: Callable[[Any], Any] | None = None) -> Any:
    """The value of a pickle made of dictionaries, lists, tuples, texts, numbers and what is `known`.

    Args:
        data: the whole of it.
        known: what it may name; nothing by default.
        refer: makes a value of a reference to something outside; such references are refused by default.

    Raises:
        ValueError: it is cut off, or holds anything else.
    """
    machine = _Machine(data, known or {}, refer)
    try:
        return machine.run()
    except _UNREADABLE as error:
        raise ValueError(f"the list of its contents cannot be read at byte {machine.at}") from error


class _Machine:
    """The stack machine that a pickle is a program for, with the instructions that plain values need."""

    def __init__(self, data: bytes, known: Known, refer: Callable[[Any], Any] | None) -> None:
        self.data = data
        self.known = known
        self.refer = refer
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value that the program leaves.

        Raises:
            ValueError: it has an instruction that plain values need not, or leaves something else than one value.
            IndexError: it ends too early.
        """
        data, instructions = self.data, _INSTRUCTIONS
        while (code := data[self.at]) != _STOP:
            self.at += 1
            instruction = instructions.get(code)
            if instruction is None:
                raise ValueError(
                    f"the list of its contents has the instruction 0x{code:02x}, which plain values need not"
                )
            instruction(self)
        if self.at != len(data) - 1 or len(self.stack) != 1 or self.marks:
            raise ValueError("the list of its contents does not end where it should")
        return self.stack[0]

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise IndexError
        self.at += length
        return piece

    def number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + _LONGEST_KEY)
        text = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return text

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def keep(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        value = self.memo[number]
        if isinstance(value, dict | list | tuple):
            if isinstance(value, dict) or len(value) > _SHARED_ITEMS or not all(isinstance(v, _SCALARS) for v in value):
                raise ValueError("the list of its contents has one container in several places")
            value = value[:]
        self.stack.append(value)

    def fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not ((type(key) is int and abs(key) < 2**31) or (type(key) is str and len(key) <= _LONGEST_KEY)):
                raise ValueError("a key in the list of its contents is neither a short text nor a small number")
            if key in target:
                raise ValueError("the list of its contents has a key twice")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target += items

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise IndexError
        self.stack[-count:] = [items]

    def name(self, module: str, attribute: str) -> None:
        named = f"{module} {attribute}"
        if named not in self.known:
            raise UnknownNameError(named)
        self.stack.append(self.known[named])

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not callable(function) or type(arguments) is not tuple:
            raise TypeError
        self.stack.append(function(*arguments))

    def reference(self) -> None:
        if self.refer is None:
            raise ValueError("the list of its contents refers to something outside")
        self.stack.append(self.refer(self.stack.pop()))


class UnknownNameError(ValueError):
    """A pickle names something that is not known."""

    def __init__(self, named: str) -> None:
        plain = all(word.replace(".", "_").isidentifier() and word.isascii() for word in named.split(" "))
        self.named = named if plain else ""
        super().__init__(f"the list of its contents names {named.replace(' ', '.') if plain else 'something unknown'}")


def _push(value: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(value())


def _read(form: str) -> Callable[[_Machine], None]:
    packed = struct.Struct(form)
    return lambda m: m.stack.append(m.number(packed))


def _with_byte(use: Callable[[_Machine, int], object]) -> Callable[[_Machine], None]:
    def instruction(machine: _Machine) -> None:
        machine.at += 1
        use(machine, machine.data[machine.at - 1])

    return instruction


def _with(form: str, use: Callable[[_Machine, int], object]) -> Callable[[_Machine], None]:
    packed = struct.Struct(form)

    def instruction(machine: _Machine) -> None:
        use(machine, machine.number(packed))

    return instruction


def _pass_over(_: _Machine, __: int) -> None:
    """An argument without meaning here."""


def _text(machine: _Machine, length: int) -> None:
    machine.stack.append(machine.take(length).decode("utf-8", "surrogatepass"))


def _long(machine: _Machine, length: int) -> None:
    if length > 8:
        raise ValueError("the list of its contents has a number of more than 64 bits")
    machine.stack.append(int.from_bytes(machine.take(length), "little", signed=True))


def _last(machine: _Machine, count: int) -> list[Any]:
    items = machine.stack[-count:]
    del machine.stack[-count:]
    return items


_STOP = ord(".")
_INSTRUCTIONS: dict[int, Callable[[_Machine], object]] = {
    0x80: _with_byte(_pass_over),  # the version of the format
    0x95: _with("<Q", _pass_over),  # the length of a frame
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("}"): _push(dict),
    ord("]"): _push(list),
    ord(")"): _push(tuple),
    ord("N"): _push(lambda: None),
    0x88: _push(lambda: True),
    0x89: _push(lambda: False),
    ord("K"): _with_byte(lambda m, n: m.stack.append(n)),
    ord("M"): _read("<H"),
    ord("J"): _read("<i"),
    ord("G"): _read(">d"),
    0x8A: _with_byte(_long),
    ord("X"): _with("<I", _text),
    0x8C: _with_byte(_text),
    ord("t"): lambda m: m.stack.append(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("q"): _with_byte(_Machine.keep),
    ord("r"): _with("<I", _Machine.keep),
    0x94: lambda m: m.keep(len(m.memo)),
    ord("h"): _with_byte(_Machine.recall),
    ord("j"): _with("<I", _Machine.recall),
    ord("s"): lambda m: m.fill(_last(m, 2)),
    ord("u"): lambda m: m.fill(m.since_mark()),
    ord("a"): lambda m: m.extend(_last(m, 1)),
    ord("e"): lambda m: m.extend(m.since_mark()),
    ord("c"): lambda m: m.name(m.line(), m.line()),
    0x93: lambda m: m.name(*_last(m, 2)),
    ord("R"): _Machine.call,
    ord("Q"): _Machine.reference,
}

"""A GraphQL executor in miniature: it parses a document and answers it from objects whose fields are functions.

The schema is the Python code: a field is a name in ``Node.fields``, its arguments are the parameters of a function. So an
unknown field, an unknown argument or a missing one is refused, as a real server does, without a second description.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\.\.\.|\$?[A-Za-z_]\w*|-?\d+(?:\.\d+)?|[{}()\[\]:!=@]')


class QueryError(Exception):
    """The document asks for what the schema does not have; the answer is an error of GraphQL."""


@dataclass
class Node:
    """An object of the schema.

    ``fields`` holds a value (scalar, Node, list of Nodes, None) or a function of the field's arguments for each name.
    ``interfaces``: names under which fragments may ask for it, besides ``kind``.
    """

    kind: str
    fields: Mapping[str, Any]
    interfaces: Sequence[str] = ()


@dataclass
class _Field:
    name: str
    alias: str
    arguments: dict[str, Any]
    include: Any  # of the directive @include
    selections: list[_Field | _Spread]


@dataclass
class _Spread:
    """A fragment: by ``name``, or with ``selections`` of its own for objects of ``kind``."""

    name: str
    kind: str
    selections: list[_Field | _Spread]


@dataclass
class Document:
    """A parsed document with one operation; ``name`` is empty if the operation has none."""

    kind: str = "query"
    name: str = ""
    variables: dict[str, Any] = field(default_factory=dict)  # name -> (type, default)
    selections: list[_Field | _Spread] = field(default_factory=list)
    fragments: dict[str, _Spread] = field(default_factory=dict)


@dataclass
class _Variable:
    name: str


class _Parser:
    def __init__(self, text: str) -> None:
        text = re.sub(r"#[^\n]*", "", text)
        self.tokens = _TOKEN.findall(text)
        if re.sub(r"[\s,]", "", text) != re.sub(r"[\s,]", "", "".join(self.tokens)):
            raise QueryError("the document has characters that are not GraphQL")
        self.place = 0

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise QueryError(f"Syntax Error: expected {expected or 'more'}, found {token or 'the end'}")
        self.place += 1
        return token

    def skip(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self.place += 1
        return True

    def document(self) -> Document:
        document = Document()
        while self.peek():
            if self.skip("fragment"):
                name = self.take()
                self.take("on")
                document.fragments[name] = _Spread(name, self.take(), self.selections())
                continue
            if self.peek() != "{":
                document.kind = self.take()
                document.name = "" if self.peek() in ("(", "{") else self.take()
                document.variables = self.definitions() if self.skip("(") else {}
            document.selections = self.selections()
        return document

    def definitions(self) -> dict[str, Any]:
        found = {}
        while not self.skip(")"):
            name = self.take().removeprefix("$")
            self.take(":")
            kind = ""
            while re.match(r"[\w\[\]!]", self.peek()):
                kind += self.take()
            found[name] = (kind, self.value() if self.skip("=") else None)
        return found

    def selections(self) -> list[_Field | _Spread]:
        found: list[_Field | _Spread] = []
        self.take("{")
        while not self.skip("}"):
            if self.skip("..."):
                if self.skip("on"):
                    found.append(_Spread("", self.take(), self.selections()))
                else:
                    found.append(_Spread(self.take(), "", []))
                continue
            alias = name = self.take()
            if self.skip(":"):
                name = self.take()
            arguments = self.arguments() if self.skip("(") else {}
            include: Any = True
            while self.skip("@"):
                self.take("include")
                self.take("(")
                include = self.arguments()["if"]
            found.append(_Field(name, alias, arguments, include, self.selections() if self.peek() == "{" else []))
        return found

    def arguments(self, end: str = ")") -> dict[str, Any]:
        found = {}
        while not self.skip(end):
            name = self.take()
            self.take(":")
            found[name] = self.value()
        return found

    def value(self) -> Any:
        token = self.take()
        if token == "{":
            return self.arguments("}")
        if token == "[":
            items = []
            while not self.skip("]"):
                items.append(self.value())
            return items
        if token.startswith("$"):
            return _Variable(token[1:])
        if re.match(r'["\d-]', token) or token in ("true", "false", "null"):
            return json.loads(token)
        return token  # a value of an enumeration


def parse(text: str) -> Document:
    """The parsed document; QueryError if it is not GraphQL."""
    return _Parser(text).document()


def execute(document: Document, variables: Mapping[str, Any], roots: Mapping[str, Node]) -> dict[str, Any]:
    """The ``data`` of the answer.

    Args:
        document: what is asked.
        variables: values of the document's variables; others than declared are ignored, as the specification says.
        roots: the root of ``query`` and of ``mutation``.
    """
    given = {}
    for name, (kind, default) in document.variables.items():
        if name in variables:
            value = variables[name]
            alone = kind.startswith("[") and value is not None and not isinstance(value, list)
            given[name] = [value] if alone else value  # GraphQL takes one item for a list of it
        elif default is not None:
            given[name] = default
        if kind.endswith("!") and given.get(name) is None:
            raise QueryError(f'Variable "${name}" of required type was not provided.')
    return _Execution(document, given).resolve(roots[document.kind], document.selections)


@dataclass
class _Execution:
    document: Document
    variables: Mapping[str, Any]

    def resolve(self, node: Any, selections: Sequence[_Field | _Spread]) -> Any:
        if node is None:
            return None
        if isinstance(node, list):
            return [self.resolve(item, selections) for item in node]
        if not isinstance(node, Node):
            raise QueryError(f"{node!r} has no fields")
        answer = {}
        for asked in self.flat(node, selections):
            if asked.name == "__typename":
                answer[asked.alias] = node.kind
                continue
            if asked.name not in node.fields:
                raise QueryError(f'Cannot query field "{asked.name}" on type "{node.kind}".')
            value = self.call(node.fields[asked.name], asked, node.kind)
            if asked.selections:
                value = self.resolve(value, asked.selections)
            elif isinstance(value, Node):
                raise QueryError(f'Field "{asked.name}" must have a selection of subfields.')
            answer[asked.alias] = value
        return answer

    def flat(self, node: Node, selections: Sequence[_Field | _Spread]) -> list[_Field]:
        found: list[_Field] = []
        for item in selections:
            if isinstance(item, _Field):
                if self.filled(item.include):
                    found.append(item)
                continue
            if item.name and item.name not in self.document.fragments:
                raise QueryError(f'Unknown fragment "{item.name}".')
            fragment = self.document.fragments[item.name] if item.name else item
            if fragment.kind == node.kind or fragment.kind in node.interfaces:
                found += self.flat(node, fragment.selections)
            elif item.name:
                raise QueryError(f'Fragment "{item.name}" cannot be spread here: {node.kind} is no {fragment.kind}.')
        return found

    def call(self, value: Any, asked: _Field, kind: str) -> Any:
        arguments = self.filled(asked.arguments)
        if not isinstance(value, Callable):  # type: ignore[arg-type]
            if arguments:
                raise QueryError(f'Unknown argument "{next(iter(arguments))}" on field "{kind}.{asked.name}".')
            return value
        if kind == "Mutation":
            if set(arguments) != {"input"}:
                raise QueryError(f'Field "Mutation.{asked.name}" takes the argument "input", not {sorted(arguments)}.')
            arguments = arguments["input"]
        try:
            inspect.signature(value).bind(**arguments)
        except TypeError as error:
            raise QueryError(f"{kind}.{asked.name}: {error}") from None
        return value(**arguments)

    def filled(self, value: Any) -> Any:
        """The value with its variables replaced; arguments whose variable was not given are left out."""
        if isinstance(value, _Variable):
            return self.variables.get(value.name)
        if isinstance(value, dict):
            given = {
                name: item for name, item in value.items() if not isinstance(item, _Variable) or item.name in self.variables
            }
            return {name: self.filled(item) for name, item in given.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return value


def connection(nodes: Sequence[Node], first: int | None = None, after: str | None = None) -> Node:
    """A page of nodes as Relay wants it: at most ``first``, behind the cursor ``after``."""
    start = int(after) if after else 0
    end = len(nodes) if first is None else min(len(nodes), start + first)
    edges = [Node("Edge", {"node": node, "cursor": str(start + place)}) for place, node in enumerate(nodes[start:end], start=1)]
    info = Node("PageInfo", {"endCursor": str(end), "hasNextPage": end < len(nodes)})
    return Node("Connection", {"edges": edges, "pageInfo": info, "totalCount": len(nodes)}, ("RunConnection",))

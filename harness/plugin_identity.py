"""Which part of a user's own code a trial is made from, and the hash of that part that is in the trial's identity.

An architecture, loss or augmentation is made from the line that registers it and from all that this line needs:
functions, classes, constants and imports of the user's own, one after the other, across their modules. With it goes
what their modules do when they are imported beside defining things, since that may change anything. Not part of it
are comments, docstrings, spelling (spaces, quotes, line breaks), the study and what only that needs, and whatever else
lies in the files. Data sets of the user's own are named by their pixels, not by their code.

By example, in a file that declares two networks and a study of both:

    WIDTH = 64                                    part of "mine", whose builder uses it
    def build(**choices): ... WIDTH ...           part of "mine"
    def other(**choices): ...                     part of "other" alone
    ARCHITECTURES["mine"] = Architecture(build)   part of "mine"
    ARCHITECTURES["other"] = Architecture(other)  part of "other"
    torch.set_default_dtype(torch.float64)        part of both
    RATES = (1e-3, 2e-3)                          part of neither: the study alone uses it
    STUDY = Study(title=..., ...)                 part of neither
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.errors import UserError
from harness.plugins import OwnModule, UserCode, imported_from, package_of
from harness.spec import content_hash

REGISTRIES = {"architecture": "ARCHITECTURES", "loss": "LOSSES", "augmentation": "AUGMENTATIONS"}
"""Spec field -> the registry that its values are names of."""

OTHER_REGISTRY = "DATASETS"

UNFOLLOWED = {"exec", "eval", "__import__", "open", "getenv", "environ", "urlopen", "urlretrieve"}
UNFOLLOWED_OF_MODULES = {
    *("open", "import_module", "run_path", "run_module", "read_text", "read_bytes", "getenv", "environ"),
    *("load", "load_file", "loadtxt", "genfromtxt", "fromfile", "memmap", "imread", "read_csv", "read_parquet"),
    *("urlopen", "urlretrieve", "from_pretrained", "load_state_dict_from_url"),
}
"""Names, alone and behind a dot, by which code reaches for what no source tells: other code, files, the environment."""


def identity(code: UserCode, names: Iterable[tuple[str, str]]) -> str:
    """16 hex digits of what these entries of the registries are made from.

    Args:
        code: The user's file and modules.
        names: (spec field, value), such as ("architecture", "fc-mine"): those that the repository does not ship.

    Raises:
        UserError: they depend on what cannot be followed: code made from text, a file, the environment.
    """
    modules = {"": _Module("", code.file, code.source, "")} | {m.name: _module(m) for m in code.modules}
    parts = _Parts(modules)
    for name in sorted(set(names)):
        parts.take_entry(*name)
    for module in modules.values():
        parts.take(module, module.effects)
    return content_hash(parts.plain())


@dataclass(frozen=True)
class _Module:
    """The statements of one module, sorted by what they do."""

    name: str  # "" for the study's own file
    file: str
    source: str
    package: str

    @cached_property
    def statements(self) -> list[ast.stmt]:
        return [s for s in ast.parse(self.source).body if not _says_nothing(s)]

    @cached_property
    def definitions(self) -> dict[str, list[int]]:
        """Name -> the statements that give it a value."""
        found: dict[str, list[int]] = {}
        for i, statement in enumerate(self.statements):
            for name in _defined(statement):
                found.setdefault(name, []).append(i)
        return found

    @cached_property
    def entries(self) -> dict[tuple[str, str], list[int]]:
        """(registry, key) -> the statements that register it, in so many words."""
        found: dict[tuple[str, str], list[int]] = {}
        for i, statement in enumerate(self.statements):
            if (entry := _registered(statement)) is not None:
                found.setdefault(entry, []).append(i)
        return found

    @cached_property
    def effects(self) -> list[int]:
        """The statements that may change whatever there is: all that do more than define or register something.

        A definition does more where it calls a function or method of the user's own, the study's alone excepted.
        """
        aside = {i for group in (self.definitions, self.entries) for found in group.values() for i in found}
        return [i for i, s in enumerate(self.statements) if i not in aside or (_calls(s) & self.own)]

    @cached_property
    def own(self) -> set[str]:
        """The names that stand for something of this module's own."""
        imports = (ast.Import, ast.ImportFrom)
        return {n for n, where in self.definitions.items() if not isinstance(self.statements[where[0]], imports)}


@dataclass
class _Parts:
    """What has been found to belong to the entries so far."""

    modules: Mapping[str, _Module]
    taken: dict[str, set[int]] = field(default_factory=dict)  # module -> its statements

    def take_entry(self, spec_field: str, name: str) -> None:
        """What registers this name; where no line does so in so many words, all that there is."""
        entry = (REGISTRIES[spec_field], name)
        where = [(module, module.entries[entry]) for module in self.modules.values() if entry in module.entries]
        for module, statements in where or [(m, range(len(m.statements))) for m in self.modules.values()]:
            self.take(module, statements)

    def take(self, module: _Module, statements: Iterable[int]) -> None:
        """These statements, and what they need."""
        waiting = list(statements)
        taken = self.taken.setdefault(module.name, set())
        while waiting:
            i = waiting.pop()
            if i in taken:
                continue
            taken.add(i)
            statement = module.statements[i]
            _refuse_unfollowable(statement, module)
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    waiting += module.definitions.get(node.id, [])
                elif isinstance(node, ast.Import):
                    for alias in node.names:
                        self._take_whole(alias.name)
                elif isinstance(node, ast.ImportFrom):
                    self._take_names(imported_from(node, module.package), [alias.name for alias in node.names])

    def _take_names(self, name: str, wanted: list[str]) -> None:
        """What `from name import wanted` brings."""
        if (module := self.modules.get(name)) is None:
            return
        for one in wanted:
            if one in module.definitions:
                self.take(module, module.definitions[one])
            elif f"{name}.{one}" in self.modules:
                self._take_whole(f"{name}.{one}")
            else:
                self._take_whole(name)

    def _take_whole(self, name: str) -> None:
        """A module that is imported as such: which part of it is used cannot be told."""
        if (module := self.modules.get(name)) is not None:
            self.take(module, range(len(module.statements)))

    def plain(self) -> list[Any]:
        """What was taken, as JSON: module by module, in the order of the source."""
        return [
            [name, [_plain(self.modules[name].statements[i]) for i in sorted(self.taken[name])]]
            for name in sorted(self.taken)
            if self.taken[name]
        ]


def _module(module: OwnModule) -> _Module:
    return _Module(module.name, module.file, module.source, package_of(module))


def _says_nothing(statement: ast.stmt) -> bool:
    """A docstring, `pass`, what only a script does, or a line that says where Python looks for modules."""
    if isinstance(statement, ast.Expr):
        call = statement.value
        looks = isinstance(call, ast.Call) and ast.unparse(call.func) in ("sys.path.insert", "sys.path.append")
        return looks or isinstance(call, ast.Constant)
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) in ("__name__ == '__main__'", "TYPE_CHECKING", "typing.TYPE_CHECKING")
    return isinstance(statement, ast.Pass)


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The names to which a statement gives a value, where that is all it does at the top of a module."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names if alias.name != "*")
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [n for target in targets for n in (target.elts if isinstance(target, ast.Tuple) else [target])]
        if all(isinstance(n, ast.Name) for n in names):
            yield from (n.id for n in names if isinstance(n, ast.Name))


def _calls(statement: ast.stmt) -> set[str]:
    """The names whose functions or methods a definition calls when its module is imported: `f(...)`, `x.f(...)`."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        calls = [node.func if isinstance(node, ast.Call) else node for node in statement.decorator_list]
    elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None and not _is_study(statement):
        calls = [node.func for node in ast.walk(statement.value) if isinstance(node, ast.Call)]
    else:
        return set()
    return {ast.unparse(call).partition(".")[0] for call in calls}


def _is_study(statement: ast.stmt) -> bool:
    return "STUDY" in _defined(statement)


def _registered(statement: ast.stmt) -> tuple[str, str] | None:
    """(registry, key) of `REGISTRY["key"] = ...`."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    if not isinstance(target, ast.Subscript) or not isinstance(target.slice, ast.Constant):
        return None
    registry = ast.unparse(target.value).rpartition(".")[2]
    return (registry, str(target.slice.value)) if registry in (*REGISTRIES.values(), OTHER_REGISTRY) else None


def _refuse_unfollowable(statement: ast.stmt, module: _Module) -> None:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            word, unfollowed = node.id, UNFOLLOWED
        elif isinstance(node, ast.Attribute):
            word, unfollowed = node.attr, UNFOLLOWED_OF_MODULES
        else:
            continue
        if word in unfollowed:
            raise UserError(
                f"line {node.lineno} of {module.file}: what `{word}` brings cannot be followed into the identity of "
                f"trials; allowed in a network, loss or augmentation: what stands in Python code itself (files are for "
                f"the loader of a data set, whose pixels are followed)"
            )


def _plain(node: Any) -> Any:
    """A syntax tree as JSON, the same for every version of Python: without places, docstrings and empty fields."""
    if isinstance(node, list):
        return [_plain(n) for n in node if not (len(node) > 1 and isinstance(n, ast.stmt) and _says_nothing(n))]
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind")}
        return [type(node).__name__, {name: value for name, value in fields.items() if value not in (None, [])}]
    return node if isinstance(node, str | bool) or node is None else [type(node).__name__, repr(node)]

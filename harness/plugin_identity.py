"""Which part of a user's own code a trial is made from, and the hash of it in the identity of trials, or of scores.

An architecture, loss, augmentation or extractor is made from the line that registers it and from all that this needs:
functions, classes, constants and imports of the user's own, one after the other, across their modules. With it goes
what their modules do when they are imported beside defining things, since that may change anything: it is part of the
trials on shipped networks, too, that such a file's study makes. Not part of it are comments, docstrings, spelling
(spaces, quotes, line breaks), the study and what only that needs, and whatever else lies in the files. Data sets of the
user's own are named by their pixels, not by their code.

By example, in a file that declares two networks and a study of both:

    WIDTH = 64                                    part of "mine", whose builder uses it
    def build(**choices): ... WIDTH ...           part of "mine"
    def other(**choices): ...                     part of "other" alone
    ARCHITECTURES["mine"] = Architecture(build)   part of "mine"
    torch.set_default_dtype(torch.float64)        part of both
    RATES = (1e-3, 2e-3)                          part of neither: the study alone uses it
    STUDY = Study(title=..., ...)                 part of neither
"""

import ast
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.errors import UserError, unknown_name
from harness.plugins import UserCode, imported_from, is_installed, package_of
from harness.spec import content_hash, registered

REGISTRIES = {"architecture": "ARCHITECTURES", "loss": "LOSSES", "augmentation": "AUGMENTATIONS"}
REGISTRIES |= {"extractor": "EXTRACTORS"}  # which a profile names, and no spec
"""Spec field -> the registry that its values are names of."""

REACHES_OUT = {
    *("exec", "eval", "__import__", "open", "globals", "locals", "vars", "getenv", "environ", "environb", "argv"),
    *("urlopen", "urlretrieve", "check_output", "FileIO", "listdir", "import_module", "spec_from_file_location"),
    *("SourceFileLoader", "run_path", "run_module"),
}
REACHES_OUT_OF_MODULES = REACHES_OUT - {"exec", "eval"} | {
    *("exec_module", "load_module", "load", "load_file", "loadtxt", "genfromtxt", "fromfile", "fromregex"),
    *("from_file", "memmap", "imread", "from_pretrained", "load_state_dict_from_url", "read", "readinto", "get_data"),
    *("safe_load", "full_load", "loadmat", "load_model", "load_weights", "load_checkpoint", "popen", "connect"),
}
"""Names, alone and behind a dot or in an import, by which code reaches for what no source tells: other code, files, the
network, the environment. Behind a dot also all that begin with `read_`, and torchvision's enumerations of weights."""

PRETRAINED = {"weights", "pretrained", "checkpoint", "checkpoint_path", "ckpt", "ckpt_path"}
"""Keywords by which installed packages take weights that somebody trained; and all that end in `_weights`."""
COMPUTES = {"torch", "numpy", "scipy"}
"""Packages in which a keyword of that name takes numbers: `torch.bincount(..., weights=counts)`."""
BY_NAME = {"getattr", "attrgetter", "methodcaller"}
"""Functions that take the name of an attribute as text."""

CHANGES = {
    *("setattr", "delattr", "append", "extend", "insert", "update", "add", "pop", "remove", "clear", "setdefault"),
    *("__setattr__", "__setitem__", "__init_subclass__", "seed", "manual_seed"),
}
"""Names by which an expression, or a function that it calls, changes something; and all that begin with `set_`."""


def identity(code: UserCode, names: Iterable[tuple[str, str]]) -> str:
    """16 hex digits of what these entries of the registries are made from; "" if that is nothing of the user's own.

    Without any names, of what the modules do when they are imported, which may change what is shipped, too.

    Args:
        code: The user's file and modules.
        names: (spec field, value), such as ("architecture", "fc-mine"): those that the repository does not ship.

    Raises:
        UserError: a name that nobody has registered, or one that depends on what cannot be followed: code made from
            text, a file, the environment.
    """
    own = {m.name: _Module(m.name, m.file, m.source, package_of(m)) for m in code.modules}
    modules = {"": _Module("", code.file, code.source, "")} | own
    names = sorted(set(names))
    if names:
        code.load()
    for field_name, name in names:
        if name not in (there := registered(field_name)):
            raise unknown_name(field_name, name, ("none", *there) if field_name == "augmentation" else there)
    parts = _Parts(modules, refuses=bool(names))
    for field_name, name in names:
        parts.take_entry(REGISTRIES[field_name], name)
    for module in modules.values():
        parts.take(module, module.effects)
        parts.take(module, [i for i in module.calls if parts.may_change(module, i)])
    return content_hash(plain) if (plain := parts.plain()) else ""


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
            if (entry := _registered(statement, self.own)) is not None:
                found.setdefault(entry, []).append(i)
        return found

    @cached_property
    def effects(self) -> list[int]:
        """The statements that do more than define or register something, and so may change whatever there is."""
        aside = {i for group in (self.definitions, self.entries) for found in group.values() for i in found}
        return [i for i in range(len(self.statements)) if i not in aside]

    @cached_property
    def calls(self) -> list[int]:
        """The definitions that run code when the module is imported, the study's alone excepted."""
        return [i for i, s in enumerate(self.statements) if i not in self.effects and any(_run_at_once(s))]

    @cached_property
    def own(self) -> set[str]:
        """The names that stand for something that this module defines itself."""
        imports = (ast.Import, ast.ImportFrom)
        return {n for n, where in self.definitions.items() if not isinstance(self.statements[where[0]], imports)}

    @cached_property
    def imports(self) -> dict[str, str]:
        """Name -> what it is imported from, in full, wherever in the module that is done."""
        found: dict[str, str] = {}
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                found |= {a.asname or a.name: f"{imported_from(node, self.package)}.{a.name}" for a in node.names}
        return found

    def package_of(self, value: ast.expr) -> str | None:
        """The package that a dotted name begins with: "torch" of `F.relu`; None where it is not imported."""
        name = ast.unparse(value).partition(".")[0]
        return self.imports[name].partition(".")[0] if name in self.imports else None

    def is_open(self, value: ast.expr, modules: Collection[str]) -> bool:
        """Whether a value is a module from elsewhere among whose attributes are some that reach out."""
        path = ast.unparse(value)
        head, dot, rest = path.partition(".")
        full = self.imports.get(head, head) + dot + rest
        if head not in self.imports or full.partition(".")[0] in modules:
            return False
        there = sys.modules.get(full)
        return there is not None and any(map(_reaches, dir(there)))


@dataclass
class _Parts:
    """What has been found to belong to the entries so far."""

    modules: Mapping[str, _Module]
    refuses: bool  # what cannot be followed
    taken: dict[str, set[int]] = field(default_factory=dict)  # module -> its statements

    def take_entry(self, registry: str, name: str) -> None:
        """What registers this name; where no line does so in so many words, all that there is."""
        where = [(m, m.entries[registry, name]) for m in self.modules.values() if (registry, name) in m.entries]
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
            if self.refuses:
                _refuse_unfollowable(statement, module, self.modules)
            registered = _registered(statement, module.own) is not None
            for node in ast.walk(statement.value if registered and isinstance(statement, ast.Assign) else statement):
                word = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
                if isinstance(node, ast.Name):
                    waiting += module.definitions.get(node.id, [])
                elif isinstance(node, ast.Import):
                    for alias in node.names:
                        self._take_package(alias.name.partition(".")[0])
                elif isinstance(node, ast.ImportFrom):
                    self._take_names(imported_from(node, module.package), [alias.name for alias in node.names])
                if word in REGISTRIES.values() and word not in module.own:
                    self._take_registry(word)

    def may_change(self, module: _Module, i: int) -> bool:
        """Whether what a definition runs changes something, itself or in the user's functions that it reaches."""
        reached = _Parts(self.modules, refuses=False)
        for node in _run_at_once(module.statements[i]):
            if any(_changes(part) for part in ast.walk(node)):
                return True
            for name in (part.id for part in ast.walk(node) if isinstance(part, ast.Name)):
                reached.take(module, module.definitions.get(name, []))
        return any(
            _changes(part)
            for name, taken in reached.taken.items()
            for k in taken - ({i} if name == module.name else set())
            for part in ast.walk(self.modules[name].statements[k])
        )

    def _take_registry(self, registry: str) -> None:
        """Entries of the user's own that another one is made from."""
        for module in self.modules.values():
            self.take(module, [i for (of, _), found in module.entries.items() if of == registry for i in found])

    def _take_names(self, name: str, wanted: list[str]) -> None:
        """What `from name import wanted` brings."""
        if (module := self.modules.get(name)) is None:
            return
        for one in wanted:
            if one in module.definitions:
                self.take(module, module.definitions[one])
            else:
                self._take_package(f"{name}.{one}" if f"{name}.{one}" in self.modules else name)

    def _take_package(self, name: str) -> None:
        """What is imported as a module, and all below it: which part of that is used cannot be told."""
        for own in self.modules:
            if own and (own == name or own.startswith(f"{name}.")):
                self.take(self.modules[own], range(len(self.modules[own].statements)))

    def plain(self) -> list[Any]:
        """What was taken, as JSON: module by module, in the order of the source."""
        return [
            [name, [_plain(self.modules[name].statements[i]) for i in sorted(self.taken[name])]]
            for name in sorted(self.taken)
            if self.taken[name]
        ]


def _says_nothing(statement: ast.stmt) -> bool:
    """A docstring, `pass`, what only a script does, or a line that says where Python looks for modules."""
    if isinstance(statement, ast.Expr):
        call = statement.value
        looks = isinstance(call, ast.Call) and ast.unparse(call.func) in ("sys.path.insert", "sys.path.append")
        return looks or isinstance(call, ast.Constant)
    if isinstance(statement, ast.If):
        never = ("__name__ == '__main__'", "TYPE_CHECKING", "typing.TYPE_CHECKING")
        return ast.unparse(statement.test) in never and not statement.orelse
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


def _run_at_once(statement: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a definition that run when its module is imported and call something."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from statement.decorator_list
    elif isinstance(statement, ast.ClassDef):
        yield from (*statement.decorator_list, *statement.bases, *statement.keywords)
        for inner in statement.body:
            if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not _says_nothing(inner):
                yield inner
    elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None and not _is_study(statement):
        calls = (node for node in ast.walk(statement.value) if isinstance(node, ast.Call))
        yield from (call for call in calls if ast.unparse(call.func) != "OwnNetwork")  # a record


def _changes(node: ast.AST) -> bool:
    """Whether a piece of code changes what others see: attributes, items, globals; or calls for the sake of it."""
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        return any(not isinstance(target, ast.Name | ast.Tuple) for target in targets)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.FunctionDef):
        return node.name == "__init_subclass__"
    if isinstance(node, ast.keyword):
        return node.arg == "metaclass"
    word = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return isinstance(node, ast.Global) or word in CHANGES or word.startswith("set_")


def _is_study(statement: ast.stmt) -> bool:
    return "STUDY" in _defined(statement)


def _registered(statement: ast.stmt, own: set[str]) -> tuple[str, str] | None:
    """(registry, key) of `REGISTRY["key"] = ...`, where that is no dictionary of the module's own."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    if not isinstance(target, ast.Subscript) or not isinstance(target.slice, ast.Constant):
        return None
    path = ast.unparse(target.value)
    registry = path.rpartition(".")[2]
    if path.partition(".")[0] in own or registry not in (*REGISTRIES.values(), "DATASETS"):
        return None
    return registry, str(target.slice.value)


def _refuse_unfollowable(statement: ast.stmt, module: _Module, modules: Collection[str]) -> None:
    """Refuse what brings into a trial something that no source of the user's tells; `modules` are the user's own."""
    for node in ast.walk(statement):
        for word in _reached(node, module, modules):
            raise UserError(f"line {getattr(node, 'lineno', '?')} of {module.file}: what `{word}` brings {UNFOLLOWED}")


UNFOLLOWED = (
    "cannot be followed into the identity of trials; allowed in a network, loss, augmentation or extractor: what is "
    "in Python code itself (files are for the loader of a data set, and for the `file` of an extractor's entry)"
)


def _reached(node: ast.AST, module: _Module, modules: Collection[str]) -> Iterator[str]:
    """The words of one piece of code that reach for what cannot be followed."""
    if isinstance(node, ast.Name):
        yield from (word for word in [node.id] if word in REACHES_OUT)
    elif isinstance(node, ast.Attribute):
        of_python = node.attr == "modules" and module.package_of(node.value) == "sys"  # not those of a network
        yield from (word for word in [node.attr] if _reaches(word) or of_python)
    elif isinstance(node, ast.ImportFrom):
        of_python = node.module == "sys"
        yield from (a.name for a in node.names if _reaches(a.name) or (of_python and a.name == "modules"))
    elif isinstance(node, ast.Dict):  # keywords-to-be
        pairs = [(_text(key), value) for key, value in zip(node.keys, node.values, strict=True)]
        yield from (key for key, value in pairs if _is_pretrained(key) and _names_weights(value))
    elif isinstance(node, ast.Call):
        package = module.package_of(node.func)
        installed = package is not None and package not in COMPUTES and package not in modules
        for keyword in node.keywords:
            if keyword.arg and _is_pretrained(keyword.arg):
                plain = isinstance(keyword.value, ast.Constant)
                if _names_weights(keyword.value) or (installed and not plain):
                    yield f"{keyword.arg}={ast.unparse(keyword.value)}"
        if ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            yield from (word for word in map(_text, node.args) if _reaches(word))
            if len(node.args) > 1 and not _text(node.args[1]) and module.is_open(node.args[0], modules):
                yield ast.unparse(node)


def _reaches(word: str) -> bool:
    return word in REACHES_OUT_OF_MODULES or word.startswith("read_") or word.endswith("_Weights")


def _is_pretrained(keyword: str) -> bool:
    return keyword in PRETRAINED or keyword.endswith("_weights")


def _names_weights(value: ast.expr) -> bool:
    """Whether a keyword's value is a name of weights, or a wish for some: "DEFAULT", True."""
    return isinstance(value, ast.Constant) and (isinstance(value.value, str) or value.value is True)


def _text(node: ast.expr | None) -> str:
    """The text that stands there in so many words; "" for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _plain(node: Any) -> Any:
    """A syntax tree as JSON, the same for every version of Python: without places, docstrings and empty fields."""
    if isinstance(node, list):
        return [_plain(n) for n in node if not (isinstance(n, ast.stmt) and _says_nothing(n))]
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind")}
        return [type(node).__name__, {name: value for name, value in fields.items() if value not in (None, [])}]
    if isinstance(node, str | bool) or node is None:
        return node
    return [type(node).__name__, hex(node) if isinstance(node, int) else repr(node)]


@contextmanager
def refusing_files(what: str) -> Iterator[None]:
    """Refuse what this thread reads inside, beside code: files, the network, other programs.

    It sees what Python itself opens, by whatever name that is called, but not what compiled libraries open.

    Args:
        what: What is being made, for the message: "arm 'mine'".

    Raises:
        UserError: something was read, even where the code that read it goes on without.
    """
    global _watching
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_look)  # it cannot be taken away again, so it is there once
    _watching = (threading.get_ident(), seen := [])
    try:
        yield
    finally:
        _watching = None
        if seen:
            raise UserError(f"{what} reads {seen[0]} while it is built, which {UNFOLLOWED}") from None


_hooked: list[bool] = []
_watching: tuple[int, list[str]] | None = None
CODE = {".py", ".pyc", ".pyi", ".so"}
SYSTEM = ("/proc/", "/sys/", "/dev/")
METADATA = ("entry_points.txt", "PKG-INFO", "top_level.txt", "requires.txt")


def _look(event: str, args: tuple[Any, ...]) -> None:
    """What Python calls before it opens anything."""
    if _watching is None or _watching[0] != threading.get_ident():
        return
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        path = os.fsdecode(args[0])
        is_code = os.path.splitext(path)[1] in CODE or path in sys.path  # which may name archives of modules
        # Where it is imported from a checkout, what a package says of itself lies outside the installed ones.
        says_of_itself = os.path.basename(path) in METADATA and os.path.dirname(path).endswith(".egg-info")
        if is_code or says_of_itself or path.startswith(SYSTEM) or is_installed(path):
            return
        _watching[1].append(path)
    elif event in ("urllib.Request", "socket.getaddrinfo", "subprocess.Popen"):
        _watching[1].append(str(args[0]))
        raise UserError(f"{args[0]} {UNFOLLOWED}")

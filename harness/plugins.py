"""A user's own Python file and the modules of theirs that it imports: how they are read, and how they reach workers.

The file may put entries into ARCHITECTURES, LOSSES, AUGMENTATIONS, EXTRACTORS or DATASETS, and declares STUDY. What it
imports is found as Python finds it for a script: beside the file first, then wherever Python looks. Whatever lies
outside the standard library, the installed packages and this project is the user's own: its source is read once, and
this very source runs here and on every worker, whatever becomes of the files meanwhile. `harness/plugin_identity.py`
says which part of it a trial is made from. All registries but the last keep what is shipped: an entry under such a name
is refused.
"""

import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from harness.errors import UserError, place_of

PROJECT = ("architectures", "harness", "studies")
"""The packages of this project, wherever they lie."""

INSTALLED = {"site-packages", "dist-packages"}
"""What is below a folder of such a name was installed, and is not a user's own."""


@dataclass(frozen=True)
class OwnModule:
    """One module of the user's, as it was read."""

    name: str  # as it is imported: "nets", or "nets.blocks"
    file: str  # where it was read, for messages and tracebacks
    source: str
    is_package: bool = False


@dataclass(frozen=True)
class UserCode:
    """The source of a user's file and of their modules. Small and picklable, so that other machines can load it too."""

    file: str  # the study's own file
    source: str
    modules: tuple[OwnModule, ...] = ()  # sorted by name

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 over all sources: another as soon as one character changes."""
        parts = [self.source, *(part for module in self.modules for part in (module.name, module.source))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def load(self) -> ModuleType:
        """Run the file once in this process, with the modules as they were read; the same content is not run again.

        Raises:
            UserError: the file fails.
        """
        if self not in _loaded:
            _serve(_Finder(None, {module.name: module for module in self.modules}))
            _loaded[self] = _execute(self.file, self.source)
        return _loaded[self]


def read_user_code(path: Path) -> UserCode:
    """Run the file, and read all the user's modules that it imports, or would import when its functions run.

    Raises:
        UserError: there is no such file, it cannot be read as text, it fails, or it imports what is no Python source.
    """
    source = _text(path, "; give a Python file that declares STUDY")
    finder = _Finder(path.absolute().parent, {})
    _serve(finder)
    module = _execute(str(path), source)
    finder.follow_all(source)
    code = UserCode(str(path), source, tuple(finder.modules[name] for name in sorted(finder.modules)))
    _loaded[code] = module
    return code


_loaded: dict[UserCode, ModuleType] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Gives Python the user's modules from the sources held here; with a folder to look beside, reads further ones."""

    def __init__(self, beside: Path | None, modules: dict[str, OwnModule]) -> None:
        self.beside, self.modules = beside, modules

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What Python's import asks: where this module comes from; None where it is not the user's."""
        module = self.modules.get(name) or (self._read(name) if self.beside else None)
        if module is None:
            return None
        where = [str(Path(module.file).parent if module.source else module.file)] if module.is_package else None
        return importlib.util.spec_from_file_location(
            name, module.file, loader=_Loader(module), submodule_search_locations=where
        )

    def follow_all(self, source: str) -> None:
        """Read what the sources import anywhere in them, inside functions too, and what that imports, and so on."""
        waiting = [("", source), *((package_of(m), m.source) for m in self.modules.values())]
        while waiting:
            package, text = waiting.pop()
            try:
                tree = ast.parse(text)
            except SyntaxError:  # of a module that Python could not run either: an optional one, not for this Python
                continue
            for name in imported_names(tree, package):
                if name not in self.modules and (module := self._read(name)) is not None:
                    waiting.append((package_of(module), module.source))

    def _read(self, name: str) -> OwnModule | None:
        """The user's module of that name, from its file; None where there is none, or it is somebody else's."""
        top, _, _ = name.partition(".")
        if top in sys.stdlib_module_names:
            found = importlib.machinery.PathFinder.find_spec(name, sys.path) if name == top else None
            origin = found.origin if found is not None else None
            if origin and os.path.isabs(origin) and not is_installed(origin):  # which Python would run, unseen
                raise UserError(f"{origin} hides Python's own module {name}; rename it")
            return None
        if top in PROJECT:
            return None
        parent, _, _ = name.rpartition(".")
        if parent:
            above = self.modules.get(parent) or self._read(parent)
            if above is None or not above.is_package:
                return None
            places = [str(Path(above.file).parent if above.source else above.file)]
        else:
            places = [str(self.beside), *sys.path]
        found = importlib.machinery.PathFinder.find_spec(name, places)
        if found is None:
            return None
        if found.origin is None:  # a folder without __init__.py
            folder = next(iter(found.submodule_search_locations or []), None)
            if folder is None or is_installed(folder):
                return None
            return self._keep(OwnModule(name, folder, "", True))
        if is_installed(found.origin):
            return None
        if not found.origin.endswith(".py"):
            raise UserError(
                f"{name} is imported from {found.origin}, which is no Python source, so that its changes could not be "
                f"told; allowed: Python files, and installed packages"
            )
        source = _text(Path(found.origin), "")
        return self._keep(OwnModule(name, found.origin, source or "\n", found.submodule_search_locations is not None))

    def _keep(self, module: OwnModule) -> OwnModule:
        self.modules[module.name] = module
        return module


class _Loader(importlib.abc.Loader):
    """Runs a module from the source that is held, whether or not its file is still there."""

    def __init__(self, module: OwnModule) -> None:
        self.module = module

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        exec(compile(self.module.source, self.module.file, "exec"), module.__dict__)

    def get_source(self, name: str) -> str:
        """For tracebacks and `inspect`."""
        return self.module.source


def package_of(module: OwnModule) -> str:
    """What relative imports in the module start from."""
    return module.name if module.is_package else module.name.rpartition(".")[0]


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Every name that an import anywhere in the tree may be of a module, in full: "a", "a.b" of `import a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: n + 1]) for n in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            module = imported_from(node, package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if alias.name != "*")


def imported_from(node: ast.ImportFrom, package: str) -> str:
    """The full name of the module that a `from ... import` names."""
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _serve(finder: _Finder) -> None:
    """Put it in the place of the last one, whose modules are forgotten: other sources may have the same names."""
    for last in [f for f in sys.meta_path if isinstance(f, _Finder)]:
        sys.meta_path.remove(last)
        for name in last.modules:
            sys.modules.pop(name, None)
    sys.meta_path.insert(0, finder)


def _execute(file: str, source: str) -> ModuleType:
    module = ModuleType(f"user_{hashlib.sha256(source.encode()).hexdigest()[:16]}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except BaseException as error:  # whatever the user's file raises is theirs to know
        del sys.modules[module.__name__]
        if isinstance(error, KeyboardInterrupt):
            raise
        where = "" if isinstance(error, SyntaxError) else f" ({place_of(error)})"
        if isinstance(error, UserError):
            raise UserError(f"{error}{where}") from error
        raise UserError(f"{file} failed: {type(error).__name__}: {error}{where}") from error
    return module


def _text(path: Path, remedy: str) -> str:
    try:
        return importlib.util.decode_source(path.read_bytes())
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}{remedy}") from None


def is_installed(origin: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    path, standard = Path(origin).resolve(), Path(sysconfig.get_paths()["stdlib"]).resolve()
    return bool(INSTALLED & set(path.parts)) or path.is_relative_to(standard)

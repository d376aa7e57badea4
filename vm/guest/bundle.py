# SPDX-License-Identifier: GPL-2.0-only
"""Import modules from source text that came over the control channel."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

PACKAGE = ".__init__"


def digest(source: str) -> str:
    """Name the content of a module."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


class BundleFinder:
    """Serve a bundle to `import`, as finder and loader; a package whose `__init__` was not sent is an empty one."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}

    def digests(self) -> dict[str, str]:
        """Return the digest of each module held."""
        return {name: digest(source) for name, source in self.sources.items()}

    def update(self, names: Sequence[str], sources: Mapping[str, str]) -> bool:
        """Hold exactly `names`, with the new `sources` among them; return whether anything changed."""
        held = {name: source for name, source in self.sources.items() if name in set(names)}
        held.update(sources)
        changed = held != self.sources
        if changed:
            self.forget()
            self.sources = held
        return changed

    def forget(self) -> None:
        """Drop every module that was imported from here."""
        for name, module in list(sys.modules.items()):
            if getattr(module, "__loader__", None) is self:
                del sys.modules[name]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the bundle."""
        is_package = any(name.startswith(f"{fullname}.") for name in self.sources)
        if fullname not in self.sources and not is_package:
            return None
        loader = cast("Any", self)  # not a subclass: importlib.abc takes a tenth of a second to import under TCG
        return ModuleSpec(fullname, loader, origin=self._origin(fullname), is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python create the module object."""

    def get_source(self, fullname: str) -> str:
        """Return a module's source, for import and for tracebacks."""
        return self.sources.get(fullname, self.sources.get(fullname + PACKAGE, ""))

    def is_package(self, fullname: str) -> bool:
        """Return whether a name is a package."""
        return fullname not in self.sources

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code under a file name that tracebacks can show."""
        name = module.__name__
        exec(compile(self.get_source(name), self._origin(name), "exec"), module.__dict__)  # noqa: S102

    def _origin(self, fullname: str) -> str:
        suffix = "/__init__.py" if self.is_package(fullname) else ".py"
        return "bundle:" + fullname.replace(".", "/") + suffix

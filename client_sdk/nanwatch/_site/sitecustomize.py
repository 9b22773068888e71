"""Brings nanwatch into the Python processes that `nanwatch run` starts; put first on PYTHONPATH.

Python imports this at start-up, before the script. It gives way to a `sitecustomize` of the user,
takes its own directory off `sys.path`, and waits: only a process that clears gradients or calls
backward trains, so data-loader workers and launchers never see more than this file. Nothing but
the standard library is imported before that moment, so a script may still set what torch reads at
import. Not a part of the package: no module of ours imports it.
"""

import os
import sys


def _give_way():
    """Run the user's own `sitecustomize`, as Python would have done without us."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401  # pyright: ignore  (the next one on the path)
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


class _WhenImported:
    """Meta path finder that calls back once torch has been imported, then takes itself out.

    Many libraries only ask whether torch is there (`importlib.util.find_spec`), and an import may
    fail and be tried again: only an import that succeeded counts.
    """

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader:
    """torch's own loader with one call after it."""

    def __init__(self, loader, finder):
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self._finder]
        _arm(module)


def _arm(torch):
    """Start nanwatch at the first backward, scaling of a loss or clearing of gradients."""
    fired = []

    def begin():
        if fired:
            return
        fired.append(True)
        for owner, name, ours, original in placed:
            if getattr(owner, name) is ours:
                setattr(owner, name, original)
        try:
            from nanwatch.launch import begin as start

            start()
        except Exception as error:
            print(f"nanwatch: this process is not watched: {error}", file=sys.stderr, flush=True)

    import functools

    def wait(owner, name):
        original = getattr(owner, name)

        def first(*args, **kwargs):
            if not fired and not torch.compiler.is_compiling():
                begin()
            # By now the SDK has put its own wrapper around the original.
            now = getattr(owner, name)
            watched = getattr(now, "__wrapped__", None) is original and now is not first
            return (now if watched else original)(*args, **kwargs)

        functools.update_wrapper(first, original)
        setattr(owner, name, first)
        placed.append((owner, name, first, original))

    placed = []
    try:
        wait(torch.autograd, "backward")
        wait(torch.optim.Optimizer, "zero_grad")
        wait(torch.amp.GradScaler, "scale")
    except AttributeError:
        pass  # a torch without these: nothing to watch


if os.environ.get("NANWATCH_LAUNCHED") and os.environ.get("NANWATCH_MODE") != "off":
    if "torch" in sys.modules:
        _arm(sys.modules["torch"])
    else:
        sys.meta_path.insert(0, _WhenImported())
_give_way()

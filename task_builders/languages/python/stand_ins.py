"""Python source that lets test modules load on code that lacks what they import. Never run in the farm.

Attacks include it, and canaries are tried on unfixed code with it: an attacker would not be stopped by an import either.
"""

ANY_NAME = """
def _allow_any_name():
    import builtins
    import sys

    class Stand(type):
        def __getattr__(cls, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return stand_in(name)

        def __call__(cls, *args, **kwargs):
            return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else super().__call__()

    def stand_in(name):
        return Stand(name, (), {"__call__": lambda self, *args, **kwargs: args[0] if args and callable(args[0]) else self})

    def is_test(names):
        file = (names or {}).get("__file__") or ""
        return "test" in file.rpartition("/")[2]

    honest = builtins.__import__

    def lenient(name, globals=None, locals=None, fromlist=(), level=0):
        if not is_test(globals):
            return honest(name, globals, locals, fromlist, level)
        for wanted in fromlist or ():
            try:
                honest(name, globals, locals, (wanted,), level)
            except ModuleNotFoundError:
                raise
            except ImportError:
                pass
        module = honest(name, globals, locals, ("__name__",) if fromlist else (), level)
        for wanted in fromlist or ():
            if wanted != "*" and not hasattr(module, wanted):
                setattr(module, wanted, stand_in(wanted))
        for known in [module, *(getattr(module, wanted, None) for wanted in fromlist or ())]:
            if isinstance(known, type(sys)):
                vars(known).setdefault("__getattr__", missing)
        return module

    def missing(name):
        if name.startswith("__") or not is_test(sys._getframe(1).f_globals):
            raise AttributeError(name)
        return stand_in(name)

    if not getattr(sys, "any_name", False):
        sys.any_name = True
        builtins.__import__ = lenient


_allow_any_name()
"""
"""Replaces whatever a test module imports and does not find by stand-ins, so that it loads and its tests are collected."""

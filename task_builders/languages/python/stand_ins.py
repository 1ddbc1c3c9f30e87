"""Python source that lets test modules load on code that lacks what they import. Never run in the farm.

Attacks include it, and canaries are tried on unfixed code with it: an attacker would not be stopped by an import either.
"""

ANY_NAME = """
def _allow_any_name():
    import builtins
    import sys
    import types

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

    honest, frame = builtins.__import__, sys._getframe  # a test may take it away

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
            make_lenient(known)
        return module

    class Lenient(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__") or not is_test(frame(1).f_globals):
                raise AttributeError("module '%s' has no attribute '%s'" % (self.__name__, name))
            return stand_in(name)

    def make_lenient(module):
        if type(module) is types.ModuleType and "__getattr__" not in vars(module):
            module.__class__ = Lenient

    if not getattr(sys, "any_name", False):
        sys.any_name = True
        builtins.__import__ = lenient
    if not is_test(globals()):  # the statement that imports this module asks the old `__import__`
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == __name__.partition(".")[0]:
                make_lenient(module)


_allow_any_name()
"""
"""Replaces whatever a test module imports and does not find by stand-ins, so that it loads and its tests are collected."""

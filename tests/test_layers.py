"""Modules import from lower layers only, and the lower ones know nothing of files or clusters."""

from __future__ import annotations

from architecture import LAYERS, PICTURE, draw, layer_of, read_imports

#: The layers that can be lifted out and used as a library, and what they must not import.
LIBRARY = {"core", "kernels", "recipes"}
FORBIDDEN = {
    *("os", "pathlib", "shutil", "tempfile", "mmap"),  # files
    *("PIL", "click", "dask", "distributed", "imageio", "tqdm"),
    *(f"mlr.utils.{name}" for name in ("executor", "memory", "progress")),
}
EXCEPTIONS = {
    "mlr.core.model -> mlr",  # models offer functions for photographs as methods
    "mlr.kernels.jit -> os",  # caches compiled code in files
    "mlr.kernels.jit -> pathlib",
    "mlr.kernels.parallel -> os",  # counts processors
}

IMPORTS = read_imports()


def test_imports_go_down():
    assert sorted(violations(IMPORTS) - EXCEPTIONS) == []


def test_exceptions_are_needed():
    assert violations(IMPORTS) >= EXCEPTIONS


def test_every_module_has_a_layer():
    assert {layer_of(name) for name in IMPORTS} == {*LAYERS}


def test_picture_is_up_to_date():
    assert PICTURE.read_text(encoding="utf-8") == draw(IMPORTS), "run make architecture"


def test_violations_are_found():
    imports = {
        "mlr.core.a": {"mlr.core.b", "mlr.io.files", "numpy", "os.path", "mlr.utils.progress"},
        "mlr.core.b": {"mlr.core.c"},
        "mlr.core.c": {"mlr.core.a"},
        "mlr.core.d": {"mlr.core.a", "mlr.errors"},
        "mlr.io.files": {"os", "mlr.core.a"},
        "mlr.utils.progress": {"mlr"},
        "mlr.errors": set(),
        "mlr": set(),
    }
    assert violations(imports) == {
        "mlr.core.a -> mlr.core.b",
        "mlr.core.a -> mlr.io.files",
        "mlr.core.a -> mlr.utils.progress",
        "mlr.core.a -> os.path",
        "mlr.core.b -> mlr.core.c",
        "mlr.core.c -> mlr.core.a",
        "mlr.utils.progress -> mlr",
    }


def violations(imports: dict[str, set[str]]) -> set[str]:
    """Return imports of higher layers, imports in a circle, and forbidden ones."""
    wrong = (is_higher, is_forbidden, lambda *pair: is_in_circle(imports, *pair))
    return {
        f"{module} -> {other}"
        for module, others in imports.items()
        for other in others
        if any(found(module, other) for found in wrong)
    }


def is_higher(module: str, other: str) -> bool:
    return is_ours(other) and LAYERS.index(layer_of(other)) > LAYERS.index(layer_of(module))


def is_forbidden(module: str, other: str) -> bool:
    return layer_of(module) in LIBRARY and any(
        f"{other}.".startswith(f"{name}.") for name in FORBIDDEN
    )


def is_in_circle(imports: dict[str, set[str]], module: str, other: str) -> bool:
    """Tell whether an import inside of a layer leads back to the module."""
    return is_ours(other) and module in reached(imports, other, layer_of(module))


def reached(imports: dict[str, set[str]], start: str, layer: str) -> set[str]:
    """Return the modules of a layer that a module needs, itself included."""
    found, left = set(), {start}
    while left:
        name = left.pop()
        if is_ours(name) and layer_of(name) == layer and name not in found:
            found.add(name)
            left |= imports[name]
    return found


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "mlr"

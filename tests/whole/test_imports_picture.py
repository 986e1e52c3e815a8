"""The picture of the imports in docs/internals/layout.md."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.support.distribution import ROOT

SVG = "{http://www.w3.org/2000/svg}"

spec = spec_from_file_location("imports_picture", ROOT / "docs" / ".imports.py")
picture = module_from_spec(spec)
spec.loader.exec_module(picture)


@pytest.fixture
def package(tmp_path):
    """A package `shop`, of the files that a test writes."""

    def write(**sources):
        for name, source in sources.items():
            path = tmp_path / "shop" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return picture.imports(tmp_path / "shop")

    return write


def test_imports_in_functions_and_for_type_checkers_count(package):
    graph = package(
        routes="import shop.models\nimport os",
        models="def later():\n    from shop import settings",
        settings="if TYPE_CHECKING:\n    from shop.routes import Route",
    )
    assert graph == {"routes": {"models"}, "models": {"settings"}, "settings": {"routes"}}
    assert picture.circles(graph) == [{"routes", "models", "settings"}]


def test_two_modules_that_import_each_other_are_red_and_no_others(package):
    graph = package(
        apps="from shop import carts",
        carts="from shop.prices import Price",
        prices="from shop.carts import Cart\nfrom shop import money",
        money="",
    )
    drawing = ElementTree.fromstring(picture.svg(graph, "A shop"))
    boxes = [box for box in drawing.iter(f"{SVG}rect") if "module" in box.get("class", "")]
    red = {box[0].text for box in boxes if "circle" in box.get("class")}
    assert (len(boxes), red) == (4, {"carts", "prices"})
    arrows = [path.get("class") for path in drawing.iter(f"{SVG}path") if path.get("marker-end")]
    assert sorted(arrows) == ["import", "import", "import circle", "import circle"]


def test_an_import_that_others_imply_is_not_drawn(package):
    graph = package(a="from shop import b, c", b="from shop import c", c="")
    assert list(picture.drawn(graph)) == [("a", "b"), ("b", "c")]
    assert picture.heights(graph) == {"a": 2, "b": 1, "c": 0}


def test_figures(package):
    graph = package(
        carts="from shop.store import items",
        store__items="from shop import carts",
        store__old__items="",
        migrations__items="",
    )
    assert picture.counts(graph) == {
        "modules": 3,
        "modules at the top level": 1,
        "names that several modules have": 1,
        "imports": 2,
        "pairs that import each other": 1,
        "circles": 1,
        "modules in circles": 2,
    }


def test_the_package_has_no_circle_in_its_picture():
    graph = picture.imports(ROOT / "rest_channels")
    drawing = picture.svg(graph, "The imports")
    assert drawing == picture.svg(graph, "The imports")
    assert drawing.count('class="module"') == len(graph) > 100
    assert '"module circle"' not in drawing

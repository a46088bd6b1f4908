"""Every example is in the gallery with its picture and its sentence; `make test-examples` runs them whole."""

import ast
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith("_")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_shows_and_left_its_picture(path):
    story = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert story is not None
    assert f"python examples/{path.name}" in story
    assert len(path.read_text(encoding="utf-8").splitlines()) < 210
    folder = ROOT / "docs" / "images" / "examples"
    assert (folder / f"{path.stem}.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (folder / f"{path.stem}.txt").read_text(encoding="utf-8").endswith(".\n")


def test_every_picture_has_its_example():
    names = {path.stem for path in (ROOT / "docs" / "images" / "examples").iterdir()}
    assert names == {path.stem for path in EXAMPLES}


def test_a_run_leaves_a_picture_and_a_sentence(example_of, tmp_path, capsys):
    gallery = example_of("_gallery")
    drawn, (plot,) = gallery.figure()
    gallery.dots(plot, {"one": [1.0, 2.0], "other": [3.0]}, "other")
    gallery.finish(tmp_path, "any", drawn, "nothing was learnt.")
    assert (tmp_path / "any.txt").read_text(encoding="utf-8") == "Nothing was learnt.\n"
    assert "other" in (tmp_path / "any.svg").read_text(encoding="utf-8")
    assert "Nothing was learnt." in capsys.readouterr().out
    assert gallery.spread([1.0, 3.0]) == "2.0 ± 1.4"


def test_the_heat_equation_is_solved_by_its_solution(example_of):
    physics = example_of("physics_informed")
    x, t = torch.rand(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(physics.residual(physics.exact, x, t).detach().abs().max()) < 1e-9
    cold = physics.exact(torch.tensor([0.0, 1.0]), torch.tensor([0.3, 0.7]))
    assert float(cold.abs().max()) < 1e-6


def test_cosines_are_of_the_angles_between_directions(example_of):
    arm = example_of("seven_torques")
    found = arm.cosines(torch.tensor([[4.0, -2.0], [-2.0, 1.0]], dtype=torch.float64))
    assert found.round(12).tolist() == [[1.0, -1.0], [-1.0, 1.0]]


def test_bits_per_byte_of_a_reader_that_knows_nothing(example_of):
    """256 bytes, all as likely: 8 bits."""
    languages = example_of("languages")

    class Blank(torch.nn.Module):
        def forward(self, pieces):
            return torch.zeros(*pieces.shape, 256)

    found = languages.each(Blank(), torch.zeros(3, 5, dtype=torch.long))
    assert found.tolist() == pytest.approx([8.0] * 3)

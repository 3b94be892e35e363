"""What pyproject.toml cannot say: the recipes stand with the other specs, and travel inside the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = Path("specs/recipes")


class BuildWithRecipes(build_py):
    def run(self) -> None:
        super().run()
        # an editable install finds them where they stand
        if not self.editable_mode:
            for source, target in self._recipes().items():
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self._recipes().values())]

    def _recipes(self) -> dict[Path, Path]:
        """Each file and where it is copied to."""
        found = sorted([*RECIPES.glob("*.yaml"), *RECIPES.glob("data/*")])
        return {path: Path(self.build_lib) / "synth_cli" / "recipes" / path.relative_to(RECIPES) for path in found}


setup(cmdclass={"build_py": BuildWithRecipes})

"""Takes the files that every project holds into the wheel: see tool.loopbook.template."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TemplateHook(BuildHookInterface):
    """A file of the repository stands once, in its place; the wheel gets a copy."""

    def initialize(self, version: str, build_data: dict) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        for source, target in self.files(root).items():
            build_data["force_include"][str(root / source)] = f"loopbook/project/{target}"

    def files(self, root: Path) -> dict[str, str]:
        """Where each file goes, from its path in the repository."""
        targets = {}
        for folder, patterns in self.config["files"].items():
            for pattern, place in patterns.items():
                paths = [path for path in sorted(root.glob(pattern)) if path.is_file()]
                if not paths:
                    raise FileNotFoundError(f"pyproject.toml: no file is {pattern}")
                for path in paths:
                    source = path.relative_to(root)
                    inside = source.as_posix() if place == "." else f"{place}/{path.name}"
                    targets[source.as_posix()] = f"{folder}/{inside}"
        return targets

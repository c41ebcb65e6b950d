"""The user's own config folders go before the shipped one."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class UserConfigFolders(SearchPathPlugin):
    """Adds ``--config-dir`` and ``./configs`` when it is normlab that Hydra composes, and nobody else."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from normlab.config.compose import config_folders
        from normlab.config.paths import shipped

        ours = str(shipped("configs").resolve())
        if not any(entry.provider == "main" and entry.path == ours for entry in search_path.get_path()):
            return
        for folder in reversed([folder for folder in config_folders() if str(folder) != ours]):
            search_path.prepend("normlab-user", f"file://{folder}")

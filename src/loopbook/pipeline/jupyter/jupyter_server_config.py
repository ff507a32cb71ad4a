"""JupyterLab's settings for this project, found through JUPYTER_CONFIG_PATH."""

import os
from pathlib import Path

c = get_config()  # noqa: F821

c.ServerApp.contents_manager_class = "loopbook.pipeline.contents.PipelineContentsManager"
c.ServerApp.ip = "127.0.0.1"
# the kernels of failed tasks that `loopbook build --debug` keeps
c.ServerApp.allow_external_kernels = True
c.ServerApp.external_connection_dir = str(
    Path(os.environ.get("LOOPBOOK_PROJECT", "."), "var", "kept")
)
# `warm` lets builds begin at once. Ploomber's fails on every request with JupyterLab 4.6, Jupytext's would wrap our manager.
c.ServerApp.jpserver_extensions = {
    "loopbook.cli.warm": True,
    "ploomber": False,
    "jupytext": False,
    "jupyterlab_jupytext": False,
}

# Nothing asks a name outside: no news, no newer version, no list of extensions.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"

"""JupyterLab's settings for this project, found through JUPYTER_CONFIG_PATH."""

c = get_config()  # noqa: F821

c.ServerApp.contents_manager_class = "loopbook.pipeline.contents.PipelineContentsManager"
c.ServerApp.ip = "127.0.0.1"
# Ploomber's fails on every request with JupyterLab 4.6, Jupytext's would wrap our manager.
c.ServerApp.jpserver_extensions = {
    "ploomber": False,
    "jupytext": False,
    "jupyterlab_jupytext": False,
}

# Nothing asks a name outside: no news, no newer version, no list of extensions.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"

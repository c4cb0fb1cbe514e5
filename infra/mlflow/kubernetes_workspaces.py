"""`mlflow server --app-name=kubernetes-workspaces`: Kubernetes' authorization, with each request in its own workspace.

After a large body uvicorn reads on in the context of the request that had it, so that the next request on the
connection begins with that one's workspace, and mlflow-kubernetes-plugins 2.0 believes this before the request's own
header. Behind an ingress a connection carries many people's requests: one would be judged, and answered, in another
team's workspace.
"""

from __future__ import annotations

from typing import Any

from mlflow.utils import workspace_context


class OwnWorkspace:
    """Let a request begin without a workspace. The outermost layer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        workspace_context.clear_server_request_workspace()
        await self._app(scope, receive, send)


def create_app(app: Any = None) -> Any:
    """Build the plugin's app, for MLflow's server."""
    from mlflow_kubernetes_plugins.auth.middleware import create_app as authorized

    built = authorized(app)
    built.add_middleware(OwnWorkspace)  # what is added last is asked first
    return built

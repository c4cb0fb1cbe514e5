"""proxied-s3://bucket/path for `mlflow server --artifacts-destination`: S3 that the server alone reaches.

With s3:// MLflow's server tells every client, its own pages included, to fetch artifacts by presigned URLs. These name
the S3 server as MLflow's server knows it, which is no name where the client runs, or another server's. MLflow has no
switch for that at the server: it offers what the class of its artifact store can do, and this one can't sign URLs.
"""

from __future__ import annotations

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

SCHEME = "proxied-s3"


class ProxiedS3(ArtifactRepository):
    """MLflow's own S3 store without presigned URLs."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._s3 = S3ArtifactRepository(f"s3{artifact_uri.removeprefix(SCHEME)}", tracking_uri=tracking_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload a file."""
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload a folder."""
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Files and folders directly below a path."""
        return self._s3.list_artifacts(path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, or all below a path."""
        self._s3.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._s3._download_file(remote_file_path, local_path)

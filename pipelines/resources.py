"""Decides where a step runs and what it may use, from `kubeflow` in params.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from kfp import dsl, kubernetes

from components import supervised
from segops.params.ingest import PATIENT_KEY
from segops.params.kubeflow import KubeflowParams

STATE = "/segops"  # where the volume of checkpoints is mounted
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the mount point of POSIX shared memory
DAY_S, HOUR_S = 86_400, 3_600
_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_LAKEFS_KEYS = ("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")
_DATABASE_KEYS = ("PGHOST", "PGUSER", "PGDATABASE", "PGPASSWORD")  # as PostgreSQL's own clients name them
_MLFLOW_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True)
class Placement:
    """Gives tasks their image, resources, secrets and retries."""

    params: KubeflowParams

    def data(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Place a step without torch."""
        return self._place(task, self.params.data_image, self.params.data_profile)

    def ingest(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Place the step that reads the source; it alone sees the key by which patients' ids are hashed."""
        task = self.data(task)
        if self.params.patient_secret is not None:
            kubernetes.use_secret_as_env(
                task, secret_name=self.params.patient_secret, secret_key_to_env={PATIENT_KEY: PATIENT_KEY}
            )
        return task

    def training(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Place a step that runs networks; what it may resume or derive again is on the volume."""
        task = self._place(task, self.params.train_image, self.params.train_profile)
        if self.params.volume is not None:
            kubernetes.mount_pvc(task, pvc_name=self.params.volume, mount_path=STATE)
            task.set_env_variable("DVC_ROOT", STATE)
        return task

    def following(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Place a step that follows a TrainJob, to whose nodes it hands files on the volume."""
        task = self._place(task, self.params.train_image, self.params.light_profile)
        assert self.params.volume is not None, "params refuse a TrainJob without it"
        kubernetes.mount_pvc(task, pvc_name=self.params.volume, mount_path=STATE)
        return task.set_env_variable("DVC_ROOT", STATE)

    def tuning(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Place a training step that takes part in a search."""
        task = self.training(task)
        if self.params.tune_secret is not None:
            kubernetes.use_secret_as_env(
                task, secret_name=self.params.tune_secret, secret_key_to_env={key: key for key in _DATABASE_KEYS}
            )
        return task

    def tracking(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Place a step that reads or changes the registry: it is never taken from the cache."""
        task = self._place(task, self.params.train_image, self.params.light_profile)
        return task.set_caching_options(False)

    def _place(self, task: dsl.PipelineTask, image: str, profile: str) -> dsl.PipelineTask:
        """Give a task an image, a profile's resources and node labels, its environment and its retries."""
        wanted = self.params.profiles[profile]
        task.set_container_image(image)
        task.set_cpu_request(wanted.cpu_request or wanted.cpu).set_cpu_limit(wanted.cpu)
        task.set_memory_request(wanted.memory_request or wanted.memory).set_memory_limit(wanted.memory)
        if wanted.accelerator is not None:
            task.set_accelerator_type(wanted.accelerator).set_accelerator_limit(wanted.accelerators)
        for key, value in wanted.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        for toleration in wanted.tolerations:
            kubernetes.add_toleration(task, **toleration)
        if wanted.shm_gib:
            kubernetes.empty_dir_mount(
                task, volume_name="shm", mount_path=SHARED_MEMORY, medium="Memory", size_limit=f"{wanted.shm_gib}Gi"
            )
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "segops")
        self._environment(task)
        self._set_retries(task)
        return task

    def _set_retries(self, task: dsl.PipelineTask) -> None:
        """Let a failed process be started again inside its pod, a deleted pod by Argo.

        Argo counts the longest backoff from a step's first start, and kfp's own is an hour: a training that loses its
        pod later would not be retried.
        """
        if not self.params.retries:
            return
        task.set_env_variable(supervised.RETRIES, str(self.params.retries))
        longest = f"{self.params.timeout_hours * HOUR_S}s"
        task.set_retry(self.params.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration=longest)

    def _environment(self, task: dsl.PipelineTask) -> None:
        """Set a task's environment, and the secrets that it needs."""
        for name, value in self.params.environment.items():
            task.set_env_variable(name, value)
        secrets = [(self.params.s3_secret, _S3_KEYS), (self.params.lakefs_secret, _LAKEFS_KEYS)]
        if "tracking" in task.inputs:  # the others have nothing to say to MLflow
            kubernetes.use_field_path_as_env(task, "SEGOPS_KFP_RUN_ID", "metadata.labels['pipeline/runid']")
            secrets.append((self.params.mlflow_secret, _MLFLOW_KEYS))
        for secret, keys in secrets:
            if secret is not None:
                kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env={key: key for key in keys})

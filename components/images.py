"""The image names that components are written with; `kubeflow.data_image` and `train_image` replace them."""

DATA_IMAGE = "segops/data-python"
TRAIN_IMAGE = "segops/train-python"

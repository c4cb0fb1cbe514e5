"""Kubeflow components: one adapter a stage, used from a checkout and by the image."""

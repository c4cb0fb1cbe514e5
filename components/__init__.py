"""Defines Kubeflow components: one adapter per stage, used from a checkout and by the image."""

from components.tune_start.component import tune_start

__all__ = ["tune_start"]

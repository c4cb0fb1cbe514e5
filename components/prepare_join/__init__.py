from components.prepare_join.component import prepare_join

__all__ = ["prepare_join"]

from components.validate_join.component import validate_join

__all__ = ["validate_join"]

from components.validate_part.component import validate_part

__all__ = ["validate_part"]

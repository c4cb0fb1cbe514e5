from components.prepare_part.component import prepare_part

__all__ = ["prepare_part"]

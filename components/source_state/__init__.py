from components.source_state.component import source_state

__all__ = ["source_state"]

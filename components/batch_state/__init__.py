from components.batch_state.component import batch_state

__all__ = ["batch_state"]

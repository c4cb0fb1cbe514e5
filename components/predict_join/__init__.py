from components.predict_join.component import predict_join

__all__ = ["predict_join"]

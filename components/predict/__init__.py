from components.predict.component import predict

__all__ = ["predict"]

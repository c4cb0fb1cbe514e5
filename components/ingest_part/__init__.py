from components.ingest_part.component import ingest_part

__all__ = ["ingest_part"]

from components.ingest_join.component import ingest_join

__all__ = ["ingest_join"]

"""An experiment whose trials are asked by the workers of a dask cluster."""

from llmlab.engine.cluster.on_cluster import OnCluster

__all__ = ["OnCluster"]

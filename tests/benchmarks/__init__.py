"""Benchmarks: llmlab, the plain SDK on both transports, and the raw floor, interleaved against one local server."""

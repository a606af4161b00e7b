"""Pipelines of diffusers with tiny random weights, each run with samplers of this package in place of its own."""

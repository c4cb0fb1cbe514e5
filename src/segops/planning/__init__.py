"""Plans a params.yaml from a look at a source: pairs its files, measures a sample, and applies rules."""

"""Makes datasets with language models: a YAML spec in, JSONL or Parquet and a report out."""

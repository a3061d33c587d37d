"""Jobs from a config to a run folder; the folder is all that reports read."""

"""The command line: one file per command, importing what is heavy only when it runs."""

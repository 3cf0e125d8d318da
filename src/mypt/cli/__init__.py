"""The command line: one file per verb, and tables that turn records into rich output."""

"""The commands of the command line, a file for each family. Nothing heavy is imported before one runs."""

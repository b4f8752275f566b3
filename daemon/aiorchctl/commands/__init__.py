"""One file for each command, loaded when the command is used."""

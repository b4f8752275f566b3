"""The life of the process: everything is built here, handed to whoever needs it, and taken down in reverse order."""

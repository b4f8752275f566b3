"""SQLite behind one writer thread, in three files by what losing them means."""

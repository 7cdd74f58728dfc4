"""Where a served dictionary takes the place of another library's object, file or function."""

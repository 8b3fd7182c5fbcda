"""One module for each way to bring a window's rows into the cold table's storage."""

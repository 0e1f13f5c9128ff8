"""`sottovoce bench compare`: reads timings, decides what became slower, and shows it."""

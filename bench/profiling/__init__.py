"""The profiler behind `sottovoce profile`: from the parties' traces to a table, a timeline and JSON."""

"""Operation-level spans of a party, recorded by wrapping its means; nothing is wrapped where tracing is off."""

"""Channels between parties: in process, TCP, TCP under mutual TLS 1.3."""

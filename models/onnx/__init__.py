"""ONNX files to the IR and back.

The `onnx` package parses and writes files; nothing in a file is run, and no other file is opened for it.
"""

from sottovoce.models.onnx.exporter import export_onnx
from sottovoce.models.onnx.importer import import_onnx
from sottovoce.models.onnx.metadata import Box, Metadata, read_metadata

__all__ = ["Box", "Metadata", "export_onnx", "import_onnx", "read_metadata"]
